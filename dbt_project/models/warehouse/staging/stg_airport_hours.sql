with final as (
    select
        accurateCast(flight_date, 'Date') as flight_date,
        accurateCast(origin, 'LowCardinality(String)') as origin,
        accurateCast(hour_at, 'DateTime64(6, \'UTC\')') as hour_at,
        accurateCast(local_hour, 'UInt8') as local_hour,
        accurateCast(flights, 'UInt16') as flights,
        accurateCast(cancelled, 'UInt16') as cancelled,
        accurateCast(departures, 'UInt16') as departures,
        accurateCast(delayed_departures, 'UInt16') as delayed_departures,
        accurateCast(arrivals, 'UInt16') as arrivals,
        accurateCast(delayed, 'UInt16') as delayed,
        accurateCast(total_dep_delay, 'Int32') as total_dep_delay,
        accurateCast(total_arr_delay, 'Int32') as total_arr_delay,
        temp,
        wind_speed,
        wind_gust,
        precip,
        visib,
        accurateCast(weather_condition, 'LowCardinality(String)') as weather_condition,
        accurateCast(available_at, 'DateTime64(6, \'UTC\')') as available_at
    from {{ source('lake', 'gold_airport_hours') }}
)

select * from final
