{{ config(enabled=target.type == 'clickhouse') }}

-- Which routes from New York are late most often? Routes with an arrival a week say little: they are left out.
with routes as (
    select
        origin,
        dest,
        sum(arrivals) as arrivals,
        sum(delayed) as delayed,
        sum(mean_arrival_delay * arrivals) / nullIf(sum(arrivals), 0) as mean_arrival_delay,
        count() as months
    from {{ ref('mart_on_time_by_route') }}
    group by origin, dest
),

final as (
    select
        routes.origin,
        routes.dest,
        airports.name as destination,
        routes.arrivals,
        round(100 * routes.delayed / routes.arrivals, 1) as late_percent,
        round(routes.mean_arrival_delay, 1) as mean_minutes_late
    from routes
    left join {{ ref('dim_airports') }} as airports on routes.dest = airports.faa
    where routes.arrivals >= 30 * routes.months
    order by late_percent desc, routes.origin asc, routes.dest asc
    limit 5
)

select * from final
