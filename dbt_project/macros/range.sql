{# The days that a run replaces come in as ASSAY_RANGE_START and ASSAY_RANGE_END (both included), read while executing
   only: `--vars` that differ would make dbt parse the whole project again at each run. Without them, and in a full
   refresh, a model is built whole. A unit test has its own few days. #}
{% macro run_range() %}
    {%- if execute and model.resource_type != 'unit_test' and not should_full_refresh() and env_var('ASSAY_RANGE_START', '') -%}
        {{ return((modules.datetime.date.fromisoformat(env_var('ASSAY_RANGE_START')), modules.datetime.date.fromisoformat(env_var('ASSAY_RANGE_END')))) }}
    {%- endif -%}
    {{ return(none) }}
{% endmacro %}

{# A condition: the column is in the run's days, or up to lookback_days before them. #}
{% macro in_range(column, lookback_days=0) %}
    {%- set days = run_range() -%}
    {%- if days -%}
        {{ column }} between date '{{ days[0] - modules.datetime.timedelta(days=lookback_days) }}' and date '{{ days[1] }}'
    {%- else -%}
        true
    {%- endif -%}
{% endmacro %}

{# A condition: the column is in a month that the run's days touch. ClickHouse swaps whole months. #}
{% macro in_months_of_range(column) %}
    {%- set days = run_range() -%}
    {%- if days -%}
        {%- set after = (days[1].replace(day=1) + modules.datetime.timedelta(days=32)).replace(day=1) -%}
        {{ column }} >= date '{{ days[0].replace(day=1) }}' and {{ column }} < date '{{ after }}'
    {%- else -%}
        true
    {%- endif -%}
{% endmacro %}
