{{ config(
    unique_key=['origin', 'weather_condition', 'month'],
    range_column='month',
    order_by='(origin, weather_condition, month)',
    tags=['daily'],
) }}

with conditions as (
    select
        origin,
        weather_condition,
        toStartOfMonth(flight_date) as month,
        toUInt32(sum(flights)) as flights,
        toUInt32(sum(cancelled)) as cancelled,
        toUInt32(sum(arrivals)) as arrivals,
        toUInt32(sum(delayed)) as delayed,
        sum(total_arr_delay) as total_arr_delay
    from {{ ref('fct_airport_hours') }}
    where {{ in_months_of_range('flight_date') }}
    group by origin, weather_condition, month
),

-- what an arrival of this airport and month was late when the weather was fair: null if it never was
compared as (
    select
        origin,
        weather_condition,
        month,
        flights,
        cancelled,
        arrivals,
        delayed,
        total_arr_delay,
        sumIf(total_arr_delay, weather_condition = 'fair') over of_origin_and_month
        / nullIf(sumIf(arrivals, weather_condition = 'fair') over of_origin_and_month, 0) as fair_arrival_delay
    from conditions
    window of_origin_and_month as (partition by origin, month)
),

final as (
    select
        origin,
        weather_condition,
        month,
        flights,
        cancelled,
        arrivals,
        delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        total_arr_delay / nullIf(arrivals, 0) as mean_arrival_delay,
        total_arr_delay,
        total_arr_delay - arrivals * fair_arrival_delay as extra_minutes
    from compared
)

select * from final
