{# The materialization of the warehouse's tables: the new rows are built aside, checked there, and swapped in. Readers see
   the old rows or the new ones, whatever fails or is killed in between.

   Config: engine, order_by, unique_key as everywhere; range_column (a day, or a month's first day): the table is
   partitioned by its month, and a run's range replaces the months that it touches, each whole, in one ALTER. A month
   without new rows is dropped: REPLACE PARTITION from an empty one keeps the old rows. Without range_column or without a
   range, and with --full-refresh, the whole table is exchanged. #}
{% materialization warehouse_table, adapter='clickhouse' %}
    {%- set target_table = this.incorporate(type='table') -%}
    {%- set aside = aside_of(target_table) -%}
    {%- set range_column = config.get('range_column') -%}
    {%- set months = months_of_range() if range_column else none -%}

    {{ run_hooks(pre_hooks) }}

    {%- do drop_left_asides(target_table) -%}
    {%- do create_aside(aside, range_column) -%}
    {%- set existed = table_is_there(target_table) -%}
    {%- if existed and months -%}
        {%- do refuse_other_shape(aside, target_table) -%}
    {%- endif -%}

    {%- call statement('main') -%}
        {{ clickhouse__insert_into(aside, sql, config.get('contract').enforced) }}
    {%- endcall -%}

    {#- A row of another month would be lost in the swap: its model forgot `in_months_of_range`. -#}
    {%- set of_the_run = [{'condition': in_months_of_range(range_column), 'why': 'the months of this run'}] if months else [] -%}
    {%- set problems = bad_rows(aside, of_the_run) -%}
    {%- if problems -%}
        {%- do adapter.drop_relation(aside) -%}
        {%- do exceptions.raise_compiler_error(problems) -%}
    {%- endif -%}

    {#- Where the aside becomes the table it brings its descriptions along; else a changed one is told to the table. -#}
    {%- do persist_docs(target_table if existed and months else aside, model) -%}
    {#- Asked again: another process may have made the table meanwhile. If it does so between here and there, the rename
        fails and says that the table exists; its rows stay. -#}
    {%- set rows_of = rows_by_month(aside, range_column) -%}
    {%- if not table_is_there(target_table) -%}
        {%- do run_query('rename table ' ~ aside ~ ' to ' ~ target_table) -%}
    {%- elif months -%}
        {%- do swap_months(aside, target_table, months, rows_of) -%}
        {%- do adapter.drop_relation(aside) -%}
    {%- else -%}
        {%- do exchange_tables_atomic(aside, target_table) -%}
        {%- do adapter.drop_relation(aside) -%}
    {%- endif -%}

    {%- do apply_grants(target_table, config.get('grants'), should_revoke=false) -%}
    {{ run_hooks(post_hooks) }}
    {#- What dbt prints of the model, and hands on as its result. -#}
    {%- set rows_of_all = rows_of.values() | sum -%}
    {%- set of_months = ' of ' ~ months | length ~ (' months' if months | length > 1 else ' month') if months else '' -%}
    {%- do store_raw_result('main', message=rows_of_all ~ ' rows' ~ of_months, code='OK', rows_affected=rows_of_all) -%}
    {{ return({'relations': [target_table]}) }}
{% endmaterialization %}

{# The months of the run's range as ClickHouse names partitions by toYYYYMM, such as 201301; none without a range. #}
{% macro months_of_range() %}
    {%- set days = run_range() -%}
    {%- if not days -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set months = [] -%}
    {%- for number in range(days[0].year * 12 + days[0].month - 1, days[1].year * 12 + days[1].month) -%}
        {%- do months.append('%04d%02d' | format(number // 12, number % 12 + 1)) -%}
    {%- endfor -%}
    {{ return(months) }}
{% endmacro %}

{# Month -> its new rows; of a table without months, all under one name. #}
{% macro rows_by_month(aside, range_column) %}
    {%- set month = 'toString(toYYYYMM(' ~ range_column ~ '))' if range_column else "'all'" -%}
    {%- set rows_of = {} -%}
    {%- for row in run_query('select ' ~ month ~ ' as month_of_rows, count() from ' ~ aside ~ ' group by month_of_rows').rows -%}
        {%- do rows_of.update({row[0]: row[1] | int}) -%}
    {%- endfor -%}
    {{ return(rows_of) }}
{% endmacro %}

{# One ALTER: each month is a commit of its own, but no client's death comes between them. #}
{% macro swap_months(aside, target_table, months, rows_of) %}
    {%- call statement('swap_months') -%}
        alter table {{ target_table }}
        {%- for month in months %}
            {% if month in rows_of %}replace partition id '{{ month }}' from {{ aside }}{% else %}drop partition id '{{ month }}'{% endif %}{{ ',' if not loop.last }}
        {%- endfor %}
    {%- endcall -%}
{% endmacro %}

{# A name that no other process uses: two may build one model at once. It tells when it was made. #}
{% macro aside_of(target_table) %}
    {%- set now = modules.datetime.datetime.utcnow().strftime('%Y%m%d%H%M%S') -%}
    {{ return(target_table.incorporate(path={'identifier': target_table.identifier ~ '__dbt_new_' ~ now ~ '_' ~ invocation_id[:8]})) }}
{% endmacro %}

{# Drops what killed builds left: made more than a minute ago, and named by no query that runs. Between two queries of a
   build that lives there are milliseconds; should one be robbed all the same, it fails and its table stays as it was. #}
{% macro drop_left_asides(target_table) %}
    {%- set prefix = target_table.identifier ~ '__dbt_new_' -%}
    {%- set minute_ago = (modules.datetime.datetime.utcnow() - modules.datetime.timedelta(minutes=1)).strftime('%Y%m%d%H%M%S') -%}
    {%- set left = first_column(
        "select name from system.tables where database = '" ~ target_table.schema ~ "' and startsWith(name, '" ~ prefix ~ "')"
        ~ " and name < '" ~ prefix ~ minute_ago ~ "' and not arrayExists(query -> position(query, name) > 0, (select groupArray(query) from system.processes))"
    ) -%}
    {%- for name in left -%}
        {%- do adapter.drop_relation(target_table.incorporate(path={'identifier': name})) -%}
    {%- endfor -%}
{% endmacro %}

{# An empty table of the model's columns and keys. Without the checks of the contract: the engine would stop at the first
   row that breaks one, where bad_rows counts them and says which. #}
{% macro create_aside(aside, range_column) %}
    {%- set has_contract = config.get('contract').enforced -%}
    {%- call statement('create_aside') -%}
        create table {{ aside }} {{ on_cluster_clause(aside) }}
        {%- if has_contract %}
            {{ get_assert_columns_equivalent(sql) }}
            (
            {%- for column in model.columns.values() %}
                {{ adapter.quote(column.name) }} {{ column.data_type }}{{ ',' if not loop.last }}
            {%- endfor %}
            )
        {%- endif %}
        {{ engine_clause() }}
        {{ order_cols(label='order by') }}
        {{ primary_key_clause(label='primary key') }}
        {% if range_column %}partition by toYYYYMM({{ range_column }}){% endif %}
        {{ ttl_config(label='ttl') }}
        {{ adapter.get_model_settings(model, config.get('engine', default='MergeTree')) }}
        {% if not has_contract %}empty as ({{ sql }}){% endif %}
    {%- endcall -%}
    {%- do add_index_and_projections(aside) -%}
{% endmacro %}

{# Asked of ClickHouse and not of dbt's cache, which is as old as the start of this process. #}
{% macro table_is_there(relation) %}
    {{ return(run_query(
        "select count() from system.tables where database = '" ~ relation.schema ~ "' and name = '" ~ relation.identifier ~ "'"
    ).rows[0][0] | int > 0) }}
{% endmacro %}

{# Months can be swapped between tables of one shape only. Another one is a decision about the months that stand in the
   table: they would have to be built again. #}
{% macro refuse_other_shape(aside, target_table) %}
    {%- set wanted, there = shape_of(aside), shape_of(target_table) -%}
    {%- set gained, lost = wanted | reject('in', there) | list, there | reject('in', wanted) | list -%}
    {%- if gained or lost -%}
        {%- do adapter.drop_relation(aside) -%}
        {%- do exceptions.raise_compiler_error(
            target_table ~ ' is not as its model describes it:' ~ (' it lacks ' ~ gained | join('; ') ~ '.' if gained else '')
            ~ (' It has ' ~ lost | join('; ') ~ '.' if lost else '') ~ ' The table was left as it was.'
            ~ '\nNext: build all of it anew: ' ~ build_anew()
        ) -%}
    {%- endif -%}
{% endmacro %}

{# What two tables must share, one text each: columns with types, and the keys. #}
{% macro shape_of(relation) %}
    {%- set schema, name = "'" ~ relation.schema ~ "'", "'" ~ relation.identifier ~ "'" -%}
    {{ return(first_column(
        "select concat(name, ' ', type) as part from system.columns where database = " ~ schema ~ " and table = " ~ name
        ~ " union all select arrayJoin([concat('partition by ', partition_key), concat('order by ', sorting_key), concat('primary key ', primary_key)])"
        ~ " from system.tables where database = " ~ schema ~ " and name = " ~ name
    )) }}
{% endmacro %}

{# An answer without rows has no columns either. #}
{% macro first_column(query) %}
    {{ return(run_query(query).rows | map(attribute=0) | list) }}
{% endmacro %}
