-- accurateCast refuses a null where the type has none, and a number that does not fit
with final as (
    select
<%- for column in columns %>
        accurateCast(<< column.name >>, '<< column.type | replace("'", "\\'") >>') as << column.name >><< '' if loop.last else ',' >>
<%- endfor %>
    from {{ source('lake', 'gold_<< gold >>') }}
)

select * from final
