{# The columns that every mart of punctuality has, over flights with is_cancelled, is_delayed and arr_delay. #}
{% macro punctuality() -%}
toUInt32(count()) as flights,
        toUInt32(countIf(is_cancelled)) as cancelled,
        toUInt32(count(arr_delay)) as arrivals,
        toUInt32(countIf(is_delayed)) as delayed,
        1 - delayed / nullIf(arrivals, 0) as on_time_share,
        avg(arr_delay) as mean_arrival_delay
{%- endmacro %}
