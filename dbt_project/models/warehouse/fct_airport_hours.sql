{{ config(
    unique_key=['flight_date', 'origin', 'hour_at'],
    range_column='flight_date',
    order_by='(origin, flight_date, hour_at)',
    tags=['daily'],
) }}

-- Its tests look its codes up in these, so they are made first.
-- depends_on: {{ ref('dim_airports') }}

with final as (
    select
        flight_date,
        origin,
        hour_at,
        local_hour,
        flights,
        cancelled,
        departures,
        delayed_departures,
        arrivals,
        delayed,
        total_dep_delay,
        total_arr_delay,
        temp,
        wind_speed,
        wind_gust,
        precip,
        visib,
        weather_condition,
        available_at
    from {{ ref('stg_airport_hours') }}
    where {{ in_months_of_range('flight_date') }}
)

select * from final
