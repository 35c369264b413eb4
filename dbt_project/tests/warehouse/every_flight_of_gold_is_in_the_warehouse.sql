{{ config(enabled=target.type == 'clickhouse', meta={'dagster': {'ref': {'name': 'fct_flights'}}}) }}

-- By month of this run: flights and minutes late in the lake and in the warehouse.
with gold as (
    select
        toStartOfMonth(flight_date) as month,
        count() as flights,
        sum(arr_delay) as arrival_delay
    from {{ source('lake', 'gold_flight_facts') }}
    where {{ in_months_of_range('flight_date') }}
    group by month
),

warehouse as (
    select
        toStartOfMonth(flight_date) as month,
        count() as flights,
        sum(arr_delay) as arrival_delay
    from {{ ref('fct_flights') }}
    where {{ in_months_of_range('flight_date') }}
    group by month
),

final as (
    select
        gold.month,
        gold.flights,
        warehouse.flights as flights_in_warehouse,
        gold.arrival_delay,
        warehouse.arrival_delay as arrival_delay_in_warehouse
    from gold
    full outer join warehouse on gold.month = warehouse.month
    where
        gold.flights != warehouse.flights
        or coalesce(gold.arrival_delay, 0) != coalesce(warehouse.arrival_delay, 0)
)

select * from final
