{{ config(unique_key=['tailnum']) }}

with planes as (
    select
        tailnum,
        year,
        type,
        manufacturer,
        model,
        engines,
        seats,
        engine
    from {{ source('silver', 'planes') }}
),

final as (
    select
        tailnum,
        year,
        type,
        manufacturer,
        model,
        engines,
        seats,
        engine
    from planes
)

select * from final
