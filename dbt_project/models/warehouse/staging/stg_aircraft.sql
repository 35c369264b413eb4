with final as (
    select
        accurateCast(tailnum, 'LowCardinality(String)') as tailnum,
        accurateCast(year, 'Nullable(UInt16)') as year,
        accurateCast(type, 'LowCardinality(String)') as type,
        accurateCast(manufacturer, 'LowCardinality(String)') as manufacturer,
        accurateCast(model, 'LowCardinality(String)') as model,
        accurateCast(engines, 'UInt8') as engines,
        accurateCast(seats, 'UInt16') as seats,
        accurateCast(engine, 'LowCardinality(String)') as engine
    from {{ source('lake', 'gold_aircraft') }}
)

select * from final
