{{ config(unique_key=['faa']) }}

with received as (
    select
        faa,
        name,
        lat,
        lon,
        alt,
        tzone
    from {{ source('silver', 'airports') }}
),

-- once the vendor sends one of them, the vendor's row counts
added as (
    select
        faa,
        name,
        tzone
    from {{ ref('airports_not_in_feed') }}
    where faa not in (select received.faa from received)
),

final as (
    select
        faa,
        name,
        lat,
        lon,
        alt,
        tzone
    from received
    union all
    select
        faa,
        name,
        null as lat,
        null as lon,
        null as alt,
        tzone
    from added
)

select * from final
