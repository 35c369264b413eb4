{# Replaces a range of days of an Iceberg table in one commit: one MERGE whose source is the new rows, and the target's
   rows of the range that have no new counterpart, marked as gone. delete+insert would be two commits with a hole between.
   The new rows stand in a table of their own first, where what the model declares of them is checked; a failed check leaves
   the target as it was. Config: unique_key (a list), range_column. #}
{% macro get_incremental_replace_range_sql(arg_dict) %}
    {%- set target, new = arg_dict['target_relation'], arg_dict['temp_relation'] -%}
    {%- set keys = arg_dict['unique_key'] -%}
    {%- set columns = arg_dict['dest_columns'] | map(attribute='quoted') | list -%}
    {%- set range_column = config.require('range_column') -%}
    {%- do refuse_bad_rows(new) -%}

    merge into {{ target }} as existing
    using (
        select {{ columns | join(', ') }}, false as assay_gone
        from {{ new }}
        union all
        select {% for column in columns %}old.{{ column }}, {% endfor %}true as assay_gone
        from {{ target }} as old
        where {{ in_range('old.' ~ range_column) }}
            and not exists (
                select 1 from {{ new }} as fresh
                where {% for key in keys %}fresh.{{ key }} = old.{{ key }}{% if not loop.last %} and {% endif %}{% endfor %}
            )
    ) as incoming
    on {% for key in keys %}existing.{{ key }} = incoming.{{ key }}{% if not loop.last %} and {% endif %}{% endfor %}
    when matched and incoming.assay_gone then delete
    when matched then update set {% for column in columns %}{{ column }} = incoming.{{ column }}{% if not loop.last %}, {% endif %}{% endfor %}
    when not matched then insert ({{ columns | join(', ') }})
        values ({% for column in columns %}incoming.{{ column }}{% if not loop.last %}, {% endif %}{% endfor %})
{% endmacro %}
