-- A warning, not an error: Silver may have moved on since Gold was made of it.
{{ config(enabled=target.type == 'trino', severity='warn', meta={'dagster': {'ref': {'name': 'flight_facts'}}}) }}

with silver as (
    select
        flight_date,
        count(*) as flights,
        count(arr_delay) as arrivals
    from {{ source('silver', 'flights') }}
    where {{ in_range('flight_date') }}
    group by flight_date
),

gold as (
    select
        flight_date,
        count(*) as flights,
        count(arr_delay) as arrivals
    from {{ ref('flight_facts') }}
    where {{ in_range('flight_date') }}
    group by flight_date
),

final as (
    select
        coalesce(silver.flight_date, gold.flight_date) as flight_date,
        silver.flights as silver_flights,
        gold.flights as gold_flights
    from silver
    full outer join gold on silver.flight_date = gold.flight_date
    where
        silver.flights is distinct from gold.flights
        or silver.arrivals is distinct from gold.arrivals
)

select * from final
