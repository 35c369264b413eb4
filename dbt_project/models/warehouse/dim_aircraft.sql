{{ config(unique_key=['tailnum'], order_by='tailnum') }}

with final as (
    select
        tailnum,
        year,
        type,
        manufacturer,
        model,
        engines,
        seats,
        engine
    from {{ ref('stg_aircraft') }}
)

select * from final
