{{ config(
    unique_key=['carrier', 'month'],
    range_column='month',
    order_by='(carrier, month)',
    tags=['daily'],
) }}

with flights as (
    select
        carrier,
        toStartOfMonth(flight_date) as month,
        is_cancelled,
        is_delayed,
        arr_delay
    from {{ ref('fct_flights') }}
    where {{ in_months_of_range('flight_date') }}
),

final as (
    select
        carrier,
        month,
        {{ punctuality() }}
    from flights
    group by carrier, month
)

select * from final
