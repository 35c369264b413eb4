"""The whole year of all feeds but the schedule, from the vendor's files to Silver, against totals that others published."""

from typing import Any

from foundation.settings import Settings
from orchestrator.cli.engines import rows
from tests.integration.whole_year.year import FEEDS, Year


def asked(settings: Settings, question: str) -> tuple[Any, ...]:
    """The one row of an answer; `{flights}` and such are Silver's tables."""
    tables = {feed: str(settings.table("silver", feed)) for feed in FEEDS}
    (row,) = rows(settings, "trino", question.format(**tables))
    return tuple(row)


def test_every_row_that_the_vendor_sent_is_accepted(year: Year) -> None:
    for feed, outcome in year.written.items():
        assert not [part.error for part in outcome.parts.values() if part.error], feed
        fates = {fate: sum(part.rows[fate] for part in outcome.parts.values()) for fate in ("accepted", "quarantined")}
        published = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
        assert fates == {"accepted": published[feed], "quarantined": 0}, feed


def test_flights_and_their_gaps_are_those_that_were_published(year: Year) -> None:
    counted = asked(
        year.settings,
        "select count(*), count(distinct flight_date), count_if(dep_time is null), count_if(arr_delay is null), "
        "count_if(origin = 'EWR'), count_if(origin = 'JFK'), count_if(origin = 'LGA'), count_if(tailnum is null) from {flights}",
    )
    assert counted == (336_776, 365, 8_255, 9_430, 120_835, 111_279, 104_662, 2_512)


def test_flights_whose_aircraft_nobody_knows_are_52606(year: Year) -> None:
    question = "select count(*) from {flights} f left join {planes} p on f.tailnum = p.tailnum where p.tailnum is null"
    assert asked(year.settings, question) == (52_606,)


def test_in_silver_every_delay_is_the_difference_of_its_times(year: Year) -> None:
    question = (
        "select count_if(date_diff('minute', scheduled_departure, actual_departure) = dep_delay), "
        "count_if(date_diff('minute', scheduled_arrival, actual_arrival) = arr_delay), count(dep_delay), count(arr_delay), "
        "count_if(date_diff('minute', actual_departure, actual_arrival) >= air_time), count(air_time) from {flights}"
    )
    assert asked(year.settings, question) == (328_521, 327_346, 328_521, 327_346, 327_346, 327_346)
