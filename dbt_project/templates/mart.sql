{{ config(
    unique_key=<< keys | list | tojson | replace('"', "'") >>,
<%- if day %>
    range_column='<< day >>',
<%- endif %>
    order_by='(<< order | join(', ') >>)',
<%- if day %>
    tags=['daily'],
<%- endif %>
) }}

with << rows >> as (
    select
        << (keys + measures | map(attribute='name') | list) | join(',\n        ') >>
    from {{ ref('<< staging >>') }}
<%- if day %>
    where {{ in_months_of_range('<< day >>') }}
<%- endif %>
),

final as (
    select
        << keys | join(',\n        ') >>,
        count() as number_of_rows
<%- for measure in measures %>,
        accurateCast(sum(<< measure.name >>), '<< measure.total >>') as total_<< measure.name >>,
        accurateCast(avg(<< measure.name >>), 'Nullable(Float64)') as mean_<< measure.name >>
<%- endfor %>
    from << rows >>
    group by << keys | join(', ') >>
)

select * from final
