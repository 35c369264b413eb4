{% snapshot zz_of_a_test %}
{{ config(enabled=(target.type == 'clickhouse'), target_schema='warehouse', unique_key='a', strategy='check', check_cols='all') }}
select 1 as a
{% endsnapshot %}
