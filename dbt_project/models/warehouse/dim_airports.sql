{{ config(unique_key=['faa'], order_by='faa') }}

with final as (
    select
        faa,
        name,
        lat,
        lon,
        alt,
        tzone
    from {{ ref('stg_airports') }}
)

select * from final
