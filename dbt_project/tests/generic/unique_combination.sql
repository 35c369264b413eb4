{# No two rows share these columns, and none of them is null. #}
{% test unique_combination(model, columns) %}
    select {{ columns | join(', ') }}, count(*) as found
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1 or {% for column in columns %}{{ column }} is null{% if not loop.last %} or {% endif %}{% endfor %}
{% endtest %}
