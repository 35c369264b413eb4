{{ config(
    unique_key=['flight_date', 'carrier', 'flight', 'origin', 'sched_dep_time'],
    range_column='flight_date',
    tags=['daily'],
) }}

with flights as (
    select
        flight_date,
        carrier,
        flight,
        origin,
        dest,
        tailnum,
        sched_dep_time,
        sched_arr_time,
        scheduled_departure,
        scheduled_arrival,
        actual_departure,
        actual_arrival,
        distance,
        dep_time,
        dep_delay,
        arr_delay,
        air_time,
        -- the moment at which the flight is judged: only weather that was known by then counts
        scheduled_departure - interval '2' hour as known_by
    from {{ source('silver', 'flights') }}
    where {{ in_range('flight_date') }}
),

planned as (
    select
        flight_date,
        carrier,
        flight,
        origin,
        sched_dep_time
    from {{ source('silver', 'schedule') }}
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
        pressure,
        humid,
        {{ row_available_at('weather') }} as available_at
    from {{ source('silver', 'weather') }}
    where {{ in_range('observation_date', lookback_days=1) }}
),

-- The newest observation at each moment, in one pass over observations and moments in the order of time. A join on
-- `available_at <= known_by` would compare every flight with every hour of its airport.
timeline as (
    select
        origin,
        available_at as moment,
        time_hour,
        false as is_asked
    from weather
    union all
    select distinct
        origin,
        known_by as moment,
        cast(null as timestamp(6) with time zone) as time_hour,
        true as is_asked
    from flights
),

newest as (
    select
        origin,
        moment,
        is_asked,
        -- false sorts before true: what becomes available at the very moment is known
        max(time_hour) over (
            partition by origin
            order by moment, is_asked
            rows between unbounded preceding and current row
        ) as time_hour
    from timeline
),

known_weather as (
    select
        newest.origin,
        newest.moment,
        weather.time_hour,
        weather.available_at,
        weather.temp,
        weather.wind_speed,
        weather.wind_gust,
        weather.precip,
        weather.visib,
        weather.pressure,
        weather.humid
    from newest
    inner join weather
        on
            newest.origin = weather.origin
            and newest.time_hour = weather.time_hour
    -- older weather says nothing about the departure
    where newest.is_asked and newest.time_hour >= newest.moment - interval '6' hour
),

final as (
    select
        flights.flight_date,
        flights.carrier,
        flights.flight,
        flights.origin,
        flights.dest,
        flights.tailnum,
        flights.sched_dep_time,
        flights.sched_arr_time,
        flights.scheduled_departure,
        flights.scheduled_arrival,
        flights.actual_departure,
        flights.actual_arrival,
        flights.distance,
        flights.dep_delay,
        flights.arr_delay,
        flights.air_time,
        flights.dep_time is null as is_cancelled,
        flights.dep_time is not null and flights.arr_delay is null as is_diverted,
        -- fifteen minutes is what the US Department of Transportation still counts as on time
        flights.arr_delay > 15 as is_delayed,
        planned.flight is not null as was_planned,
        carriers.name as carrier_name,
        origins.name as origin_name,
        dests.name as dest_name,
        aircraft.year as aircraft_year,
        aircraft.manufacturer as aircraft_manufacturer,
        aircraft.model as aircraft_model,
        aircraft.seats as aircraft_seats,
        case
            when year(flights.flight_date) >= aircraft.year
                then cast(year(flights.flight_date) - aircraft.year as integer)
        end as aircraft_age_years,
        known_weather.time_hour as weather_at,
        known_weather.available_at as weather_available_at,
        known_weather.temp as weather_temp,
        known_weather.wind_speed as weather_wind_speed,
        known_weather.wind_gust as weather_wind_gust,
        known_weather.precip as weather_precip,
        known_weather.visib as weather_visib,
        known_weather.pressure as weather_pressure,
        known_weather.humid as weather_humid
    from flights
    left join planned
        on
            flights.flight_date = planned.flight_date
            and flights.carrier = planned.carrier
            and flights.flight = planned.flight
            and flights.origin = planned.origin
            and flights.sched_dep_time = planned.sched_dep_time
    left join {{ ref('carriers') }} as carriers
        on flights.carrier = carriers.carrier
    left join {{ ref('airports') }} as origins
        on flights.origin = origins.faa
    left join {{ ref('airports') }} as dests
        on flights.dest = dests.faa
    left join {{ ref('aircraft') }} as aircraft
        on flights.tailnum = aircraft.tailnum
    left join known_weather
        on
            flights.origin = known_weather.origin
            and flights.known_by = known_weather.moment
)

select * from final
