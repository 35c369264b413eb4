{{ config(
    materialized='incremental',
    incremental_strategy='replace_range',
    unique_key=['flight_date', 'carrier', 'flight', 'origin', 'sched_dep_time'],
    range_column='flight_date',
    properties={'format_version': '2', 'partitioning': "ARRAY['month(flight_date)']"},
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
        distance,
        dep_delay,
        arr_delay,
        air_time,
        dep_time
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
        flights.distance,
        flights.dep_delay,
        flights.arr_delay,
        flights.air_time,
        flights.dep_time is null as is_cancelled,
        -- fifteen minutes is what the US Department of Transportation still counts as on time
        flights.arr_delay > 15 as is_delayed,
        planned.flight is not null as was_planned
    from flights
    left join planned
        on
            flights.flight_date = planned.flight_date
            and flights.carrier = planned.carrier
            and flights.flight = planned.flight
            and flights.origin = planned.origin
            and flights.sched_dep_time = planned.sched_dep_time
)

select * from final
