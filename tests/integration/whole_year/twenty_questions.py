"""Twenty questions that people ask of a year of flights, in the SQL of three engines.

Belongs here: the questions, chosen where engines differ (how they do is said beside each). Does not belong here: the true
answers (year_oracle.py), asking and comparing (test_twenty_questions.py).

One text serves all engines; what they spell in different ways stands in `spelled`, by engine. ClickHouse is asked of the
warehouse, of its marts where one answers; the others of Gold and Silver.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from tests.integration.whole_year import year_oracle as oracle
from tests.integration.whole_year.year_oracle import CHANGES, HISTORY_MONTHS, OTHER_CLOCKS, SNOW, WEATHER_DAYS, Rows


class Spelled(NamedTuple):
    """The same in three dialects."""

    spark: str
    trino: str
    clickhouse: str


def two(lake: str, warehouse: str) -> Spelled:
    """One text for Spark and Trino, on facts, and one for ClickHouse, whose mart has the answer."""
    return Spelled(lake, lake, warehouse)


@dataclass(frozen=True)
class Question:
    """What is asked. `{words}` of the SQL are tables (`TABLES`) or fragments (`spelled`)."""

    name: str
    sql: str | Spelled
    truth: Callable[[], Rows]
    spelled: Mapping[str, Spelled] = field(default_factory=dict)


# By the word used in SQL: layer and table for Spark and Trino, layer and table for ClickHouse.
TABLES = {
    "flights": (("gold", "flight_facts"), ("warehouse", "fct_flights")),
    "hours": (("gold", "airport_hours"), ("warehouse", "fct_airport_hours")),
    "aircraft": (("gold", "aircraft"), ("warehouse", "dim_aircraft")),
    "airports": (("gold", "airports"), ("warehouse", "dim_airports")),
    "route_history": (("gold", "route_history"), ("lake", "gold_route_history")),
    "refined_flights": (("silver", "flights"), ("lake", "silver_flights")),
    "refined_weather": (("silver", "weather"), ("lake", "silver_weather")),
    # ClickHouse only
    "by_carrier": (None, ("warehouse", "mart_on_time_by_carrier")),
    "by_route": (None, ("warehouse", "mart_on_time_by_route")),
    "by_airport_hour": (None, ("warehouse", "mart_on_time_by_airport_hour")),
    "by_aircraft_age": (None, ("warehouse", "mart_on_time_by_aircraft_age")),
    "delay_propagation": (None, ("warehouse", "mart_delay_propagation")),
    "weather_impact": (None, ("warehouse", "mart_weather_impact")),
}

# The questions --------------------------------------------------------------------------------------------------------


def in_new_york(moment: str) -> dict[str, Spelled]:
    """The local hour and day of a UTC moment."""
    return {
        "local_hour": Spelled(
            f"hour(from_utc_timestamp({moment}, 'America/New_York'))",
            f"hour({moment} at time zone 'America/New_York')",
            f"toHour({moment}, 'America/New_York')",
        ),
        "local_day": Spelled(
            f"cast(from_utc_timestamp({moment}, 'America/New_York') as date)",
            f"cast({moment} at time zone 'America/New_York' as date)",
            f"toDate({moment}, 'America/New_York')",
        ),
    }


def minutes(earlier: str, later: str) -> Spelled:
    return Spelled(
        f"timestampdiff(minute, {earlier}, {later})",
        f"date_diff('minute', {earlier}, {later})",
        f"dateDiff('minute', {earlier}, {later})",
    )


def days_in(column: str, days: list[date]) -> str:
    named = ", ".join(f"date '{day}'" for day in days)
    return f"{column} in ({named})"


def percentile(part: str) -> Spelled:
    """Between the two nearest ranks. Trino has only approximate ones: the two neighbours, weighted by how near they are."""
    distance = f"abs(place - 1 - {part}e0 * (arrivals - 1))"
    return Spelled(
        f"percentile(arr_delay, {part})",
        f"sum(arr_delay * (1 - {distance})) filter (where {distance} < 1)",
        f"quantileExactInclusive({part})(arr_delay)",
    )


def four_weeks(day: str) -> str:
    """A range of 28 days by the day's number: routes have days without a flight, so rows would not do."""
    return f"""
    with days as (
        select
            dest, flight_date, count(*) as flights, count(arr_delay) as arrivals,
            count(*) filter (where is_delayed) as delayed, sum(arr_delay) as minutes
        from {{flights}}
        where origin = 'LGA'
        group by dest, flight_date
    ),

    history as (
        select
            dest, flight_date, flights,
            sum(flights) over weeks as flights_28d,
            sum(arrivals) over weeks as arrivals_28d,
            sum(delayed) over weeks as delayed_28d,
            sum(minutes) over weeks as minutes_28d
        from days
        window weeks as (partition by dest order by {day} range between 27 preceding and current row)
    )

    select
        dest, flight_date, flights, flights_28d, arrivals_28d,
        delayed_28d * 1e0 / nullif(arrivals_28d, 0), minutes_28d * 1e0 / nullif(arrivals_28d, 0)
    from history
    where month(flight_date) in {HISTORY_MONTHS}
    """


# ClickHouse fills what a left join does not find with zeros and empty text, unless told otherwise.
JOIN_NULLS = Spelled("", "", "settings join_use_nulls = 1")

QUESTIONS = [
    Question(
        "weather_known_before_departure",
        """
        select
            origin, month(flight_date), count(*), count(weather_at),
            sum({age}), min({age}), max({age}), max(weather_at),
            sum(weather_temp), avg(weather_wind_speed), count(weather_pressure)
        from {flights}
        group by origin, month(flight_date)
        """,
        oracle.weather_before_departure,
        {"age": minutes("weather_at", "scheduled_departure")},
    ),
    Question(
        "weather_flight_by_flight",
        f"""
        select
            flight_date, carrier, flight, origin, sched_dep_time, scheduled_departure,
            weather_at, weather_temp, weather_wind_speed, weather_visib
        from {{flights}}
        where {days_in("flight_date", WEATHER_DAYS)}
        """,
        oracle.weather_flight_by_flight,
    ),
    Question(
        "what_weather_costs",
        two(
            """
            with conditions as (
                select
                    origin, weather_condition, month(flight_date) as month_of_year,
                    sum(flights) as flights, sum(cancelled) as cancelled, sum(arrivals) as arrivals,
                    sum(delayed) as delayed, sum(total_arr_delay) as minutes
                from {hours}
                group by origin, weather_condition, month(flight_date)
            ),

            compared as (
                select
                    *,
                    sum(case when weather_condition = 'fair' then minutes end) over of_month * 1e0
                    / sum(case when weather_condition = 'fair' then arrivals end) over of_month as fair
                from conditions
                window of_month as (partition by origin, month_of_year)
            )

            select
                origin, weather_condition, month_of_year, flights, cancelled, arrivals, delayed, minutes,
                minutes - arrivals * fair, minutes * 1e0 / nullif(arrivals, 0)
            from compared
            """,
            """
            select
                origin, weather_condition, toMonth(month), flights, cancelled, arrivals, delayed, total_arr_delay,
                extra_minutes, mean_arrival_delay
            from {weather_impact}
            """,
        ),
        oracle.what_weather_costs,
    ),
    Question(
        # ClickHouse's uniq() is approximate, count(distinct) is not; a null is no value of its own to any of them.
        "how_many_different",
        """
        select
            carrier, count(distinct tailnum), count(distinct coalesce(tailnum, '?')), count(distinct dest),
            count(distinct concat(origin, dest)), count(distinct flight_date)
        from {flights}
        group by carrier
        """,
        oracle.how_many_different,
    ),
    Question(
        "percentiles",
        """
        with ranked as (
            select
                carrier, arr_delay,
                row_number() over (partition by carrier order by arr_delay) as place,
                count(*) over (partition by carrier) as arrivals
            from {flights}
            where arr_delay is not null
        )

        select
            carrier, count(*), min(arr_delay) filter (where place * 10 >= arrivals * 9),
            {half}, {nine_tenths}, {ninety_nine}
        from ranked
        group by carrier
        """,
        oracle.percentiles,
        {"half": percentile("0.5"), "nine_tenths": percentile("0.9"), "ninety_nine": percentile("0.99")},
    ),
    Question(
        "most_cancelled_routes_with_ties",
        two(
            """
            with routes as (
                select
                    month(flight_date) as month_of_year, origin, dest,
                    count(*) filter (where is_cancelled) as cancelled
                from {flights}
                group by month(flight_date), origin, dest
            ),

            ranked as (
                select
                    month_of_year, origin, dest, cancelled,
                    rank() over (partition by month_of_year order by cancelled desc) as place,
                    dense_rank() over (partition by month_of_year order by cancelled desc) as dense
                from routes
            )

            select month_of_year, origin, dest, cancelled, place, dense from ranked where place <= 10
            """,
            """
            with ranked as (
                select
                    toMonth(month), origin, dest, cancelled,
                    rank() over (partition by month order by cancelled desc) as place,
                    dense_rank() over (partition by month order by cancelled desc)
                from {by_route}
            )

            select * from ranked where place <= 10
            """,
        ),
        oracle.most_cancelled_routes,
    ),
    Question(
        # ClickHouse writes '' and 0 into the columns that a subtotal sums over, unless told otherwise.
        "totals_and_subtotals",
        two(
            """
            select
                carrier, month_of_year, count(*), count(*) filter (where is_cancelled), count(arr_delay),
                count(*) filter (where is_delayed), 1 - count(*) filter (where is_delayed) * 1e0 / count(arr_delay)
            from (select *, month(flight_date) as month_of_year from {flights}) as flights
            group by rollup (carrier, month_of_year)
            """,
            """
            select
                carrier, toMonth(month) as month_of_year, sum(flights), sum(cancelled), sum(arrivals), sum(delayed),
                1 - sum(delayed) / sum(arrivals)
            from {by_carrier}
            group by rollup (carrier, month_of_year)
            settings group_by_use_nulls = 1
            """,
        ),
        oracle.totals_and_subtotals,
    ),
    Question(
        "does_a_late_arrival_delay_the_next",
        two(
            """
            with departures as (
                select
                    month(flight_date) as month_of_year, dep_delay,
                    row_number() over legs as leg,
                    lag(is_delayed) over legs as was_late,
                    lag(arr_delay) over legs as earlier
                from {flights}
                where not is_cancelled and tailnum is not null
                window legs as (
                    partition by tailnum, flight_date
                    order by actual_departure, scheduled_departure, carrier, flight, origin
                )
            ),

            named as (
                select
                    *,
                    case
                        when leg = 1 then 'first leg'
                        when was_late is null then 'unknown'
                        when was_late then 'late'
                        else 'on time'
                    end as previous
                from departures
            )

            select
                leg, previous, month_of_year, count(*), count(*) filter (where dep_delay > 15), avg(dep_delay),
                avg(earlier - dep_delay)
            from named
            group by leg, previous, month_of_year
            """,
            """
            select
                leg_of_day, previous_arrival, toMonth(month), flights, delayed_departures, mean_dep_delay,
                mean_minutes_recovered
            from {delay_propagation}
            """,
        ),
        oracle.does_a_late_arrival_delay_the_next,
    ),
    Question(
        # Without a frame a running total counts the peers of a row: all that have the same place in the order.
        "how_the_day_builds_up",
        """
        with hours as ({july})

        select
            origin, local_hour, flights, delayed,
            sum(delayed) over (partition by origin order by local_hour),
            sum(delayed) over (partition by origin order by local_hour) * 1e0 / sum(delayed) over (partition by origin),
            sum(delayed) over (order by local_hour)
        from hours
        """,
        oracle.how_the_day_builds_up,
        {
            "july": two(
                "select origin, local_hour, sum(flights) as flights, sum(delayed) as delayed from {hours} "
                "where flight_date between date '2013-07-01' and date '2013-07-31' group by origin, local_hour",
                "select origin, local_hour, flights, delayed from {by_airport_hour} where month = date '2013-07-01'",
            )
        },
    ),
    Question(
        # Trino answers from Gold's own table; Spark and ClickHouse make the window themselves.
        "four_weeks_of_a_route",
        Spelled(
            four_weeks("unix_date(flight_date)"),
            f"""
            select
                dest, flight_date, flights, flights_28d, arrivals_28d, delayed_share_28d, mean_arrival_delay_28d
            from {{route_history}}
            where origin = 'LGA' and month(flight_date) in {HISTORY_MONTHS}
            """,
            four_weeks("flight_date"),
        ),
        oracle.four_weeks_of_a_route,
    ),
    Question(
        # least and greatest: with a null, Trino says null, Spark and ClickHouse the other value; each is asked for the other.
        "gaps",
        f"""
        select
            flight_date, carrier, count(*), count(arr_delay),
            count(*) filter (where arr_delay > 15),
            count(*) filter (where not (arr_delay > 15)),
            count(*) filter (where arr_delay <> dep_delay),
            count(*) filter (where arr_delay is distinct from dep_delay),
            sum(arr_delay),
            sum(least(coalesce(arr_delay, dep_delay), coalesce(dep_delay, arr_delay))),
            sum(greatest(coalesce(arr_delay, dep_delay), coalesce(dep_delay, arr_delay))),
            avg(arr_delay),
            count(nullif(dep_delay, 0)),
            sum(coalesce(arr_delay, 0)),
            count(*) filter (where tailnum not in ('N725MQ', 'N722MQ')),
            count(*) filter (where concat(tailnum, dest) is null)
        from {{flights}}
        where flight_date between date '{SNOW[0]}' and date '{SNOW[1]}'
        group by flight_date, carrier
        """,
        oracle.gaps,
    ),
    Question(
        # Unsaid, nulls come first in Spark and last in Trino and ClickHouse.
        "where_gaps_are_sorted",
        f"""
        select
            carrier, flight, sched_dep_time,
            row_number() over (order by arr_delay desc nulls first, carrier, flight, sched_dep_time),
            row_number() over (order by arr_delay nulls last, carrier, flight, sched_dep_time),
            last_value(arr_delay) ignore nulls over (
                order by sched_dep_time, carrier, flight rows between unbounded preceding and 1 preceding
            )
        from {{flights}}
        where flight_date = date '{SNOW[0]}' and origin = 'LGA'
        """,
        oracle.where_gaps_are_sorted,
    ),
    Question(
        # Of no rows, ClickHouse's max of a column that has no nulls is 0, Trino's and Spark's null. And in a where, a
        # name without its table means to ClickHouse what the select calls so: here it would be true of every row.
        "days_without_flights",
        """
        with days as (
            select distinct flight_date from {flights}
        ),

        rare as (
            select distinct carrier from {flights} where carrier in ('F9', 'HA', 'OO', 'YV')
        ),

        calendar as (
            select days.flight_date, rare.carrier from days cross join rare
        ),

        counted as (
            select
                'calendar' as how, calendar.carrier as carrier, calendar.flight_date as flight_date,
                count(found.flight) as flights, count(*) filter (where found.is_cancelled) as cancelled,
                max(found.distance) as furthest, sum(found.arr_delay) as late_by, avg(found.dep_delay) as mean_delay
            from calendar
            left join {flights} as found
                on calendar.flight_date = found.flight_date and calendar.carrier = found.carrier
            group by calendar.carrier, calendar.flight_date
        ),

        nothing as (
            select
                'nothing' as how, 'OO' as carrier, date '2013-01-01' as flight_date,
                count(found.flight) as flights, count(*) filter (where found.is_cancelled) as cancelled,
                {furthest} as furthest, sum(found.arr_delay) as late_by, avg(found.dep_delay) as mean_delay
            from {flights} as found
            where found.flight_date = date '2013-01-01' and found.carrier = 'OO'
        )

        select how, carrier, flight_date, flights, cancelled, furthest, late_by, mean_delay from counted
        union all
        select how, carrier, flight_date, flights, cancelled, furthest, late_by, mean_delay from nothing
        {join_nulls}
        """,
        oracle.days_without_flights,
        {
            "furthest": Spelled("max(found.distance)", "max(found.distance)", "maxOrNull(found.distance)"),
            "join_nulls": JOIN_NULLS,
        },
    ),
    Question(
        "by_age_of_aircraft",
        two(
            """
            select
                aircraft_age_years, month(flight_date), count(*), count(*) filter (where is_cancelled),
                count(arr_delay), count(*) filter (where is_delayed),
                1 - count(*) filter (where is_delayed) * 1e0 / nullif(count(arr_delay), 0), avg(arr_delay)
            from {flights}
            group by aircraft_age_years, month(flight_date)
            """,
            """
            select
                aircraft_age_years, toMonth(month), flights, cancelled, arrivals, delayed, on_time_share,
                mean_arrival_delay
            from {by_aircraft_age}
            """,
        ),
        oracle.by_age_of_aircraft,
    ),
    Question(
        "who_built_the_aircraft",
        """
        with built as (
            select
                flights.tailnum as tailnum, flights.distance as distance,
                {first_word} as maker, replace(lower(aircraft.engine), '-', ' ') as kind
            from {flights} as flights
            left join {aircraft} as aircraft on flights.tailnum = aircraft.tailnum
        )

        select
            concat(substring(maker, 1, 1), lower(substring(maker, 2))), kind, count(*), count(distinct tailnum),
            sum(distance)
        from built
        group by maker, kind
        {join_nulls}
        """,
        oracle.who_built_the_aircraft,
        {
            "first_word": Spelled(
                "split_part(aircraft.manufacturer, ' ', 1)",
                "split_part(aircraft.manufacturer, ' ', 1)",
                "substringIndex(aircraft.manufacturer, ' ', 1)",
            ),
            "join_nulls": JOIN_NULLS,
        },
    ),
    Question(
        "when_the_clocks_change",
        f"""
        with moments as (
            select 'departure' as what, scheduled_departure as moment from {{flights}}
            where {days_in("flight_date", CHANGES)}
            union all
            select 'arrival' as what, scheduled_arrival as moment from {{flights}}
            where {days_in("flight_date", CHANGES)}
            union all
            select 'weather' as what, time_hour as moment from {{refined_weather}}
            where {days_in("observation_date", CHANGES)}
        ),

        placed as (
            select what, date_trunc('hour', moment) as utc_hour, {{local_day}} as local_day, {{local_hour}} as local_hour
            from moments
        )

        select what, utc_hour, local_day, local_hour, count(*)
        from placed
        group by what, utc_hour, local_day, local_hour
        """,
        oracle.when_the_clocks_change,
        in_new_york("moment"),
    ),
    Question(
        "at_midnight",
        """
        select flight_date, carrier, flight, origin, dep_time, arr_time, actual_departure, actual_arrival
        from {refined_flights}
        where dep_time = 2400 or arr_time = 2400
        """,
        oracle.at_midnight,
    ),
    Question(
        "where_clocks_do_not_change",
        f"""
        select
            flights.dest, airports.name, month(flights.flight_date), count(*), sum({{planned}}),
            max(flights.scheduled_arrival)
        from {{flights}} as flights
        left join {{airports}} as airports on flights.dest = airports.faa
        where flights.dest in {tuple(OTHER_CLOCKS)}
        group by flights.dest, airports.name, month(flights.flight_date)
        {{join_nulls}}
        """,
        oracle.where_clocks_do_not_change,
        {
            "planned": minutes("flights.scheduled_departure", "flights.scheduled_arrival"),
            "join_nulls": JOIN_NULLS,
        },
    ),
    Question(
        "day_by_day",
        """
        select
            flight_date, {week}, {weekday}, quarter(flight_date), cast(date_trunc('week', flight_date) as date),
            {last_day}, {month_later}, {left}, count(*),
            count(*) filter (where month(scheduled_departure) <> month(flight_date))
        from {flights}
        group by flight_date
        """,
        oracle.day_by_day,
        {
            "week": Spelled("weekofyear(flight_date)", "week(flight_date)", "toISOWeek(flight_date)"),
            "weekday": Spelled("weekday(flight_date) + 1", "day_of_week(flight_date)", "toDayOfWeek(flight_date)"),
            "last_day": Spelled("last_day(flight_date)", "last_day_of_month(flight_date)", "last_day(flight_date)"),
            "month_later": Spelled(
                "add_months(flight_date, 1)", "date_add('month', 1, flight_date)", "addMonths(flight_date, 1)"
            ),
            "left": Spelled(
                "date_diff(date '2013-12-31', flight_date)",
                "date_diff('day', flight_date, date '2013-12-31')",
                "dateDiff('day', flight_date, date '2013-12-31')",
            ),
        },
    ),
    Question(
        # `/` is whole in Trino and not elsewhere; ClickHouse rounds halves of floats to even, of decimals away from zero;
        # 60.0 is a decimal to Trino, which keeps one digit of the quotient, 60e0 a float to all.
        "delays_in_hours",
        """
        select
            arr_delay, {quotient}, arr_delay % 60, floor(arr_delay / 60e0), {halved}, arr_delay / 60e0, count(*)
        from {flights}
        where arr_delay is not null
        group by arr_delay
        """,
        oracle.delays_in_hours,
        {
            "quotient": Spelled("arr_delay div 60", "arr_delay / 60", "intDiv(arr_delay, 60)"),
            "halved": Spelled(
                "round(arr_delay / 2e0)", "round(arr_delay / 2e0)", "round(toDecimal32(arr_delay, 1) / 2)"
            ),
        },
    ),
]
