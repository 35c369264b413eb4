{{ config(
    unique_key=['flight_date', 'carrier', 'flight', 'origin', 'sched_dep_time'],
    range_column='flight_date',
    order_by='(origin, dest, carrier, flight_date, sched_dep_time, flight)',
    tags=['daily'],
) }}

-- Its tests look its codes up in these, so they are made first.
-- depends_on: {{ ref('dim_carriers') }}
-- depends_on: {{ ref('dim_airports') }}

with final as (
    select
        flight_date,
        carrier,
        flight,
        origin,
        dest,
        tailnum,
        sched_dep_time,
        sched_arr_time,
        scheduled_departure,
        scheduled_arrival,
        actual_departure,
        actual_arrival,
        distance,
        dep_delay,
        arr_delay,
        air_time,
        is_cancelled,
        is_diverted,
        is_delayed,
        was_planned,
        aircraft_age_years,
        weather_at,
        weather_available_at,
        weather_temp,
        weather_wind_speed,
        weather_wind_gust,
        weather_precip,
        weather_visib,
        weather_pressure,
        weather_humid
    from {{ ref('stg_flights') }}
    where {{ in_months_of_range('flight_date') }}
)

select * from final
