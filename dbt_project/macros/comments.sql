{# Descriptions beside the data. On an Iceberg table each comment is a commit, and dbt-trino writes all of them after every
   build: here only those that differ are written. #}

{% macro trino__persist_docs(relation, model, for_relation, for_columns) %}
    {%- do renew_comments(relation, described(relation)) -%}
{% endmacro %}

{# What stands in the catalog: one row a column, with name, type, comment and the table's own comment. #}
{% macro described(relation) %}
    {{ return(run_query(
        "select columns.column_name, columns.data_type, columns.comment, tables.comment from " ~ relation.information_schema() ~ ".columns"
        ~ " left join system.metadata.table_comments as tables on tables.catalog_name = columns.table_catalog"
        ~ " and tables.schema_name = columns.table_schema and tables.table_name = columns.table_name"
        ~ " and tables.catalog_name = '" ~ relation.database ~ "' and tables.schema_name = '" ~ relation.schema ~ "' and tables.table_name = '" ~ relation.identifier ~ "'"
        ~ " where columns.table_schema = '" ~ relation.schema ~ "' and columns.table_name = '" ~ relation.identifier ~ "'"
    ).rows) }}
{% endmacro %}

{# there: what `described` said, or nothing if the table was just made without comments. #}
{% macro renew_comments(relation, there=[]) %}
    {%- set old = {} -%}
    {%- for row in there -%}
        {%- do old.update({row[0]: row[2]}) -%}
    {%- endfor -%}
    {%- if not there or there[0][3] != model.description | trim -%}
        {%- do run_query('comment on table ' ~ relation ~ ' is ' ~ quoted_text(model.description)) -%}
    {%- endif -%}
    {%- for column in model.columns.values() -%}
        {%- if (old.get(column.name) or '') != column.description | trim -%}
            {%- do run_query('comment on column ' ~ relation ~ '.' ~ column.name ~ ' is ' ~ quoted_text(column.description)) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}

{% macro quoted_text(text) %}
    {{ return("'" ~ text | trim | replace("'", "''") ~ "'") }}
{% endmacro %}
