{# One statement that holds two states of a table side by side, in one pass: how many rows each has, which keys came and
   went, which rows differ and in which columns, and some of them. It is made of its arguments alone, so that it is also
   rendered without dbt (orchestrator/cli/comparison.py).

   engine: trino or clickhouse. base, branch: the two tables. keys: expressions that name a row. columns: each {name, floating
   (compared with the tolerance), as_text (the two have other types), nested (no scalar), masked (no value leaves the engine)}. hidden: per key,
   whether it is masked, for which `mark` is shown. where: a condition that both are read by. tolerance: relative. samples: how many rows of each kind.

   Rows of both are put below each other and grouped by key: null-safe, as no join of Trino's is that is full. A key that
   stands in a table twice is counted as such, and its rows are not compared. #}
{% macro compared_rows(engine, base, branch, keys, hidden, mark, columns, where, tolerance, samples) %}
{%- set trino = engine == 'trino' -%}
with both_tables as (
{%- for table in (base, branch) %}
    select
        {{ loop.index0 }} as of_branch
        {%- for key in keys %}, {{ key }} as assay_k{{ loop.index0 }}{% endfor %}
        {%- for column in columns %}, {{ compared_text(engine, compared_name(engine, column.name), column.nested) if column.as_text else compared_name(engine, column.name) }} as assay_c{{ loop.index0 }}{% endfor %}
    from {{ table }}
    where {{ where }}
    {{ 'union all' if loop.first }}
{%- endfor %}
),

by_key as (
    select
        {% for key in keys %}assay_k{{ loop.index0 }}, {% endfor %}
        sum(1 - of_branch) as in_base,
        sum(of_branch) as in_branch
        {%- for column in columns %}
        {%- if trino %},
        arbitrary(assay_c{{ loop.index0 }}) filter (where of_branch = 0) as b{{ loop.index0 }},
        arbitrary(assay_c{{ loop.index0 }}) filter (where of_branch = 1) as n{{ loop.index0 }}
        {%- else %},
        anyIf(assay_c{{ loop.index0 }}, of_branch = 0) as b{{ loop.index0 }},
        anyIf(assay_c{{ loop.index0 }}, of_branch = 1) as n{{ loop.index0 }}
        {%- endif %}
        {%- endfor %}
    from both_tables
    group by {% for key in keys %}assay_k{{ loop.index0 }}{{ ', ' if not loop.last }}{% endfor %}
),

by_column as (
    select
        *
        {%- for column in columns %},
        in_base = 1 and in_branch = 1 and {{ compared_differs(engine, 'b' ~ loop.index0, 'n' ~ loop.index0, column.floating, tolerance) }} as d{{ loop.index0 }}
        {%- endfor %}
    from by_key
),

judged as (
    select
        *,
        {% for column in columns %}d{{ loop.index0 }}{{ ' or ' if not loop.last }}{% else %}false{% endfor %} as differs,
        {% if trino %}concat_ws('|', array[{% for key in keys %}coalesce({{ compared_text(engine, 'assay_k' ~ loop.index0) }}, ''){{ ', ' if not loop.last }}{% endfor %}])
        {%- else %}arrayStringConcat([{% for key in keys %}ifNull({{ compared_text(engine, 'assay_k' ~ loop.index0) }}, ''){{ ', ' if not loop.last }}{% endfor %}], '|')
        {%- endif %} as place,
        {{ 'array' if trino }}[{% for key in keys %}{{ "'" ~ mark ~ "'" if hidden[loop.index0] else compared_said(engine, 'assay_k' ~ loop.index0) }}{{ ', ' if not loop.last }}{% endfor %}] as named,
        {% if columns -%}
        {{ 'array' if trino }}[
            {%- for column in columns %}
            {%- set number, last = loop.index0, loop.last %}
            {%- for side in ('b', 'n') %}
            if(d{{ number }}, {{ "'" ~ mark ~ "'" if column.masked else compared_said(engine, side ~ number, column.nested) }}, null){{ ',' if not (last and loop.last) }}
            {%- endfor %}
            {%- endfor %}
        ]
        {%- else %}{{ 'cast(array[] as array(varchar))' if trino else 'emptyArrayString()' }}{% endif %} as values_of_both
    from by_column
)

select
    coalesce(sum(in_base), 0) as rows_of_base,
    coalesce(sum(in_branch), 0) as rows_of_branch,
    {%- for condition in ('in_base = 0', 'in_branch = 0', 'in_base > 1 or in_branch > 1', 'differs') %}
    {{ 'count_if' if trino else 'countIf' }}({{ condition }}),
    {%- endfor %}
    {%- for column in columns %}
    {{ 'count_if' if trino else 'countIf' }}(d{{ loop.index0 }}),
    {%- endfor %}
    {%- for condition in ('differs', 'in_base = 0', 'in_branch = 0') %}
    {% if trino -%}
    {#- As text: of arrays of different lengths Trino 476 mixes up the bytes when one takes another's place. -#}
    min_by(json_format(cast({{ 'named || values_of_both' if loop.first else 'named' }} as json)), place, {{ samples }}) filter (where {{ condition }})
    {%- else -%}
    arrayMap(pair -> pair.2, groupArraySortedIf({{ samples }})((place, {{ 'arrayConcat(named, values_of_both)' if loop.first else 'named' }}), {{ condition }}))
    {%- endif %}{{ ',' if not loop.last }}
    {%- endfor %}
from judged
{% endmacro %}

{# The columns and types of some tables, by schema and table. #}
{% macro compared_columns(engine, tables) %}
{%- for table in tables %}
select '{{ table }}', {{ "column_name, data_type" if engine == 'trino' else 'name, type' }}
{%- if engine == 'trino' %}
from {{ table.catalog }}.information_schema.columns
where table_schema = '{{ table.schema }}' and table_name = '{{ table.table }}'
{%- else %}
from system.columns
where database = '{{ table.schema }}' and table = '{{ table.table }}'
{%- endif %}
{{ 'union all' if not loop.last }}
{%- endfor %}
{% endmacro %}

{# Rows of some days, or of the months of those days. #}
{% macro compared_days(day, days) -%}
    {% if day and days %}{{ day }} in ({% for one in days %}date '{{ one }}'{{ ', ' if not loop.last }}{% endfor %}){% else %}1 = 1{% endif %}
{%- endmacro %}

{# A condition that is never null. Two gaps are alike, and two NaN. #}
{% macro compared_differs(engine, old, new, floating, tolerance) -%}
    {%- if engine == 'trino' -%}
        {{ old }} is distinct from {{ new }}
        {%- if floating and tolerance %} and not coalesce(is_finite({{ old }}) and is_finite({{ new }}) and abs({{ old }} - {{ new }}) <= {{ tolerance }} * greatest(abs({{ old }}), abs({{ new }})), false){% endif %}
    {%- else -%}
        (isNull({{ old }}) != isNull({{ new }}) or ifNull({{ old }} != {{ new }}, false)
        {%- if floating %} and not ifNull(isNaN({{ old }}) and isNaN({{ new }}), false)
            {%- if tolerance %} and not ifNull(isFinite({{ old }}) and isFinite({{ new }}) and abs({{ old }} - {{ new }}) <= {{ tolerance }} * greatest(abs({{ old }}), abs({{ new }})), false){% endif %}
        {%- endif %})
    {%- endif -%}
{%- endmacro %}

{% macro compared_text(engine, value, nested=false) -%}
    {%- if engine == 'clickhouse' -%}toString({{ value }})
    {%- else -%}{{ 'json_format(cast(' ~ value ~ ' as json))' if nested else 'cast(' ~ value ~ ' as varchar)' }}{%- endif -%}
{%- endmacro %}

{# A gap is written: what was not asked for is null. #}
{% macro compared_said(engine, value, nested=false) -%}
    {{ ('coalesce(' if engine == 'trino' else 'ifNull(') ~ compared_text(engine, value, nested) ~ ", 'null')" }}
{%- endmacro %}

{% macro compared_name(engine, name) -%}
    {%- if engine == 'trino' -%}"{{ name }}"{%- else -%}`{{ name }}`{%- endif -%}
{%- endmacro %}
