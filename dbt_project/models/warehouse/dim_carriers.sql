{{ config(unique_key=['carrier'], order_by='carrier') }}

with final as (
    select
        carrier,
        name
    from {{ ref('stg_carriers') }}
)

select * from final
