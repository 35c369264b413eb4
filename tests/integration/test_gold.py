"""Gold on a real Trino: what it says, and how a range of it is replaced, in one commit or not at all.

The tests build in schemas of their own from a copy of Silver, which they may spoil. Oracle: gold_oracle.py.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.environment import exports
from foundation.contract import find_contract
from foundation.lake import open_catalog
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.integration import gold_oracle
from tests.integration.dbt_here import assay_dbt_here, plain_dbt_here
from tests.integration.dbt_process import Dbt, start_dbt

DAYS = [date(2013, 10, number) for number in (1, 2, 3)]
# A flight of the first morning hours is judged by weather of the evening before.
WEATHER_DAYS = [DAYS[0] - timedelta(days=1), *DAYS]
FULL = ("airports", "airlines", "planes")
PREFIX = "gold_tests__"
SILVER, BRONZE, GOLD = (f"lake.{PREFIX}{layer}" for layer in ("silver", "bronze", "gold"))
MODELS = (
    "flight_facts",
    "airport_hours",
    "carrier_history",
    "route_history",
    "aircraft_history",
    "origin_weather",
    "carriers",
    "airports",
)
# aircraft_over_time has a test that makes its Bronze.
WHOLE = "build --select gold --resource-type seed --resource-type model --exclude aircraft_over_time"
AGAIN = "run --select gold --exclude aircraft_over_time"


@dataclass
class Lake:
    """Silver's copy, and the Gold that is made of it."""

    settings: Settings
    scratch: Path
    # The metadata file of each table of Silver and Gold as `remember` found it.
    kept: dict[str, str] = field(default_factory=dict)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in rows(self.settings, "trino", statement)]

    def environment(self, days: Sequence[date], more: Mapping[str, str]) -> dict[str, str]:
        spoken = {**os.environ, **exports(self.settings), "ASSAY_DBT_PREFIX": PREFIX, "ASSAY_SOURCE_PREFIX": PREFIX}
        if days:
            spoken |= {"ASSAY_RANGE_START": str(days[0]), "ASSAY_RANGE_END": str(days[-1])}
        return {**spoken, "DBT_TARGET_PATH": str(self.scratch), "DBT_LOG_PATH": str(self.scratch), **more}

    def start(self, words: str, days: Sequence[date] = (), **more: str) -> Dbt:
        """dbt on Trino as a process of its own."""
        environment = self.environment(days, more)
        command = ["--no-use-colors", *words.split(), "--target", "trino"]
        return start_dbt(command, environment, Path(environment["DBT_TARGET_PATH"]) / "said.txt")

    def dbt(self, words: str, days: Sequence[date] = (), **more: str) -> tuple[int, str]:
        """What dbt on Trino returns and says."""
        command = ["--no-use-colors", *words.split(), "--target", "trino"]
        return plain_dbt_here(command, self.environment(days, more))

    def built(self, words: str, days: Sequence[date] = ()) -> str:
        code, said = self.dbt(words, days)
        assert code == 0, said
        return said

    def refused(self, words: str, days: Sequence[date] = ()) -> str:
        code, said = self.dbt(words, days)
        assert code == 1, said
        return said

    def snapshots(self, table: str) -> list[int]:
        """Every commit of a table, read without Trino."""
        return [one.snapshot_id for one in open_catalog(self.settings).load_table(f"{PREFIX}gold.{table}").snapshots()]

    def tables(self) -> set[str]:
        return {row[0] for row in self.ask(f"show tables from {GOLD}")}

    def by_key(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
        found = self.ask(f"select {', '.join([*keys, *columns])} from {GOLD}.{table}")
        by_key = {row[: len(keys)]: dict(zip(columns, row[len(keys) :], strict=True)) for row in found}
        assert len(by_key) == len(found), "a key stands there twice"
        return by_key

    def remember(self) -> None:
        """What `restore` goes back to."""
        catalog = open_catalog(self.settings)
        for schema in (SILVER, GOLD):
            for name in catalog.list_tables(schema.removeprefix("lake.")):
                self.kept[".".join(name)] = catalog.load_table(name).metadata_location

    def restore(self) -> None:
        """Silver and Gold as they were remembered: each table's name leads to its old metadata file again, whose files no
        commit deletes. Building them again would take half a minute a test."""
        catalog = open_catalog(self.settings)
        for schema in (SILVER, GOLD):
            for (table,) in self.ask(f"show tables from {schema}"):
                if f"{schema}.{table}".removeprefix("lake.") not in self.kept:
                    self.ask(f"drop table {schema}.{table}")
        for name, metadata in self.kept.items():
            if catalog.table_exists(name):
                if catalog.load_table(name).metadata_location == metadata:
                    continue
                catalog.drop_table(name)
            catalog.register_table(name, metadata)

    def take_away(self, table: str) -> None:
        """The table of Gold is not there any more. Its files are, for `restore`: Trino would delete them."""
        open_catalog(self.settings).drop_table(f"{PREFIX}gold.{table}")


def _any_of(days: Sequence[date]) -> str:
    return ", ".join(f"date '{day}'" for day in days)


# What the tests take of each feed of Silver.
SHARE = {
    "flights": f"flight_date in ({_any_of(DAYS)})",
    "schedule": f"flight_date in ({_any_of(DAYS)})",
    "weather": f"observation_date in ({_any_of(WEATHER_DAYS)})",
    **dict.fromkeys(FULL, "true"),
}


@pytest.fixture(scope="module")
def refined(stack: Settings, sensors_wait: None) -> None:
    """The days, in the stack's Silver."""
    for feed, days in (
        *((feed, None) for feed in FULL),
        ("flights", DAYS),
        ("schedule", DAYS),
        ("weather", WEATHER_DAYS),
    ):
        contract = find_contract(feed)
        vendor.land(stack, contract, days or ())
        ingest(stack, contract, days, {})
        refine(stack, contract, days, {})


@pytest.fixture(scope="module")
def copied(stack: Settings, refined: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A copy of these days of Silver, and Gold built of it."""
    lake = Lake(stack, tmp_path_factory.mktemp("dbt"))
    _clear(lake)
    for schema in (SILVER, BRONZE, GOLD):
        lake.ask(f"create schema if not exists {schema}")
    for feed, kept in SHARE.items():
        lake.ask(f"create table {SILVER}.{feed} as select * from {stack.table('silver', feed)} where {kept}")
    lake.ask(f"create table {BRONZE}.planes as select * from {stack.table('bronze', 'planes')} where false")
    lake.built(WHOLE)
    lake.remember()
    yield lake
    _clear(lake)


def _clear(lake: Lake) -> None:
    there = {row[0] for row in lake.ask("show schemas from lake")}
    for schema in (SILVER, BRONZE, GOLD):
        if schema.removeprefix("lake.") in there:
            for (table,) in lake.ask(f"show tables from {schema}"):
                lake.ask(f"drop table {schema}.{table}")
            lake.ask(f"drop schema {schema}")


@pytest.fixture
def spoiled(copied: Lake) -> Iterator[Lake]:
    """The same, for a test that changes Silver or Gold."""
    yield copied
    copied.restore()


def same(found: Mapping[Any, Mapping[str, Any]], truth: Mapping[Any, Mapping[str, Any]]) -> None:
    assert found.keys() == truth.keys()
    for key, expected in truth.items():
        for name, value in expected.items():
            assert found[key][name] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value), (
                key,
                name,
            )


# --- what it says


def test_a_fact_is_what_a_brute_force_search_finds(copied: Lake) -> None:
    truth = gold_oracle.facts(DAYS, WEATHER_DAYS)
    named = {"BQN": "Rafael Hernandez", "PSE": "Mercedita", "SJU": "Luis Munoz Marin Intl", "STT": "Cyril E King"}
    columns = list(next(iter(truth.values())))
    found = copied.by_key(
        "flight_facts", ["flight_date", "carrier", "flight", "origin", "sched_dep_time"], [*columns, "dest"]
    )
    for key, expected in truth.items():
        if expected["dest_name"] == "not in the feed":
            expected["dest_name"] = named[found[key]["dest"]]
    same(found, truth)
    assert sum(expected["weather_at"] is not None for expected in truth.values()) > 2_000


def test_an_hour_of_an_airport_is_what_a_brute_force_count_says(copied: Lake) -> None:
    truth = gold_oracle.airport_hours(DAYS)
    columns = list(next(iter(truth.values())))
    same(copied.by_key("airport_hours", ["flight_date", "origin", "hour_at"], columns), truth)


@pytest.mark.parametrize(
    ("table", "named"),
    [("carrier_history", ["carrier"]), ("route_history", ["origin", "dest"]), ("aircraft_history", ["tailnum"])],
)
def test_a_history_is_what_a_brute_force_count_says(copied: Lake, table: str, named: list[str]) -> None:
    truth = gold_oracle.history(named, DAYS)
    columns = list(next(iter(truth.values())))
    same(copied.by_key(table, [*named, "flight_date"], columns), truth)


def test_a_route_is_named_in_one_word(copied: Lake) -> None:
    question = f"select count(*), count_if(route = concat(origin, '-', dest)) from {GOLD}.route_history"
    ((rows_there, named),) = copied.ask(question)
    assert rows_there == named > 100


def test_the_weather_of_an_hour_is_what_the_station_sent_and_known_when_it_is_over(copied: Lake) -> None:
    truth = gold_oracle.origin_weather(WEATHER_DAYS)
    columns = list(next(iter(truth.values())))
    same(copied.by_key("origin_weather", ["observation_date", "origin", "time_hour"], columns), truth)


def test_descriptions_stand_beside_the_data(copied: Lake) -> None:
    found = dict(copied.ask(f"select column_name, comment from {_columns_of('flight_facts')}"))
    assert found["is_cancelled"] == "Never departed."
    assert all(found.values())


def _columns_of(table: str) -> str:
    return f"lake.information_schema.columns where table_schema = '{PREFIX}gold' and table_name = '{table}'"


def test_an_aircraft_over_time_is_what_its_deliveries_said_and_can_be_replayed(copied: Lake) -> None:
    """A→B→A, an aircraft that leaves the register and returns, two deliveries on one day."""
    one = {row["tailnum"]: int(row["seats"]) for row in vendor.table("planes")[:60]}
    gone, changed = list(one)[7], list(one)[8]
    other = {tailnum: seats for tailnum, seats in one.items() if tailnum != gone} | {changed: 1}
    deliveries = [
        (4, date(2013, 1, 1), one),
        (9, date(2013, 2, 1), other),
        (11, date(2013, 2, 1), one),
        (12, date(2013, 5, 1), other | {"N1": 2}),
    ]
    copied.ask(f"delete from {BRONZE}.planes")
    listed = ", ".join(
        f"('{tailnum}', '{seats}', {sequence}, {number}, date '{day}')"
        for sequence, day, register in deliveries
        for number, (tailnum, seats) in enumerate(register.items(), 1)
    )
    copied.ask(f"insert into {BRONZE}.planes (tailnum, seats, source_sequence, source_row, ds) values {listed}")
    question = f"select tailnum, source_sequence, valid_from, valid_to, seats from {GOLD}.aircraft_over_time"
    copied.built("run --select aircraft_over_time")
    assert set(copied.ask(question)) == gold_oracle.versions(deliveries)
    copied.ask(f"drop table {GOLD}.aircraft_over_time")
    copied.built("run --select aircraft_over_time")
    assert set(copied.ask(question)) == gold_oracle.versions(deliveries)


def test_a_feed_is_overdue_from_the_minute_its_contract_names(copied: Lake) -> None:
    """The newest day of flights is 2013-10-03; that of the 4th is due on the 5th at noon in New York, 16:00 UTC."""
    for now, status in (
        ("2013-10-05T15:59:00Z", "PASS"),
        ("2013-10-05T16:01:00Z", "WARN"),
        ("2013-10-06T16:01:00Z", "ERROR STALE"),
    ):
        _, said = copied.dbt("source freshness --select source:silver.flights", ASSAY_NOW=now)
        assert f"{status} freshness of silver.flights" in said, said


# --- how a range is replaced


def test_a_range_is_one_commit_and_what_did_not_change_is_none(spoiled: Lake) -> None:
    before = {table: spoiled.snapshots(table) for table in MODELS}
    spoiled.built(AGAIN, DAYS)
    assert {table: spoiled.snapshots(table) for table in MODELS} == before, "nothing changed"

    # A row that Silver no longer has must go, a changed one change, the others stay.
    spoiled.ask(f"delete from {SILVER}.flights where flight_date = {_any_of(DAYS[1:2])} and carrier = 'UA'")
    spoiled.ask(
        f"update {SILVER}.flights set arr_delay = 999 where flight_date = {_any_of(DAYS[2:])} and carrier = 'AA'"
    )
    spoiled.built(AGAIN, DAYS)
    for table in MODELS:
        of_flights = table not in ("carriers", "airports", "origin_weather")
        assert len(spoiled.snapshots(table)) == len(before[table]) + of_flights, table

    delays = {row["carrier"]: [] for day in DAYS for row in vendor.flights_by_day()[day]}
    truth: dict[tuple[str, date], tuple[int, int]] = {}
    for day in DAYS:
        for carrier in delays:
            kept = [row for row in vendor.flights_by_day()[day] if row["carrier"] == carrier]
            if kept and (day, carrier) != (DAYS[1], "UA"):
                changed = (day, carrier) == (DAYS[2], "AA")
                minutes = [999 if changed else int(row["arr_delay"] or 0) for row in kept]
                truth[carrier, day] = (len(kept), sum(minutes))
    question = (
        f"select carrier, flight_date, count(*), sum(coalesce(arr_delay, 0)) from {GOLD}.flight_facts group by 1, 2"
    )
    assert {(row[0], row[1]): (row[2], row[3]) for row in spoiled.ask(question)} == truth


def test_a_day_that_silver_lost_is_gone_from_gold_and_a_late_one_comes_back(spoiled: Lake) -> None:
    """As when all rows of a day went to quarantine, and when the vendor sends a good file at last."""
    lost, after = DAYS[1], DAYS[2]
    question = "select count(*) from {} where flight_date = " + _any_of([lost])
    daily = ("flight_facts", "airport_hours", "carrier_history", "route_history", "aircraft_history")
    before = {table: spoiled.ask(f"select * from {GOLD}.{table} order by 1, 2, 3, 4, 5") for table in daily}

    spoiled.ask(f"delete from {SILVER}.flights where flight_date = {_any_of([lost])}")
    # A lost day is in the windows of those after it.
    spoiled.built("run --select tag:daily", [lost, after])
    assert {table: spoiled.ask(question.format(f"{GOLD}.{table}")) for table in daily} == {
        table: [(0,)] for table in daily
    }
    windows = f"select sum(flights_28d) from {GOLD}.carrier_history where flight_date = {_any_of([after])}"
    kept = {row["carrier"] for row in vendor.flights_by_day()[after]}
    assert spoiled.ask(windows) == [
        (sum(row["carrier"] in kept for day in (DAYS[0], after) for row in vendor.flights_by_day()[day]),)
    ]

    original = spoiled.settings.table("silver", "flights")
    spoiled.ask(f"insert into {SILVER}.flights select * from {original} where flight_date = {_any_of([lost])}")
    spoiled.built("run --select tag:daily", [lost, after])
    assert {table: spoiled.ask(f"select * from {GOLD}.{table} order by 1, 2, 3, 4, 5") for table in daily} == before


def test_a_condition_that_new_rows_break_leaves_the_table_as_it_was(spoiled: Lake) -> None:
    before, tables = spoiled.snapshots("flight_facts"), spoiled.tables()
    # The same plan twice makes two rows of one flight; a flight of no distance is none.
    spoiled.ask(
        f"insert into {SILVER}.schedule select * from {SILVER}.schedule "
        f"where carrier = 'AS' and flight_date = {_any_of(DAYS[:1])}"
    )
    spoiled.ask(f"update {SILVER}.flights set distance = 0 where carrier = 'F9' and flight_date = {_any_of(DAYS[:1])}")
    said = spoiled.refused("run --select flight_facts airport_hours", DAYS)
    assert "4 new rows share the key flight_date, carrier, flight, origin, sched_dep_time" in said
    assert "2 new rows break: distance > 0 (a_way_to_go), for example flight_date = 2013-10-01, carrier = F9" in said
    assert f'"lake"."{PREFIX}gold"."flight_facts" was refused its new rows, and the table was left as it was' in said
    assert "Next: correct the data or models/gold/flight_facts.sql" in said
    assert "SKIP relation" in said, "what is made of it must not be built"
    assert (spoiled.snapshots("flight_facts"), spoiled.tables()) == (before, tables)


def test_a_model_whose_columns_changed_is_built_whole_or_refused(spoiled: Lake) -> None:
    spoiled.ask(f"alter table {GOLD}.carrier_history drop column arrivals_28d")
    before = spoiled.snapshots("carrier_history")
    said = spoiled.refused("run --select carrier_history", DAYS)
    assert "it lacks arrivals_28d bigint; the table was left as it was" in said
    assert "./assay dbt build --full-refresh --select carrier_history" in said
    assert spoiled.snapshots("carrier_history") == before

    # The range does not narrow a full refresh.
    spoiled.built("run --full-refresh --select carrier_history", DAYS[:1])
    assert set(spoiled.snapshots("carrier_history")) > set(before[-1:]), "its history stays"
    assert spoiled.ask(f"select count(distinct flight_date) from {GOLD}.carrier_history") == [(len(DAYS),)]
    assert all(comment for (comment,) in spoiled.ask(f"select comment from {_columns_of('carrier_history')}"))


def test_a_range_is_passed_without_parsing_the_project_again(copied: Lake) -> None:
    log = copied.scratch / "dbt.log"
    copied.built("run --select carriers", DAYS[:1])
    log.unlink()
    process = copied.start("run --select carriers", DAYS[1:])
    output = process.said()
    assert process.ended() == 0, output
    said = log.read_text(encoding="utf-8")
    assert "Partial parsing enabled: 0 files deleted, 0 files added, 0 files changed." in said
    assert "full parse" not in said


# --- a table that is new


def test_a_first_build_that_is_refused_leaves_no_table(spoiled: Lake) -> None:
    spoiled.take_away("carriers")
    spoiled.ask(f"insert into {SILVER}.airlines select * from {SILVER}.airlines where carrier = 'UA'")
    said = spoiled.refused("run --select carriers")
    assert "2 new rows share the key carrier, for example carrier = UA" in said
    assert not {table for table in spoiled.tables() if table.startswith("carriers")}


def test_a_first_build_that_is_killed_leaves_no_table_and_the_next_one_tidies_up(spoiled: Lake) -> None:
    spoiled.take_away("flight_facts")
    process = spoiled.start("run --select flight_facts")
    while not (left := {table for table in spoiled.tables() if table.startswith("flight_facts__dbt_new_")}):
        assert process.ended() is None, process.said()
        time.sleep(0.02)
    process.kill()
    assert "flight_facts" not in spoiled.tables()

    # Another process may be at work on what is young; what is a day old was killed.
    old = "flight_facts__dbt_new_20200101000000_0badcafe"
    spoiled.ask(f"create table {GOLD}.{old} (flight integer)")
    spoiled.built("run --select flight_facts")
    assert spoiled.ask(f"select count(*) from {GOLD}.flight_facts") == spoiled.ask(
        f"select count(*) from {SILVER}.flights"
    )
    assert {table for table in spoiled.tables() if table.startswith("flight_facts__")} == left
    spoiled.ask(f"drop table {GOLD}.{left.pop()}")


def test_of_two_first_builds_at_once_one_may_fail_clearly_and_the_table_is_right(spoiled: Lake) -> None:
    spoiled.take_away("airport_hours")
    # Each with a state of its own, as two people have: a shared one would make the second wait or parse.
    second = spoiled.scratch.with_name("second")
    shutil.copytree(spoiled.scratch, second)
    both = [
        spoiled.start("run --select airport_hours"),
        spoiled.start("run --select airport_hours", DBT_TARGET_PATH=str(second), DBT_LOG_PATH=str(second)),
    ]
    said = [process.said() for process in both]
    codes = [process.ended() for process in both]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or "already exists" in text or "Failed to commit" in text, text
    truth = gold_oracle.airport_hours(DAYS)
    same(
        spoiled.by_key("airport_hours", ["flight_date", "origin", "hour_at"], ["flights", "delayed"]),
        {
            key: {name: value for name, value in values.items() if name in ("flights", "delayed")}
            for key, values in truth.items()
        },
    )
    # Who was refused by the engine leaves its rows aside; the first build of the next day drops them.
    left = {table for table in spoiled.tables() if table.startswith("airport_hours")} - {"airport_hours"}
    assert all(table.startswith("airport_hours__dbt_new_") for table in left)
    assert len(left) <= sum(code != 0 for code in codes)


# --- through both engines


@pytest.mark.usefixtures("refined")
def test_the_facts_of_both_engines_are_silvers(stack: Settings) -> None:
    days = ("--days", f"{DAYS[0]}..{DAYS[-1]}")
    tables = ("--resource-type", "seed", "--resource-type", "model")
    for selected in ("+flight_facts", "fct_flights"):
        done = assay_dbt_here(stack, "--shared", "build", *tables, "--select", selected, *days, env={})
        assert done.returncode == 0, done.stdout + done.stderr
    question = (
        "select carrier, flight_date, count(*), sum(arr_delay) from {} "
        f"where flight_date between date '{DAYS[0]}' and date '{DAYS[-1]}' group by carrier, flight_date order by 1, 2"
    )
    truth = [tuple(row) for row in rows(stack, "spark", question.format("lake.silver.flights"))]
    assert [tuple(row) for row in rows(stack, "trino", question.format("lake.gold.flight_facts"))] == truth
    assert [tuple(row) for row in rows(stack, "clickhouse", question.format("warehouse.fct_flights"))] == truth
