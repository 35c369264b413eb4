{# A source on Trino is read at one snapshot: that of ASSAY_SNAPSHOTS (JSON: layer.table -> snapshot id), so that all models
   of a call read one state of the lake, and the ids that are recorded are true. ClickHouse's views are pinned by
   themselves (lake_views.sql). Unit tests put rows in a source's place. #}
{% macro source(source_name, table_name) %}
    {%- set relation = builtins.source(source_name, table_name) -%}
    {%- if execute and target.type == 'trino' and model.resource_type != 'unit_test' -%}
        {%- set snapshot = fromjson(env_var('ASSAY_SNAPSHOTS', '{}')).get(source_name ~ '.' ~ table_name) -%}
        {%- if snapshot -%}
            {{ return(relation ~ ' for version as of ' ~ snapshot) }}
        {%- endif -%}
    {%- endif -%}
    {{ return(relation) }}
{% endmacro %}
