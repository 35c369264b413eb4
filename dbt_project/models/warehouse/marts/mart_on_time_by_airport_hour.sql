{{ config(
    unique_key=['origin', 'local_hour', 'month'],
    range_column='month',
    order_by='(origin, local_hour, month)',
    tags=['daily'],
) }}

with hours as (
    select
        origin,
        local_hour,
        toStartOfMonth(flight_date) as month,
        toUInt32(sum(flights)) as flights,
        toUInt32(sum(cancelled)) as cancelled,
        toUInt32(sum(arrivals)) as arrivals,
        toUInt32(sum(delayed)) as delayed,
        sum(total_arr_delay) as total_arr_delay
    from {{ ref('fct_airport_hours') }}
    where {{ in_months_of_range('flight_date') }}
    group by origin, local_hour, month
),

final as (
    select
        origin,
        local_hour,
        month,
        flights,
        cancelled,
        arrivals,
        delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        total_arr_delay / nullIf(arrivals, 0) as mean_arrival_delay
    from hours
)

select * from final
