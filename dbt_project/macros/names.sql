{# The schema of a model: physical_name(environment, layer, table) of foundation/names.py, whose prefix comes in by the
   environment, so that plain dbt and the platform agree. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ schema_prefix() ~ (custom_schema_name or 'gold') }}
{%- endmacro %}

{# The prefix of every schema that this call writes. ASSAY_DBT_PREFIX is dbt's own, so that an analyst's dbt writes beside
   the shared tables (dev_ana__gold) while everything else in the same shell stays in ASSAY_SCHEMA_PREFIX. #}
{% macro schema_prefix() -%}
    {{ return(env_var('ASSAY_DBT_PREFIX', env_var('ASSAY_SCHEMA_PREFIX', ''))) }}
{%- endmacro %}

{# Every table is in the target's own catalog; another would be outside of what the guard and the grants know. #}
{% macro generate_database_name(custom_database_name, node) -%}
    {%- if custom_database_name and custom_database_name != target.database -%}
        {%- do exceptions.raise_compiler_error(
            node.name ~ ' (' ~ node.original_file_path ~ ') asks for the database ' ~ custom_database_name
            ~ '. Next: remove `database` from its config; every table is in ' ~ (target.database or 'ClickHouse') ~ '.'
        ) -%}
    {%- endif -%}
    {{ target.database }}
{%- endmacro %}
