{# The body of a history: one row for each day of a thing (a carrier, a route, an aircraft) on which it flew, and how late
   its flights of the 28 days up to that day arrived. columns: what names the thing; one_name: one expression of them that
   does so too, as {name: expression}. Trino. #}
{% macro history_of_28_days(columns, one_name={}) %}
    {%- set named = columns | join(', ') -%}
with facts as (
    select
        {{ named }},
        flight_date,
        arr_delay,
        is_delayed
    from {{ ref('flight_facts') }}
    where
        {{ in_range('flight_date', lookback_days=27) }}
        {% for column in columns %}and {{ column }} is not null
        {% endfor %}
),

days as (
    select
        {{ named }},
        flight_date,
        count(*) as flights,
        count(arr_delay) as arrivals,
        count_if(is_delayed) as delayed,
        sum(arr_delay) as arrival_delay
    from facts
    group by {{ named }}, flight_date
),

history as (
    select
        {{ named }},
        flight_date,
        flights,
        arrivals,
        delayed,
        sum(flights) over last_28_days as flights_28d,
        sum(arrivals) over last_28_days as arrivals_28d,
        sum(delayed) over last_28_days as delayed_28d,
        sum(arrival_delay) over last_28_days as arrival_delay_28d
    from days
    window
        last_28_days as (
            partition by {{ named }}
            order by flight_date
            range between interval '27' day preceding and current row
        )
),

final as (
    select
        {{ named }},
        {% for name, expression in one_name.items() %}{{ expression }} as {{ name }},
        {% endfor %}flight_date,
        flights,
        arrivals,
        delayed,
        cast(delayed as double) / nullif(arrivals, 0) as delayed_share,
        flights_28d,
        arrivals_28d,
        cast(delayed_28d as double) / nullif(arrivals_28d, 0) as delayed_share_28d,
        cast(arrival_delay_28d as double) / nullif(arrivals_28d, 0) as mean_arrival_delay_28d,
        {{ available_at('flights', 'flight_date') }} as available_at
    from history
    where {{ in_range('flight_date') }}
)

select * from final
{% endmacro %}
