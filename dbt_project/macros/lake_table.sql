{# The materialization of Gold: the new rows are built aside, checked there, and published by one commit. Readers see the
   old state or the new one, whatever fails or is killed in between.

   Config: unique_key (a list: what MERGE matches by, never null, never twice); range_column (a day of the key: the run's
   range of it is replaced, and the table is partitioned by its month; without one the whole table is replaced). The columns
   are the contract's. #}
{% materialization lake_table, adapter='trino', supported_languages=['sql'] %}
    {%- set target = this.incorporate(type='table') -%}
    {%- set new = new_rows_of(target) -%}
    {%- set keys = config.require('unique_key') -%}
    {%- set range_column = config.get('range_column') -%}
    {%- if not config.get('contract').enforced -%}
        {%- do exceptions.raise_compiler_error(model.name ~ ': a lake_table needs its contract enforced; drop that setting and describe each column with data_type') -%}
    {%- elif range_column and range_column not in keys -%}
        {#- Else a row that changes its day would be there twice: MERGE looks for its old self among the run's days. -#}
        {%- do exceptions.raise_compiler_error(model.name ~ ': unique_key lacks the range_column ' ~ range_column ~ '; add it') -%}
    {%- endif -%}

    {{ run_hooks(pre_hooks) }}

    {%- set exists = drop_leftovers(target) -%}
    {%- do get_assert_columns_equivalent(sql) -%}
    {%- set there = described(target) if exists and not should_full_refresh() else [] -%}
    {%- if there -%}
        {%- do refuse_other_columns(target, there) -%}
    {%- endif -%}

    {%- call statement('create_new') -%}
        create table {{ new }} (
        {% for column in model.columns.values() %}
            {{ column.name }} {{ column.data_type }} comment {{ quoted_text(column.description) }}{{ ',' if not loop.last }}
        {% endfor %}
        ) comment {{ quoted_text(model.description) }} {{ lake_properties(range_column) }}
    {%- endcall -%}
    {#- dbt reports the rows of `main`: those of the run's range. -#}
    {%- call statement('main') -%}
        insert into {{ new }} {{ get_select_subquery(sql) }}
    {%- endcall -%}

    {%- set outside = [{'condition': in_range(range_column), 'why': 'the days of this run'}] if range_column and run_range() else [] -%}
    {%- set problems = bad_rows(new, outside) -%}
    {%- if problems -%}
        {%- do adapter.drop_relation(new) -%}
        {%- do exceptions.raise_compiler_error(problems) -%}
    {%- endif -%}

    {#- Asked again: another first build may have been faster. If it is so by less than this, the rename fails, and that says it. -#}
    {%- if not exists and not table_names(target, target.identifier) -%}
        {%- do adapter.rename_relation(new, target) -%}
    {%- else -%}
        {%- call statement('publish') -%}
            {%- if should_full_refresh() -%}
                create or replace table {{ target }} comment {{ quoted_text(model.description) }} {{ lake_properties(range_column) }}
                as select {{ model.columns.keys() | join(', ') }} from {{ new }}
            {%- else -%}
                {{ merge_range(target, new, keys, model.columns.keys() | list, range_column) }}
            {%- endif -%}
        {%- endcall -%}
        {%- do adapter.drop_relation(new) -%}
        {%- do renew_comments(target, [] if should_full_refresh() else there or described(target)) -%}
    {%- endif -%}

    {%- do apply_grants(target, config.get('grants'), should_revoke=false) -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# One MERGE whose source is the new rows, and the target's rows of the range that have no new counterpart, marked as gone.
   A row that is the same as before is not written: a range that did not change makes no commit. #}
{% macro merge_range(target, new, keys, columns, range_column) %}
    {%- set others = columns | reject('in', keys) | list -%}
    merge into {{ target }} as existing
    using (
        select {{ columns | join(', ') }}, false as assay_gone
        from {{ new }}
        union all
        select {% for column in columns %}old.{{ column }}, {% endfor %}true as assay_gone
        from {{ target }} as old
        where {{ in_range('old.' ~ range_column) if range_column else 'true' }}
            and not exists (
                select 1 from {{ new }} as fresh
                where {% for key in keys %}fresh.{{ key }} = old.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
            )
    ) as incoming
    on {% for key in keys %}existing.{{ key }} = incoming.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
        {%- if range_column and run_range() %} and {{ in_range('existing.' ~ range_column) }}{% endif %}
    when matched and incoming.assay_gone then delete
    {% if others %}
    when matched and ({% for column in others %}existing.{{ column }} is distinct from incoming.{{ column }}{{ ' or ' if not loop.last }}{% endfor %})
        then update set {% for column in others %}{{ column }} = incoming.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
    {% endif %}
    when not matched then insert ({{ columns | join(', ') }})
        values ({% for column in columns %}incoming.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{% endmacro %}

{# A name that no other process uses: two may build one model at once. It tells when it was made, so that what a killed one
   left is found; `__dbt_` marks it as no table of the platform's. #}
{% macro new_rows_of(target) %}
    {{ return(target.incorporate(path={'identifier': new_prefix(target) ~ run_started_at.strftime('%Y%m%d%H%M%S') ~ '_' ~ invocation_id[:8]})) }}
{% endmacro %}

{% macro new_prefix(target) %}
    {{ return(target.identifier ~ '__dbt_new_') }}
{% endmacro %}

{# Drops what builds left that were killed a day ago or longer, and returns whether the target exists. #}
{% macro drop_leftovers(target) %}
    {%- set names = table_names(target, target.identifier, new_prefix(target)) -%}
    {%- set day_ago = new_prefix(target) ~ (run_started_at - modules.datetime.timedelta(days=1)).strftime('%Y%m%d%H%M%S') -%}
    {%- for name in names if name != target.identifier and name < day_ago -%}
        {%- do adapter.drop_relation(target.incorporate(path={'identifier': name})) -%}
    {%- endfor -%}
    {{ return(target.identifier in names) }}
{% endmacro %}

{# Asked of Trino and not of dbt's cache, which is as old as the start of this process. #}
{% macro table_names(target, name, prefix='') %}
    {%- set found = run_query(
        "select table_name from " ~ target.information_schema() ~ ".tables where table_schema = '" ~ target.schema ~ "' and (table_name = '" ~ name ~ "'"
        ~ (" or starts_with(table_name, '" ~ prefix ~ "')" if prefix else '') ~ ')'
    ) -%}
    {{ return(found.columns[0].values() | list) }}
{% endmacro %}

{# A column more or less is a decision about the days that stand in the table: they would have to be built again. #}
{% macro refuse_other_columns(target, there) %}
    {%- set found, wanted = [], [] -%}
    {%- for row in there -%}
        {%- do found.append(row[0] ~ ' ' ~ row[1]) -%}
    {%- endfor -%}
    {%- for column in model.columns.values() -%}
        {%- do wanted.append(column.name ~ ' ' ~ column.data_type) -%}
    {%- endfor -%}
    {%- set gained, lost = wanted | reject('in', found) | list, found | reject('in', wanted) | list -%}
    {%- if gained or lost -%}
        {%- do exceptions.raise_compiler_error(
            target ~ ' has other columns than its model:' ~ (' it lacks ' ~ gained | join(', ') ~ ';' if gained else '')
            ~ (' it has ' ~ lost | join(', ') ~ ';' if lost else '') ~ ' the table was left as it was.'
            ~ '\nNext: build all of it anew: ' ~ build_anew()
        ) -%}
    {%- endif -%}
{% endmacro %}

{# Format 2 is what all engines read: version 3 is beyond ClickHouse's. Months: Trino writes at most 100 partitions at once. #}
{#- A branch's table may still know its base's files, and CREATE OR REPLACE forgets what keeps a later DROP from deleting those. -#}
{% macro lake_properties(range_column) %}
    with (format_version = 2{{ ", partitioning = array['month(" ~ range_column ~ ")']" if range_column }}
        {{- ", extra_properties = map(array['gc.enabled'], array['false'])" if env_var('ASSAY_ENV', '') == 'branch' }})
{% endmacro %}
