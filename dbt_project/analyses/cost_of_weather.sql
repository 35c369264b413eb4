{{ config(enabled=target.type == 'clickhouse') }}

-- What does weather cost? Minutes late beyond those of fair weather at the same airport in the same month.
with conditions as (
    select
        by_month.weather_condition,
        sum(by_month.flights) as flights,
        sum(by_month.cancelled) as cancelled,
        sum(by_month.arrivals) as arrivals,
        sum(by_month.delayed) as delayed,
        sum(by_month.extra_minutes) as extra_minutes
    from {{ ref('mart_weather_impact') }} as by_month
    group by by_month.weather_condition
),

final as (
    select
        weather_condition as weather,
        flights,
        round(100 * cancelled / flights, 1) as cancelled_percent,
        round(100 * delayed / nullIf(arrivals, 0), 1) as late_percent,
        round(extra_minutes / nullIf(arrivals, 0), 1) as extra_minutes_each,
        toInt32(round(extra_minutes / 60)) as extra_hours
    from conditions
    order by extra_hours desc, weather asc
)

select * from final
