{{ config(enabled=target.type == 'clickhouse') }}

-- Which routes from New York are late most often? Routes with an arrival a week say little: they are left out.
with routes as (
    select
        by_month.origin,
        by_month.dest,
        -- qualified: an alias of ClickHouse's would hide the column of the same name
        sum(by_month.arrivals) as arrivals,
        sum(by_month.delayed) as delayed,
        sum(by_month.mean_arrival_delay * by_month.arrivals) as minutes_late,
        count() as months
    from {{ ref('mart_on_time_by_route') }} as by_month
    group by by_month.origin, by_month.dest
),

final as (
    select
        routes.origin,
        routes.dest,
        airports.name as destination,
        routes.arrivals,
        round(100 * routes.delayed / routes.arrivals, 1) as late_percent,
        round(routes.minutes_late / routes.arrivals, 1) as mean_minutes_late
    from routes
    left join {{ ref('dim_airports') }} as airports on routes.dest = airports.faa
    where routes.arrivals >= 30 * routes.months
    order by late_percent desc, routes.origin asc, routes.dest asc
    limit 5
)

select * from final
