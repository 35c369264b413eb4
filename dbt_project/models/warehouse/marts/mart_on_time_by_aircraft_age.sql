{{ config(
    unique_key=['coalesce(aircraft_age_years, -1)', 'month'],
    range_column='month',
    order_by='(month, coalesce(aircraft_age_years, -1))',
    tags=['daily'],
) }}

with flights as (
    select
        aircraft_age_years,
        toStartOfMonth(flight_date) as month,
        is_cancelled,
        is_delayed,
        arr_delay
    from {{ ref('fct_flights') }}
    where {{ in_months_of_range('flight_date') }}
),

-- a group by keeps null as a group of its own: the flights of aircraft whose age is not known
final as (
    select
        aircraft_age_years,
        month,
        toUInt32(count()) as flights,
        toUInt32(countIf(is_cancelled)) as cancelled,
        toUInt32(count(arr_delay)) as arrivals,
        toUInt32(countIf(is_delayed)) as delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        avg(arr_delay) as mean_arrival_delay
    from flights
    group by aircraft_age_years, month
)

select * from final
