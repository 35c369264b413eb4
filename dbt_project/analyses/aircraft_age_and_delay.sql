{{ config(enabled=target.type == 'clickhouse') }}

-- Does an old aircraft mean delay?
with ages as (
    select
        multiIf(
            by_month.aircraft_age_years is null, 'not known',
            by_month.aircraft_age_years < 5, '0 to 4',
            by_month.aircraft_age_years < 10, '5 to 9',
            by_month.aircraft_age_years < 15, '10 to 14',
            by_month.aircraft_age_years < 20, '15 to 19',
            '20 and more'
        ) as years_old,
        min(by_month.aircraft_age_years) as youngest,
        sum(by_month.arrivals) as arrivals,
        sum(by_month.delayed) as delayed,
        sum(by_month.mean_arrival_delay * by_month.arrivals) as minutes_late
    from {{ ref('mart_on_time_by_aircraft_age') }} as by_month
    group by years_old
),

final as (
    select
        years_old,
        arrivals,
        round(100 * delayed / nullIf(arrivals, 0), 1) as late_percent,
        round(minutes_late / nullIf(arrivals, 0), 1) as mean_minutes_late
    from ages
    order by youngest asc nulls last
)

select * from final
