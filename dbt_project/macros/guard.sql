{# A dbt call writes only schemas of its own prefix. The shared ones have none: to write them, a call must say so with
   ASSAY_WRITES_SHARED=1, as the platform's runs and `./assay dbt --shared` do. What is asked here is where dbt itself
   would write; statements inside a model are Trino's access control's business, and nobody's on the embedded ClickHouse. #}
{% macro refuse_writes_elsewhere() %}
    {%- if execute and writes_tables() -%}
        {%- for unique_id in selected_resources if unique_id in graph.nodes -%}
            {%- set node = graph.nodes[unique_id] -%}
            {%- set is_made = node.resource_type in ('model', 'seed', 'snapshot') or node.config.get('store_failures') -%}
            {%- if is_made and node.config.get('materialized') != 'ephemeral' -%}
                {%- do refuse_schema(node.database, node.schema, node.resource_type ~ ' ' ~ node.name ~ ' (' ~ node.original_file_path ~ ')') -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{% macro refuse_schema(database, schema, what) %}
    {%- set prefix = schema_prefix() -%}
    {%- set at = (database ~ '.' if database else '') ~ schema -%}
    {%- if prefix and not schema.startswith(prefix) -%}
        {%- do exceptions.raise_compiler_error(
            what ~ ' would be written to ' ~ at ~ ', but this call may write only schemas that begin with ' ~ prefix
            ~ '. Nothing was written. Next: let generate_schema_name (macros/names.sql) name its schema: no target_schema, no macro of your own.'
        ) -%}
    {%- elif not prefix and env_var('ASSAY_WRITES_SHARED', '') != '1' -%}
        {%- do exceptions.raise_compiler_error(
            what ~ ' would be written to the shared schema ' ~ at ~ '. Nothing was written. '
            ~ 'Next: build it in your own environment with ./assay dbt, or, if everybody shall get it, with ./assay dbt --shared.'
        ) -%}
    {%- endif -%}
{% endmacro %}

{# dbt makes missing schemas before on-run-start: an empty one elsewhere would stay behind. #}
{% macro create_schema(relation) -%}
    {%- do refuse_schema(relation.database, relation.schema, 'A schema') -%}
    {{ adapter.dispatch('create_schema', 'dbt')(relation) }}
{%- endmacro %}

{# Whether this dbt command may write: `compile` and `docs generate` evaluate on-run-start too. #}
{% macro writes_tables() %}
    {{ return(flags.WHICH in ('build', 'run', 'test', 'seed', 'snapshot', 'clone', 'retry', 'run-operation')) }}
{% endmacro %}

{# What a person types to build the whole of this model again where this call writes. #}
{% macro build_anew() %}
    {{ return('./assay dbt build ' ~ ('--shared ' if env_var('ASSAY_WRITES_SHARED', '') == '1') ~ '--full-refresh --select ' ~ model.name) }}
{% endmacro %}
