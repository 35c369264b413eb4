{{ config(
    unique_key=['flight_date', 'origin', 'hour_at'],
    range_column='flight_date',
    tags=['daily'],
) }}

with facts as (
    select
        flight_date,
        origin,
        date_trunc('hour', scheduled_departure) as hour_at,
        sched_dep_time / 100 as local_hour,
        is_cancelled,
        is_delayed,
        dep_delay,
        arr_delay
    from {{ ref('flight_facts') }}
    where {{ in_range('flight_date') }}
),

weather as (
    select
        origin,
        time_hour,
        temp,
        {{ plausible_wind('wind_speed') }} as wind_speed,
        wind_gust,
        precip,
        visib,
        {{ row_available_at('weather') }} as available_at
    from {{ source('silver', 'weather') }}
    where {{ in_range('observation_date') }}
),

hours as (
    select
        flight_date,
        origin,
        hour_at,
        min(local_hour) as local_hour,
        count(*) as flights,
        count_if(is_cancelled) as cancelled,
        count_if(not is_cancelled) as departures,
        count_if(dep_delay > 15) as delayed_departures,
        count(arr_delay) as arrivals,
        count_if(is_delayed) as delayed,
        coalesce(sum(dep_delay), 0) as total_dep_delay,
        coalesce(sum(arr_delay), 0) as total_arr_delay
    from facts
    group by flight_date, origin, hour_at
),

final as (
    select
        hours.flight_date,
        hours.origin,
        hours.hour_at,
        hours.local_hour,
        hours.flights,
        hours.cancelled,
        hours.departures,
        hours.delayed_departures,
        hours.arrivals,
        hours.delayed,
        hours.total_dep_delay,
        hours.total_arr_delay,
        weather.temp,
        weather.wind_speed,
        weather.wind_gust,
        weather.precip,
        weather.visib,
        -- the one place of this rule; the first that applies
        case
            when weather.time_hour is null then 'unknown'
            when weather.visib < 3 then 'low visibility'
            when weather.precip > 0 then 'precipitation'
            when weather.wind_speed >= 20 then 'wind'
            else 'fair'
        end as weather_condition,
        greatest(
            {{ available_at('flights', 'hours.flight_date') }},
            coalesce(weather.available_at, {{ available_at('flights', 'hours.flight_date') }})
        ) as available_at
    from hours
    left join weather
        on
            hours.origin = weather.origin
            and hours.hour_at = weather.time_hour
)

select * from final
