{# What a test of a model looks at: the rows of the run's days, if the model has days and the run names some; those of other days
   were tested by their own run, and a bad one of them is none of this run's. Without a range, all rows. The name is dbt's: each
   generic test asks this macro for its `model`. #}
{% macro get_where_subquery(relation) %}
    {%- set conditions = [config.get('where')] if config.get('where') else [] -%}
    {%- set tested = graph.nodes.get(model.attached_node) if execute and model.attached_node else none -%}
    {%- set column = tested.config.get('range_column') if tested else none -%}
    {%- if column and run_range() -%}
        {%- do conditions.append(in_months_of_range(column) if column == 'month' else in_range(column)) -%}
    {%- endif -%}
    {%- if conditions -%}
        (select * from {{ relation }} where {{ conditions | join(' and ') }}) as tested_rows
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{% endmacro %}
