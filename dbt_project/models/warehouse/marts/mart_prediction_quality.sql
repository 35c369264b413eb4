{{ config(
    unique_key=['month', 'model_version', 'carrier'],
    range_column='month',
    order_by='(month, model_version, carrier)',
    tags=['daily', 'of_predictions'],
) }}

-- Not staged: of all that the warehouse reads, predictions come last, and a view waits for its table.
with predictions as (
    select
        accurateCast(flight_date, 'Date') as flight_date,
        accurateCast(carrier, 'LowCardinality(String)') as carrier,
        accurateCast(flight, 'UInt16') as flight,
        accurateCast(origin, 'LowCardinality(String)') as origin,
        accurateCast(sched_dep_time, 'UInt16') as sched_dep_time,
        accurateCast(model_version, 'UInt32') as model_version,
        accurateCast(delay_probability, 'Float64') as probability
    from {{ source('lake', 'predictions_arrival_delay') }}
    where {{ in_months_of_range('flight_date') }}
),

-- What one could have said of every flight of a month without a model: the share of all months before it.
months as (
    select
        toStartOfMonth(flight_date) as month,
        count(arr_delay) as arrivals,
        countIf(is_delayed) as delayed
    from {{ ref('fct_flights') }}
    group by month
),

base_rates as (
    select
        predicted.month as month,
        sumIf(months.delayed, months.month < predicted.month)
        / nullIf(sumIf(months.arrivals, months.month < predicted.month), 0) as base_rate
    from (select distinct toStartOfMonth(flight_date) as month from predictions) as predicted
    cross join months
    group by predicted.month
),

-- A flight that is not among the facts has not landed yet, or its day has not.
flights as (
    select
        toStartOfMonth(predictions.flight_date) as month,
        predictions.model_version as model_version,
        predictions.carrier as carrier,
        predictions.probability as probability,
        toFloat64(facts.is_delayed) as happened,
        -- a probability of exactly 0 or 1 would cost infinitely much
        least(greatest(predictions.probability, 1e-6), 1 - 1e-6) as said
    from predictions
    left join {{ ref('fct_flights') }} as facts
        on
            predictions.flight_date = facts.flight_date
            and predictions.carrier = facts.carrier
            and predictions.flight = facts.flight
            and predictions.origin = facts.origin
            and predictions.sched_dep_time = facts.sched_dep_time
),

final as (
    select
        flights.month as month,
        flights.model_version as model_version,
        flights.carrier as carrier,
        toUInt32(count()) as predicted,
        toUInt32(count(flights.happened)) as arrivals,
        toUInt32(countIf(flights.happened = 1)) as delayed,
        avg(flights.happened) as observed_rate,
        avg(if(flights.happened is null, null, flights.probability)) as mean_probability,
        avg(pow(flights.probability - flights.happened, 2)) as brier,
        avg(-(flights.happened * log(flights.said) + (1 - flights.happened) * log(1 - flights.said))) as log_loss,
        any(base_rates.base_rate) as base_rate,
        avg(pow(base_rates.base_rate - flights.happened, 2)) as brier_of_base_rate
    from flights
    left join base_rates on flights.month = base_rates.month
    group by flights.month, flights.model_version, flights.carrier
)

select * from final
