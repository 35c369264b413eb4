{# `dbt source freshness` by the contracts' due times. dbt compares an age with a fixed number of hours, and a due time is no
   fixed age of the data. So a feed counts as loaded one day before its next delivery is due: older than 24 hours is overdue,
   older than 48 a day overdue. Trino. #}
{% macro loaded_at() %}
    {%- set meta = model.config.meta -%}
    {%- if meta['day'] -%}
        {%- set newest = 'max(' ~ meta['day'] ~ ')' -%}
        select
            case
                {% if meta['ends'] %}when {{ newest }} >= date '{{ meta['ends'] }}' then {{ current_timestamp() }}{% endif %}
                else {{ moment_of(meta['due'], newest ~ " + interval '1' day") }} - interval '24' hour
            end
        from {{ this }}
    {%- else -%}
        {#- Bronze keeps every delivery of a full feed; ds is the day on which it arrived. -#}
        select {{ moment_of(meta['due'], 'max(ds)') }} - interval '24' hour from {{ this }}
    {%- endif -%}
{% endmacro %}

{# The platform's clock: ASSAY_NOW if it is set, as the demo's data is of 2013. #}
{% macro trino__current_timestamp() %}
    {%- if env_var('ASSAY_NOW', '') -%}
        {%- set moment = modules.datetime.datetime.fromisoformat(env_var('ASSAY_NOW') | replace('Z', '+00:00')) -%}
        from_iso8601_timestamp('{{ moment.isoformat() }}{{ '' if moment.tzinfo else '+00:00' }}')
    {%- else -%}
        current_timestamp
    {%- endif -%}
{% endmacro %}
