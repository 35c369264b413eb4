{# When a day's data of a Silver feed could be known: the `available` of its contract, which the generated sources carry in
   `meta`. Trino; UTC. #}
{% macro available_at(feed, day_column) %}
    {%- if execute -%}
        {%- set found = graph.sources.values() | selectattr('source_name', 'equalto', 'silver') | selectattr('name', 'equalto', feed) | list -%}
        {%- set moment = found[0].config.meta['available'] -%}
        cast(
            with_timezone(
                cast({{ day_column }} as timestamp(6)) + interval '{{ moment["days"] }}' day
                + interval '{{ moment["minutes"] }}' minute,
                '{{ moment["zone"] }}'
            ) at time zone 'UTC' as timestamp(6) with time zone
        )
    {%- else -%}
        {{ day_column }}
    {%- endif -%}
{% endmacro %}
