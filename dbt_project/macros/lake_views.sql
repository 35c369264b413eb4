{# ClickHouse database `lake` (with the environment's prefix): one view a published Iceberg table, pinned to one metadata
   file, so that all models of a run read one state of the lake. Without the pin the engine would read the newest file of
   the folder, committed or not. ASSAY_LAKE_PINS is JSON: view -> {"uri", "metadata"}; without it the views stay as they
   are. #}
{% macro pin_lake_views() %}
    {%- if execute and target.type == 'clickhouse' and env_var('ASSAY_LAKE_PINS', '') -%}
        {%- set database = env_var('ASSAY_SCHEMA_PREFIX', '') ~ 'lake' -%}
        {%- do run_query('create database if not exists ' ~ database) -%}
        {%- for view, pin in fromjson(env_var('ASSAY_LAKE_PINS')).items() -%}
            {%- do run_query('create or replace view ' ~ database ~ '.' ~ view ~ ' as select * from ' ~ lake_table(pin)) -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{# The table function that reads a pinned table, on local files or on S3. #}
{% macro lake_table(pin) %}
    {%- set at = "settings iceberg_metadata_file_path = '" ~ pin['metadata'] ~ "'" -%}
    {%- if pin['uri'].startswith('/') -%}
        {{ return("icebergLocal('" ~ pin['uri'] ~ "', " ~ at ~ ")") }}
    {%- endif -%}
    {{ return("icebergS3('" ~ pin['uri'] ~ "', " ~ at ~ ")") }}
{% endmacro %}
