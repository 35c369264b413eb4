{# The strongest wind ever measured on the ground was 253 mph, in a cyclone. What is above 200 at these stations is a fault
   of the sensor, such as 1,048 mph at Newark on 2013-02-12: not known. #}
{% macro plausible_wind(column) %}case when {{ column }} <= 200 then {{ column }} end{% endmacro %}
