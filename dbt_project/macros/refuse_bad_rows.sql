{# What a model's YAML declares true of its rows, asked of the new rows while they stand aside: a row that breaks it is
   never published. One text for Trino and ClickHouse, whose own DDL enforces little of it (Trino's no check, neither's
   key). Read from the model: the keys (config unique_key, constraint primary_key), not_null, check.

   relation: the table of the new rows. rules: further conditions of the caller, each {"condition": SQL, "why": text}.
   A condition that is null of a row holds, as in SQL's own checks. #}
{% macro refuse_bad_rows(relation, rules=[]) %}
    {%- set problems = bad_rows(relation, rules) -%}
    {%- if problems -%}
        {%- do exceptions.raise_compiler_error(problems) -%}
    {%- endif -%}
{% endmacro %}

{# What is wrong with the new rows and what to do next, or nothing: for who has to tidy up before refusing them. #}
{% macro bad_rows(relation, rules=[]) %}
    {%- set keys = declared_keys() -%}
    {%- set rules = declared_rules(keys) + rules -%}
    {%- if not rules -%}
        {{ return('') }}
    {%- endif -%}

    {#- One statement for all; examples are looked for only when something is broken. -#}
    {%- set listed = keys | join(', ') -%}
    {%- set shared = '(select ' ~ listed ~ ', count(*) as rows_of_key from ' ~ relation ~ ' group by ' ~ listed ~ ' having count(*) > 1) as shared' -%}
    {%- set counts -%}
        select
        {% for rule in rules %}
            broken_{{ loop.index }},
        {% endfor %}
            sharing
        from (
            select
            {% for rule in rules %}
                sum(case when not ({{ rule['condition'] }}) then 1 else 0 end) as broken_{{ loop.index }}{{ ',' if not loop.last }}
            {% endfor %}
            from {{ relation }}
        ) as of_rows
        cross join (select {{ 'sum(rows_of_key) as sharing from ' ~ shared if keys else '0 as sharing' }}) as of_keys
    {%- endset -%}
    {%- set found = run_query(counts).rows[0] -%}

    {%- set broken = [] -%}
    {%- for rule in rules -%}
        {%- set number = found[loop.index0] | int -%}
        {%- if number > 0 -%}
            {%- set why = ' (' ~ rule['why'] ~ ')' if rule['why'] else '' -%}
            {%- set example = example_row(relation, keys, 'not (' ~ rule['condition'] ~ ')') -%}
            {%- do broken.append(number ~ ' new rows break: ' ~ rule['condition'] ~ why ~ example) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if found[-1] | int > 0 -%}
        {%- do broken.append(found[-1] | int ~ ' new rows share the key ' ~ listed ~ example_row(shared, keys, '1 = 1')) -%}
    {%- endif -%}
    {%- if not broken -%}
        {{ return('') }}
    {%- endif -%}
    {{ return(
        this ~ ' was refused its new rows, and the table was left as it was:\n- ' ~ broken | join('\n- ')
        ~ '\nNext: correct the data or ' ~ model.original_file_path ~ ', or, if such rows are right, the declaration in '
        ~ (model.patch_path or '').split('://')[-1] ~ '; then run it again.'
    ) }}
{% endmacro %}

{# The columns that make a row one of its kind, each once. #}
{% macro declared_keys() %}
    {%- set configured = config.get('unique_key') or [] -%}
    {%- set keys = [configured] if configured is string else configured | list -%}
    {%- if not keys -%}
        {%- for constraint in model.constraints or [] if constraint.type == 'primary_key' -%}
            {%- do keys.extend(constraint.columns) -%}
        {%- endfor -%}
        {%- for column in model.columns.values() -%}
            {%- for constraint in column.constraints or [] if constraint.type == 'primary_key' -%}
                {%- do keys.append(column.name) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(keys | unique | list) }}
{% endmacro %}

{# Every condition that a row must meet alone. #}
{% macro declared_rules(keys) %}
    {%- set rules, filled = [], keys | list -%}
    {%- for column in model.columns.values() -%}
        {%- for constraint in column.constraints or [] -%}
            {%- if constraint.type == 'not_null' and column.name not in filled -%}
                {%- do filled.append(column.name) -%}
            {%- elif constraint.type == 'check' -%}
                {%- do rules.append({'condition': constraint.expression, 'why': constraint.name}) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for constraint in model.constraints or [] -%}
        {%- if constraint.type == 'not_null' -%}
            {%- do filled.extend(constraint.columns) -%}
        {%- elif constraint.type == 'check' -%}
            {%- do rules.append({'condition': constraint.expression, 'why': constraint.name}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set not_null = [] -%}
    {%- for column in filled | unique -%}
        {%- do not_null.append({'condition': column ~ ' is not null', 'why': ''}) -%}
    {%- endfor -%}
    {{ return(not_null + rules) }}
{% endmacro %}

{# `, for example …`: the smallest row that a condition finds, by its key; without a key, all its declared columns. #}
{% macro example_row(relation, keys, condition) %}
    {%- set columns = keys or model.columns.keys() | list -%}
    {%- set listed = columns | join(', ') -%}
    {%- set found = run_query('select ' ~ listed ~ ' from ' ~ relation ~ ' where ' ~ condition ~ ' order by ' ~ listed ~ ' limit 1') -%}
    {%- set named = [] -%}
    {%- for column in columns -%}
        {%- do named.append(column ~ ' = ' ~ found.rows[0][loop.index0]) -%}
    {%- endfor -%}
    {{ return(', for example ' ~ named | join(', ')) }}
{% endmacro %}
