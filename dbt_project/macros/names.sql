{# The schema of a model: physical_name(environment, layer, table) of foundation/names.py, whose prefix comes in by the
   environment, so that plain dbt and the platform agree. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('ASSAY_SCHEMA_PREFIX', '') ~ (custom_schema_name or 'gold') }}
{%- endmacro %}
