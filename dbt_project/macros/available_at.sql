{# Moments that the contracts name; the generated sources carry them in `meta`. Trino; UTC. #}

{# `available` of a feed: when a day's data could be known. #}
{% macro available_at(feed, day_column) %}
    {%- if execute -%}
        {{ moment_of(silver_meta(feed)['available'], day_column) }}
    {%- else -%}
        {{ day_column }}
    {%- endif -%}
{% endmacro %}

{# `row_available`: when a single row could be known, which of a feed that also comes by the hour is before its day's end. #}
{% macro row_available_at(feed) %}
    {%- if execute -%}
        {%- set moment = silver_meta(feed)['row_available'] -%}
        {{ moment['column'] }} + interval '{{ moment["minutes"] }}' minute
    {%- else -%}
        null
    {%- endif -%}
{% endmacro %}

{# A time of day some days after (or before) a day, in a zone. #}
{% macro moment_of(moment, day) %}
        cast(
            with_timezone(
                cast({{ day }} as timestamp(6)) + interval '{{ moment["days"] }}' day
                + interval '{{ moment["minutes"] }}' minute,
                '{{ moment["zone"] }}'
            ) at time zone 'UTC' as timestamp(6) with time zone
        )
{%- endmacro %}

{% macro silver_meta(feed) %}
    {%- set found = graph.sources.values() | selectattr('source_name', 'equalto', 'silver') | selectattr('name', 'equalto', feed) | list -%}
    {{ return(found[0].config.meta) }}
{% endmacro %}
