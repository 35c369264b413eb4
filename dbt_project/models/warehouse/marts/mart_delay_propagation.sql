{{ config(
    unique_key=['leg_of_day', 'previous_arrival', 'month'],
    range_column='month',
    order_by='(leg_of_day, previous_arrival, month)',
    tags=['daily'],
) }}

-- Only what departed can pass a delay on. The order is the one flown: after a change of aircraft the schedule would set
-- a departure before the arrival that it waited for.
with departures as (
    select
        toStartOfMonth(flight_date) as month,
        dep_delay,
        row_number() over legs_of_day as leg_of_day,
        lagInFrame(is_delayed) over legs_of_day as previous_is_delayed,
        lagInFrame(arr_delay) over legs_of_day as previous_arr_delay
    from {{ ref('fct_flights') }}
    where
        not is_cancelled
        and tailnum is not null
        and {{ in_months_of_range('flight_date') }}
    window
        legs_of_day as (
            partition by tailnum, flight_date
            order by actual_departure, scheduled_departure, carrier, flight, origin
            rows between unbounded preceding and current row
        )
),

legs as (
    select
        toUInt8(leg_of_day) as leg_of_day,
        toLowCardinality(
            case
                when leg_of_day = 1 then 'first leg'
                when previous_is_delayed is null then 'unknown'
                when previous_is_delayed then 'late'
                else 'on time'
            end
        ) as previous_arrival,
        month,
        dep_delay,
        if(leg_of_day = 1, null, previous_arr_delay - dep_delay) as minutes_recovered
    from departures
),

final as (
    select
        leg_of_day,
        previous_arrival,
        month,
        toUInt32(count()) as flights,
        toUInt32(countIf(dep_delay > 15)) as delayed_departures,
        avg(dep_delay) as mean_dep_delay,
        avg(minutes_recovered) as mean_minutes_recovered
    from legs
    group by leg_of_day, previous_arrival, month
)

select * from final
