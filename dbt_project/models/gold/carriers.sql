{{ config(unique_key=['carrier']) }}

with airlines as (
    select
        carrier,
        name
    from {{ source('silver', 'airlines') }}
),

final as (
    select
        carrier,
        name
    from airlines
)

select * from final
