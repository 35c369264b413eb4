with final as (
    select
        accurateCast(faa, 'LowCardinality(String)') as faa,
        accurateCast(name, 'String') as name,
        lat,
        lon,
        accurateCast(alt, 'Nullable(Int16)') as alt,
        accurateCast(tzone, 'LowCardinality(Nullable(String))') as tzone
    from {{ source('lake', 'gold_airports') }}
)

select * from final
