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
        {{ punctuality() }}
    from flights
    group by origin, dest, month
)

select * from final
