with final as (
    select
        accurateCast(carrier, 'LowCardinality(String)') as carrier,
        accurateCast(name, 'String') as name
    from {{ source('lake', 'gold_carriers') }}
)

select * from final
