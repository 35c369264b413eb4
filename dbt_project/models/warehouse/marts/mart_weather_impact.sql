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

-- arrivals of the same airport and month in fair weather
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
        sumIf(arrivals, weather_condition = 'fair') over of_origin_and_month as fair_arrivals,
        sumIf(total_arr_delay, weather_condition = 'fair') over of_origin_and_month as fair_arr_delay
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
        -- the product first: it is a whole number, so that fair weather comes to 0 and not nearly so
        total_arr_delay - arrivals * fair_arr_delay / nullIf(fair_arrivals, 0) as extra_minutes
    from compared
)

select * from final
