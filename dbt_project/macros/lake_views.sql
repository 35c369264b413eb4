{# ClickHouse database `lake` (with this call's prefix): one view a published Iceberg table, pinned to one metadata file, so
   that all models of a run read one state of the lake. Without the pin the engine would read the newest file of the
   folder, committed or not. ASSAY_LAKE_PINS is JSON: view -> {"uri", "metadata"}; a view that is not in it is dropped with
   its table. Without it the views stay as they are. A source whose columns have types is there without rows until its
   table is: what is made last of all, predictions, would else fail who builds everything. #}
{% macro pin_lake_views() %}
    {%- if execute and writes_tables() and target.type == 'clickhouse' -%}
        {%- set database = schema_prefix() ~ 'lake' -%}
        {%- if env_var('ASSAY_LAKE_PINS', '') -%}
            {%- do refuse_schema('', database, 'The views on the lake') -%}
            {%- do run_query('create database if not exists `' ~ database ~ '`') -%}
            {%- set pins = fromjson(env_var('ASSAY_LAKE_PINS')) -%}
            {%- set there = views_on_the_lake(database) -%}
            {%- for view, pin in pins.items() if lake_table(pin) not in there.get(view, '') -%}
                {%- do run_query('create or replace view `' ~ database ~ '`.`' ~ view ~ '` as select * from ' ~ lake_table(pin)) -%}
            {%- endfor -%}
            {%- for view in there if view not in pins -%}
                {%- do run_query('drop view if exists `' ~ database ~ '`.`' ~ view ~ '`') -%}
            {%- endfor -%}
            {%- for source in graph.sources.values() if source.source_name == 'lake' and source.name not in pins -%}
                {%- set columns = source.columns.values() | selectattr('data_type') | list -%}
                {%- if columns -%}
                    {%- set structure = [] -%}
                    {%- for column in columns -%}{%- do structure.append(column.name ~ ' ' ~ column.data_type) -%}{%- endfor -%}
                    {%- do run_query('create or replace view `' ~ database ~ '`.`' ~ source.name ~ "` as select * from null('" ~ structure | join(', ') ~ "')") -%}
                {%- endif -%}
            {%- endfor -%}
        {%- elif not views_on_the_lake(database) -%}
            {%- do exceptions.raise_compiler_error(
                'There are no views on the lake in ' ~ database ~ '. Next: ./assay dbt makes them; plain dbt works after that.'
            ) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{# The views that pin_lake_views made: name -> statement. Others, and other objects of that database, are somebody's own. #}
{% macro views_on_the_lake(database) %}
    {%- set found = run_query(
        "select name, as_select from system.tables where database = '" ~ database ~ "' and engine = 'View' "
        ~ "and (as_select like '%iceberg\_metadata\_file\_path%')"
    ) -%}
    {%- set views = {} -%}
    {%- for row in found.rows -%}{%- do views.update({row[0]: row[1]}) -%}{%- endfor -%}
    {{ return(views) }}
{% endmacro %}

{# The table function that reads a pinned table, on local files or on S3. #}
{% macro lake_table(pin) %}
    {%- set function = 'icebergLocal' if pin['uri'].startswith('/') else 'icebergS3' -%}
    {{ return(function ~ "('" ~ pin['uri'] ~ "', SETTINGS iceberg_metadata_file_path = '" ~ pin['metadata'] ~ "')") }}
{% endmacro %}
