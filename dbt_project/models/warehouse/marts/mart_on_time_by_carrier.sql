{{ config(materialized='table', engine='MergeTree()', order_by='(carrier, month)') }}

with flights as (
    select
        carrier,
        toStartOfMonth(flight_date) as month,
        is_cancelled,
        is_delayed,
        arr_delay
    from {{ ref('fct_flights') }}
),

final as (
    select
        carrier,
        month,
        count() as flights,
        countIf(is_cancelled) as cancelled,
        count(arr_delay) as arrivals,
        countIf(is_delayed) as delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        avg(arr_delay) as mean_arrival_delay
    from flights
    group by carrier, month
)

select * from final
