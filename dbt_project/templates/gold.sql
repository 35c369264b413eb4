{{ config(
    unique_key=<< keys | list | tojson | replace('"', "'") >>,
<%- if day %>
    range_column='<< day >>',
    tags=['daily'],
<%- endif %>
) }}

with << feed >> as (
    select
        << columns | join(',\n        ') >>
    from {{ source('silver', '<< feed >>') }}
<%- if day %>
    where {{ in_range('<< day >>') }}
<%- endif %>
),

final as (
    select
        << columns | join(',\n        ') >>
<%- if day %>,
        {{ available_at('<< feed >>', '<< day >>') }} as available_at
<%- endif %>
    from << feed >>
)

select * from final
