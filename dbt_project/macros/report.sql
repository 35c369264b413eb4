{# What a model wrote, said to whoever started dbt with ASSAY_REPORT=1 (orchestrator/dbt_events.py): all its rows, those of
   each day (or month) of the range, and the snapshot that holds them. A post-hook, so that it is said before the model is
   finished. #}
{% macro report() %}
    {%- if execute and env_var('ASSAY_REPORT', '') and model.resource_type == 'model' and config.get('materialized') != 'view' -%}
        {%- set said = {'rows': run_query('select count(*) from ' ~ this).columns[0].values()[0] | int} -%}
        {%- if run_range() and config.get('range_column') -%}
            {%- set column = config.get('range_column') -%}
            {%- set chosen = in_months_of_range(column) if column == 'month' else in_range(column) -%}
            {%- set found = run_query(
                'select cast(' ~ column ~ ' as varchar), count(*) from ' ~ this ~ ' where ' ~ chosen ~ ' group by ' ~ column
            ) -%}
            {%- set days = {} -%}
            {%- for row in found.rows -%}{%- do days.update({row[0] | string: row[1] | int}) -%}{%- endfor -%}
            {%- do said.update({'months' if column == 'month' else 'days': days}) -%}
        {%- endif -%}
        {%- if target.type == 'trino' -%}
            {%- set refs = this.include(identifier=false) ~ '."' ~ this.identifier ~ '$refs"' -%}
            {%- set main = run_query('select cast(snapshot_id as varchar) from ' ~ refs ~ " where name = 'main'") -%}
            {%- do said.update({'snapshot_id': main.columns[0].values()[0] | string}) -%}
        {%- endif -%}
        {%- do log('assay_report ' ~ tojson(said), info=true) -%}
    {%- endif -%}
{% endmacro %}
