{# dbt-trino comments on every column after every build, and on an Iceberg table each comment is a commit. Only those that
   differ are written: none after a table was made, as it is made with its comments. #}
{% macro trino__alter_relation_comment(relation, relation_comment) %}
    {%- set found = run_query(
        "select comment from system.metadata.table_comments where catalog_name = '" ~ relation.database ~ "' and schema_name = '"
        ~ relation.schema ~ "' and table_name = '" ~ relation.identifier ~ "'"
    ) -%}
    {%- if found.rows and found.rows[0][0] == relation_comment | trim -%}
        select 1
    {%- else -%}
        comment on {{ relation.type }} {{ relation }} is {{ quoted_text(relation_comment) }}
    {%- endif -%}
{% endmacro %}

{% macro trino__alter_column_comment(relation, column_dict) %}
    {%- set there = {} -%}
    {%- for row in run_query('show columns from ' ~ relation).rows -%}
        {%- do there.update({row[0]: row[3]}) -%}
    {%- endfor -%}
    {%- for name, column in column_dict.items() if column['description'] | trim != there[name] -%}
        comment on column {{ relation }}.{{ name }} is {{ quoted_text(column['description']) }};
    {%- endfor -%}
{% endmacro %}
