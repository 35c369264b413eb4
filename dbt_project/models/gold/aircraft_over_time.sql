{{ config(unique_key=['tailnum', 'source_sequence']) }}

-- Each delivery is the whole register: an aircraft that a later one lacks has left it.
with deliveries as (
    select
        source_sequence,
        ds,
        row_number() over (order by source_sequence) as delivery
    from {{ source('bronze', 'planes') }}
    group by source_sequence, ds
),

-- as in Silver, the last of the rows of one aircraft counts; unlike there, a value that is no number is null and stays
received as (
    select
        source_sequence,
        tailnum,
        max_by(
            cast(
                row(
                    try_cast(year as integer), type, manufacturer, model, try_cast(engines as integer),
                    try_cast(seats as integer), try_cast(speed as integer), engine
                ) as row(
                    year integer, type varchar, manufacturer varchar, model varchar, engines integer,
                    seats integer, speed integer, engine varchar
                )
            ),
            source_row
        ) as attributes
    from {{ source('bronze', 'planes') }}
    where tailnum is not null and corrupt_record is null
    group by source_sequence, tailnum
),

compared as (
    select
        received.tailnum,
        received.attributes,
        deliveries.source_sequence,
        deliveries.ds,
        deliveries.delivery,
        lag(received.attributes) over of_aircraft as earlier_attributes,
        lag(deliveries.delivery) over of_aircraft as earlier_delivery
    from received
    inner join deliveries on received.source_sequence = deliveries.source_sequence
    window of_aircraft as (partition by received.tailnum order by deliveries.delivery)
),

-- a version begins where the aircraft was not in the delivery before, or was another one there
numbered as (
    select
        tailnum,
        attributes,
        source_sequence,
        ds,
        delivery,
        count_if(
            earlier_delivery is null
            or earlier_delivery < delivery - 1
            or attributes is distinct from earlier_attributes
        ) over (partition by tailnum order by delivery) as version
    from compared
),

versions as (
    select
        tailnum,
        min_by(attributes, delivery) as attributes,
        min(source_sequence) as source_sequence,
        min(ds) as valid_from,
        max(delivery) as last_delivery
    from numbered
    group by tailnum, version
),

final as (
    select
        versions.tailnum,
        versions.source_sequence,
        versions.valid_from,
        next_delivery.ds as valid_to,
        next_delivery.ds is null as is_current,
        versions.attributes.year,
        versions.attributes.type,
        versions.attributes.manufacturer,
        versions.attributes.model,
        versions.attributes.engines,
        versions.attributes.seats,
        versions.attributes.speed,
        versions.attributes.engine
    from versions
    left join deliveries as next_delivery
        on versions.last_delivery + 1 = next_delivery.delivery
)

select * from final
