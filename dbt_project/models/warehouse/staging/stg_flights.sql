-- accurateCast refuses a null where the type has none, and a number that does not fit, which cast would wrap around
with final as (
    select
        accurateCast(flight_date, 'Date') as flight_date,
        accurateCast(carrier, 'LowCardinality(String)') as carrier,
        accurateCast(flight, 'UInt16') as flight,
        accurateCast(origin, 'LowCardinality(String)') as origin,
        accurateCast(dest, 'LowCardinality(String)') as dest,
        accurateCast(tailnum, 'LowCardinality(Nullable(String))') as tailnum,
        accurateCast(sched_dep_time, 'UInt16') as sched_dep_time,
        accurateCast(sched_arr_time, 'Nullable(UInt16)') as sched_arr_time,
        accurateCast(scheduled_departure, 'DateTime64(6, \'UTC\')') as scheduled_departure,
        accurateCast(scheduled_arrival, 'DateTime64(6, \'UTC\')') as scheduled_arrival,
        actual_departure,
        actual_arrival,
        accurateCast(distance, 'UInt16') as distance,
        accurateCast(dep_delay, 'Nullable(Int16)') as dep_delay,
        accurateCast(arr_delay, 'Nullable(Int16)') as arr_delay,
        accurateCast(air_time, 'Nullable(UInt16)') as air_time,
        accurateCast(is_cancelled, 'Bool') as is_cancelled,
        accurateCast(is_diverted, 'Bool') as is_diverted,
        is_delayed,
        accurateCast(was_planned, 'Bool') as was_planned,
        accurateCast(aircraft_age_years, 'Nullable(UInt8)') as aircraft_age_years,
        weather_at,
        weather_available_at,
        weather_temp,
        weather_wind_speed,
        weather_wind_gust,
        weather_precip,
        weather_visib,
        weather_pressure,
        weather_humid
    from {{ source('lake', 'gold_flight_facts') }}
)

select * from final
