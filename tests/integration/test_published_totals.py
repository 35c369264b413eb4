"""The whole year of all feeds but the schedule, from the vendor's files to Silver, against totals that others published.

Tables, landing, archive and ledger are of an environment of their own, so that no other test's files count.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.contract import find_contract
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import SilverWrite, refine
from spark_assets.session import connect

YEAR = [date(2013, 1, 1) + timedelta(days=number) for number in range(365)]
FEEDS = ("airlines", "airports", "planes", "weather", "flights")


class Elsewhere(Settings):
    """The stack's engines and catalog; names, landing, archive and ledger of its own."""

    folder: Path

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"


@pytest.fixture(scope="module")
def year(
    stack: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, dict[str, SilverWrite]]]:
    """Settings whose tables hold the year, and what became of each feed."""
    settings = Elsewhere(home=stack.home, folder=tmp_path_factory.mktemp("year"), ASSAY_ENV="totals")  # pyright: ignore[reportCallIssue]
    written: dict[str, SilverWrite] = {}
    for feed in FEEDS:
        contract = find_contract(feed)
        days = YEAR if contract.days else None
        vendor.land(settings, contract, vendor.days_of(feed) if days else ())
        assert not [part.error for part in ingest(settings, contract, days, {}).parts.values() if part.error]
        written[feed] = refine(settings, contract, days, {})
    yield settings, written
    with connect(settings) as spark:
        for layer in ("bronze", "silver", "quarantine"):
            for feed in FEEDS:
                spark.sql(f"drop table if exists {settings.table(layer, feed)} purge").collect()


def asked(settings: Settings, question: str) -> tuple[Any, ...]:
    """The one row of an answer; `{flights}` and such are Silver's tables."""
    tables = {feed: str(settings.table("silver", feed)) for feed in FEEDS}
    (row,) = rows(settings, "trino", question.format(**tables))
    return tuple(row)


def test_every_row_that_the_vendor_sent_is_accepted(year: tuple[Settings, dict[str, SilverWrite]]) -> None:
    _, written = year
    for feed, outcome in written.items():
        assert not [part.error for part in outcome.parts.values() if part.error], feed
        fates = {fate: sum(part.rows[fate] for part in outcome.parts.values()) for fate in ("accepted", "quarantined")}
        published = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
        assert fates == {"accepted": published[feed], "quarantined": 0}, feed


def test_flights_and_their_gaps_are_those_that_were_published(year: tuple[Settings, dict[str, SilverWrite]]) -> None:
    settings, _ = year
    counted = asked(
        settings,
        "select count(*), count(distinct flight_date), count_if(dep_time is null), count_if(arr_delay is null), "
        "count_if(origin = 'EWR'), count_if(origin = 'JFK'), count_if(origin = 'LGA'), count_if(tailnum is null) from {flights}",
    )
    assert counted == (336_776, 365, 8_255, 9_430, 120_835, 111_279, 104_662, 2_512)


def test_flights_whose_aircraft_nobody_knows_are_52606(year: tuple[Settings, dict[str, SilverWrite]]) -> None:
    settings, _ = year
    question = "select count(*) from {flights} f left join {planes} p on f.tailnum = p.tailnum where p.tailnum is null"
    assert asked(settings, question) == (52_606,)


def test_in_silver_every_delay_is_the_difference_of_its_times(year: tuple[Settings, dict[str, SilverWrite]]) -> None:
    settings, _ = year
    question = (
        "select count_if(date_diff('minute', scheduled_departure, actual_departure) = dep_delay), "
        "count_if(date_diff('minute', scheduled_arrival, actual_arrival) = arr_delay), count(dep_delay), count(arr_delay), "
        "count_if(date_diff('minute', actual_departure, actual_arrival) >= air_time), count(air_time) from {flights}"
    )
    assert asked(settings, question) == (328_521, 327_346, 328_521, 327_346, 327_346, 327_346)
