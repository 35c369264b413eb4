{{ config(
    unique_key=['origin', 'dest', 'month'],
    range_column='month',
    order_by='(origin, dest, month)',
    tags=['daily'],
) }}

with flights as (
    select
        origin,
        dest,
        toStartOfMonth(flight_date) as month,
        is_cancelled,
        is_delayed,
        arr_delay
    from {{ ref('fct_flights') }}
    where {{ in_months_of_range('flight_date') }}
),

final as (
    select
        origin,
        dest,
        month,
        toUInt32(count()) as flights,
        toUInt32(countIf(is_cancelled)) as cancelled,
        toUInt32(count(arr_delay)) as arrivals,
        toUInt32(countIf(is_delayed)) as delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        avg(arr_delay) as mean_arrival_delay
    from flights
    group by origin, dest, month
)

select * from final
