"""The warehouse on a real ClickHouse: months and tables are replaced behind their readers' backs, or left as they were."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.environment import exports
from foundation.contract import find_contract
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from orchestrator.manifests import run_dir
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.conftest import SHELL
from tests.integration.dbt_here import assay_dbt_here, plain_dbt_here
from tests.integration.dbt_process import Dbt, start_dbt

# Two months; no other test builds Gold of them.
DAYS = [date(2013, 6, 29), date(2013, 6, 30), date(2013, 7, 1), date(2013, 7, 2)]
JUNE, JULY = 201306, 201307
GOLD = ("flight_facts", "airport_hours", "carriers", "airports", "aircraft")
RUN_FACTS = ("--no-use-colors", "run", "--select", "fct_flights")
MONTHS = "flight_date between date '2013-06-01' and date '2013-07-31'"


def of_days(first: date, last: date) -> dict[str, str]:
    return {"ASSAY_RANGE_START": str(first), "ASSAY_RANGE_END": str(last)}


RANGE = of_days(DAYS[0], DAYS[-1])


@pytest.fixture(scope="module")
def gold(stack: Settings, sensors_wait: None) -> None:
    """Gold of the days, made from files as it always is."""
    for feed in ("airports", "airlines", "planes"):
        contract = find_contract(feed)
        vendor.land(stack, contract)
        ingest(stack, contract, None, {})
        refine(stack, contract, None, {})
    for feed in ("flights", "schedule", "weather"):
        contract = find_contract(feed)
        vendor.land(stack, contract, DAYS)
        ingest(stack, contract, DAYS, {})
        refine(stack, contract, DAYS, {})
    built(stack, "seed", "airports_not_in_feed")
    built(stack, "run", *GOLD)


@pytest.fixture(scope="module")
def warehouse(stack: Settings, gold: None) -> None:
    """Everything of the warehouse, tested by dbt."""
    built(stack, "build", "warehouse")


@pytest.fixture
def facts(stack: Settings, warehouse: None) -> Iterator[dict[int, Any]]:
    """The rows of fct_flights as Gold has them: before the test, and again after it."""
    before, gold_before = months_of(stack), snapshot_of_gold(stack)
    yield before
    if snapshot_of_gold(stack) != gold_before:
        trino(stack, f"alter table lake.gold.flight_facts execute rollback_to_snapshot({gold_before})")
    if months_of(stack) != before:
        built(stack, "run", "fct_flights", "mart_on_time_by_carrier", "--full-refresh")
    assert months_of(stack) == before


def snapshot_of_gold(stack: Settings) -> int | None:
    return current_snapshot_id(load_table(stack, "gold", "flight_facts"))


def built(stack: Settings, verb: str, *selected: str, env: dict[str, str] = RANGE) -> str:
    done = assay_dbt_here(stack, "--shared", verb, "--select", *selected, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(stack: Settings, *selected: str, env: dict[str, str] = RANGE) -> str:
    done = assay_dbt_here(stack, "--shared", "run", "--select", *selected, env=env)
    assert done.returncode != 0, done.stdout
    return done.stdout


def trino(stack: Settings, statement: str) -> list[Any]:
    return [tuple(row) for row in rows(stack, "trino", statement)]


def clickhouse(stack: Settings, statement: str) -> list[Any]:
    return [tuple(row) for row in rows(stack, "clickhouse", statement)]


def months_of(stack: Settings) -> dict[int, Any]:
    """What readers of fct_flights see, by month: rows and a sum over all their columns."""
    if not clickhouse(stack, "select 1 from system.tables where database = 'warehouse' and name = 'fct_flights'"):
        return {}
    found = clickhouse(
        stack,
        "select toYYYYMM(flight_date) as month, count(), sum(cityHash64(toString(tuple(*)))) "
        f"from warehouse.fct_flights where {MONTHS} group by month",
    )
    return {month: (count, total) for month, count, total in found}


def parts_of(stack: Settings) -> list[Any]:
    """The files that fct_flights consists of: they change with anything that is written."""
    return clickhouse(
        stack,
        "select name, modification_time from system.parts "
        "where active and database = 'warehouse' and table = 'fct_flights' order by name",
    )


def asides(stack: Settings) -> list[str]:
    found = clickhouse(
        stack, "select name from system.tables where database = 'warehouse' and name like '%\\_\\_dbt\\_new\\_%'"
    )
    return [name for (name,) in found]


def drop_asides(stack: Settings) -> None:
    for name in asides(stack):
        clickhouse(stack, f"drop table warehouse.{name}")


def plain_dbt(stack: Settings, name: str, env: dict[str, str]) -> tuple[Dbt, Path]:
    """`dbt run --select fct_flights` as a process of its own, without the command line's lock; and its log."""
    folder = run_dir(stack, "clickhouse", name)
    (folder / "dbt.log").unlink(missing_ok=True)
    environment = {**SHELL, **plain_environment(stack, folder, env)}
    return start_dbt(RUN_FACTS, environment, folder / "said.txt"), folder / "dbt.log"


def plain_environment(stack: Settings, folder: Path, env: dict[str, str]) -> dict[str, str]:
    own = {"DBT_TARGET": "clickhouse", "DBT_TARGET_PATH": str(folder), "DBT_LOG_PATH": str(folder)}
    return {**exports(stack), "ASSAY_WRITES_SHARED": "1", **env, **own}


@pytest.mark.usefixtures("warehouse")
def test_facts_have_the_sums_that_trino_finds_in_gold(stack: Settings) -> None:
    question = (
        "select carrier, flight_date, count(*), sum(arr_delay), sum(dep_delay), count(tailnum), sum(distance), "
        "count(aircraft_age_years), sum(cast(flight as bigint)), count(weather_at) "
        "from {} where " + MONTHS + " group by carrier, flight_date order by 1, 2"
    )
    found = clickhouse(stack, question.format("warehouse.fct_flights"))
    assert len({day for _, day, *_ in found} & set(DAYS)) == len(DAYS)
    assert found == trino(stack, question.format("lake.gold.flight_facts"))

    question = (
        "select origin, flight_date, weather_condition, count(*), sum(flights), sum(arrivals), sum(total_arr_delay), "
        "sum(local_hour), count(temp) from {} where " + MONTHS + " group by 1, 2, 3 order by 1, 2, 3"
    )
    hours = clickhouse(stack, question.format("warehouse.fct_airport_hours"))
    assert hours
    assert hours == trino(stack, question.format("lake.gold.airport_hours"))

    for dimension in ("carriers", "airports", "aircraft"):
        (there,) = trino(stack, f"select count(*) from lake.gold.{dimension}")
        assert clickhouse(stack, f"select count() from warehouse.dim_{dimension}") == [there]


@pytest.mark.usefixtures("warehouse")
def test_marts_are_what_a_count_in_python_says(stack: Settings) -> None:
    """Oracle: Gold's rows as Trino reads them, counted one by one without SQL."""
    flights = trino(
        stack,
        "select carrier, origin, dest, sched_dep_time / 100, aircraft_age_years, flight_date, arr_delay, dep_delay, "
        "is_cancelled, tailnum, actual_departure, scheduled_departure, flight "
        f"from lake.gold.flight_facts where {MONTHS}",
    )
    by: dict[str, dict[Any, list[Any]]] = defaultdict(lambda: defaultdict(list))
    legs: dict[Any, list[Any]] = defaultdict(list)
    for row in flights:
        carrier, origin, dest, hour, age, day, late, _, cancelled, tailnum, *_ = row
        month = day.replace(day=1)
        for mart, key in (
            ("carrier", (carrier, month)),
            ("route", (origin, dest, month)),
            ("airport_hour", (origin, hour, month)),
            ("aircraft_age", (age, month)),
        ):
            by[mart][key].append((cancelled, late))
        if not cancelled and tailnum:
            legs[tailnum, day].append(row)

    for mart, columns in (
        ("carrier", "carrier, month"),
        ("route", "origin, dest, month"),
        ("airport_hour", "origin, local_hour, month"),
        ("aircraft_age", "aircraft_age_years, month"),
    ):
        found = clickhouse(
            stack,
            f"select ({columns}), flights, cancelled, arrivals, delayed, on_time_share, mean_arrival_delay "
            f"from warehouse.mart_on_time_by_{mart} where month in (toDate('2013-06-01'), toDate('2013-07-01'))",
        )
        assert {row[0] for row in found} == set(by[mart])
        for key, count, cancelled, arrivals, delayed, share, mean in found:
            group = by[mart][key]
            known = [late for _, late in group if late is not None]
            expected = (len(group), sum(gone for gone, _ in group), len(known), sum(late > 15 for late in known))
            assert (count, cancelled, arrivals, delayed) == expected
            if known:
                assert share == pytest.approx(sum(late <= 15 for late in known) / len(known))
                assert mean == pytest.approx(sum(known) / len(known))
            else:
                assert (share, mean) == (None, None)

    passed_on: dict[Any, list[Any]] = defaultdict(list)
    for (_, day), group in legs.items():
        group.sort(key=lambda row: (row[10], row[11], row[0], row[12], row[1]))
        for number, row in enumerate(group, start=1):
            before = group[number - 2][6] if number > 1 else None
            if number == 1:
                previous = "first leg"
            elif before is None:
                previous = "unknown"
            else:
                previous = "late" if before > 15 else "on time"
            recovered = None if before is None else before - row[7]
            passed_on[number, previous, day.replace(day=1)].append((row[7], recovered))
    found = clickhouse(
        stack,
        "select (leg_of_day, previous_arrival, month), flights, delayed_departures, mean_dep_delay, "
        "mean_minutes_recovered from warehouse.mart_delay_propagation "
        "where month in (toDate('2013-06-01'), toDate('2013-07-01'))",
    )
    assert {row[0] for row in found} == set(passed_on)
    for key, count, delayed, mean, recovered in found:
        group = passed_on[key]
        known = [minutes for _, minutes in group if minutes is not None]
        assert (count, delayed) == (len(group), sum(late > 15 for late, _ in group))
        assert mean == pytest.approx(sum(late for late, _ in group) / len(group))
        assert recovered == (pytest.approx(sum(known) / len(known)) if known else None)


@pytest.mark.usefixtures("warehouse")
def test_weather_impact_is_what_a_count_in_python_says(stack: Settings) -> None:
    hours: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for origin, condition, day, *counts in trino(
        stack,
        "select origin, weather_condition, flight_date, flights, arrivals, total_arr_delay "
        f"from lake.gold.airport_hours where {MONTHS}",
    ):
        for number, count in enumerate(counts):
            hours[origin, condition, day.replace(day=1)][number] += count
    found = clickhouse(
        stack,
        "select (origin, weather_condition, month), flights, arrivals, total_arr_delay, extra_minutes "
        "from warehouse.mart_weather_impact where month in (toDate('2013-06-01'), toDate('2013-07-01'))",
    )
    assert {row[0] for row in found} == set(hours)
    for (origin, condition, month), flights, arrivals, delay, extra in found:
        assert [flights, arrivals, delay] == hours[origin, condition, month]
        _, fair_arrivals, fair_delay = hours.get((origin, "fair", month), (0, 0, 0))
        assert extra == (
            pytest.approx(delay - arrivals * fair_delay / fair_arrivals, abs=1e-6) if fair_arrivals else None
        )


def test_rows_that_break_a_declared_condition_leave_the_table_untouched(stack: Settings, facts: dict[int, Any]) -> None:
    files = parts_of(stack)
    trino(
        stack,
        "update lake.gold.flight_facts set is_cancelled = true "
        "where flight_date = date '2013-07-01' and carrier = 'HA' and arr_delay is not null",
    )
    said = refused(stack, "fct_flights")
    assert "1 new rows break: not (is_cancelled and arr_delay is not null)" in said
    assert "carrier = HA" in said
    assert parts_of(stack) == files
    assert asides(stack) == []


def test_two_rows_of_one_key_leave_the_table_untouched(stack: Settings, facts: dict[int, Any]) -> None:
    files = parts_of(stack)
    trino(
        stack,
        "insert into lake.gold.flight_facts select * from lake.gold.flight_facts "
        "where flight_date = date '2013-06-30' and carrier = 'HA'",
    )
    assert "2 new rows share the key flight_date, carrier, flight, origin, sched_dep_time" in refused(
        stack, "fct_flights", env=of_days(DAYS[1], DAYS[1])
    )
    assert parts_of(stack) == files


def test_a_number_that_does_not_fit_its_type_is_refused_and_not_wrapped_around(
    stack: Settings, facts: dict[int, Any]
) -> None:
    files = parts_of(stack)
    trino(
        stack,
        "update lake.gold.flight_facts set arr_delay = 65536 where flight_date = date '2013-07-01' and carrier = 'HA'",
    )
    assert "cannot be safely converted into type Int16" in refused(stack, "fct_flights")
    assert parts_of(stack) == files
    drop_asides(stack)


def test_a_month_without_rows_is_dropped_and_its_neighbour_stays(stack: Settings, facts: dict[int, Any]) -> None:
    trino(stack, f"delete from lake.gold.flight_facts where {MONTHS} and month(flight_date) = 7")
    built(stack, "run", "fct_flights", "mart_on_time_by_carrier")
    assert months_of(stack) == {JUNE: facts[JUNE]}
    months = clickhouse(
        stack,
        "select distinct month from warehouse.mart_on_time_by_carrier "
        "where month in (toDate('2013-06-01'), toDate('2013-07-01'))",
    )
    assert months == [(date(2013, 6, 1),)]


def test_a_late_day_comes_into_its_month_and_the_others_stay(stack: Settings, facts: dict[int, Any]) -> None:
    trino(stack, "delete from lake.gold.flight_facts where flight_date = date '2013-06-30'")
    built(stack, "run", "fct_flights", env=of_days(DAYS[0], DAYS[0]))
    without = months_of(stack)
    assert without[JULY] == facts[JULY]
    assert without[JUNE] != facts[JUNE]
    built(stack, "run", "flight_facts", env=of_days(DAYS[1], DAYS[1]))
    built(stack, "run", "fct_flights", env=of_days(DAYS[1], DAYS[1]))
    assert months_of(stack) == facts


def test_readers_never_miss_a_row_while_months_and_tables_are_replaced(stack: Settings, facts: dict[int, Any]) -> None:
    total = clickhouse(stack, "select count() from warehouse.fct_flights")
    seen: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.extend(clickhouse(stack, "select count() from warehouse.fct_flights"))
            done.wait(0.02)  # leaves the two cores to the builds

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        built(stack, "run", "fct_flights")
        built(stack, "run", "fct_flights", "--full-refresh")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert len(seen) > 50
    assert set(seen) == set(total)


def test_a_changed_column_is_refused_by_name_until_all_of_the_table_is_built_anew(
    stack: Settings, facts: dict[int, Any]
) -> None:
    clickhouse(stack, "alter table warehouse.fct_flights rename column weather_humid to humidity")
    files = parts_of(stack)
    said = refused(stack, "fct_flights")
    assert "it lacks weather_humid Nullable(Float64)" in said
    assert "It has humidity Nullable(Float64)" in said
    assert "./assay dbt build --shared --full-refresh --select fct_flights" in said
    assert parts_of(stack) == files
    assert asides(stack) == []
    built(stack, "run", "fct_flights", "--full-refresh")
    assert months_of(stack) == facts


def test_two_processes_that_build_a_table_first_both_get_their_month_in_or_say_why_not(
    stack: Settings, facts: dict[int, Any]
) -> None:
    clickhouse(stack, "drop table warehouse.fct_flights sync")
    ranges = {JUNE: of_days(DAYS[0], DAYS[1]), JULY: of_days(DAYS[2], DAYS[3])}
    processes = {month: plain_dbt(stack, f"first_{month}", env)[0] for month, env in ranges.items()}
    said = {month: process.said() for month, process in processes.items()}
    good = {month for month, process in processes.items() if process.ended() == 0}
    assert good, said
    assert months_of(stack) == {month: facts[month] for month in good}
    for month in set(said) - good:
        assert "already exists" in said[month]
    assert asides(stack) == [] or len(good) == 1
    drop_asides(stack)


# What dbt is about to send, or has just sent, when it is killed. The engine may still do what it was sent.
MOMENTS = (
    "create table",
    "insert into",
    "rows_of_key",
    "month_of_rows",
    "replace partition id '201306'",
    "drop table if",
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_killed_anywhere_leaves_each_month_old_or_new(
    stack: Settings, facts: dict[int, Any], moment: str
) -> None:
    clickhouse(
        stack, "alter table warehouse.fct_flights delete where flight_date = '2013-06-30' settings mutations_sync = 2"
    )
    clickhouse(
        stack, "alter table warehouse.fct_flights delete where flight_date = '2013-07-02' settings mutations_sync = 2"
    )
    old = months_of(stack)
    assert old[JUNE] != facts[JUNE]
    assert old[JULY] != facts[JULY]
    kill_at(stack, moment, RANGE)
    found = months_of(stack)
    assert all(found[month] in (old[month], facts[month]) for month in (JUNE, JULY)), moment
    run_again(stack, RANGE)
    assert months_of(stack) == facts
    drop_asides(stack)


@pytest.mark.parametrize("moment", ["insert into", "rename table"])
def test_a_first_build_killed_anywhere_shows_no_table_or_all_of_it(
    stack: Settings, facts: dict[int, Any], moment: str
) -> None:
    clickhouse(stack, "drop table warehouse.fct_flights sync")
    kill_at(stack, moment, {})
    assert months_of(stack) in ({}, facts)
    run_again(stack, {})
    assert months_of(stack) == facts
    drop_asides(stack)


def run_again(stack: Settings, env: dict[str, str]) -> None:
    """The killed call once more, from the state that it left."""
    folder = run_dir(stack, "clickhouse", "killed")
    code, said = plain_dbt_here(RUN_FACTS, plain_environment(stack, folder, env))
    assert code == 0, said


def kill_at(stack: Settings, moment: str, env: dict[str, str]) -> None:
    """Starts a build and kills it as soon as its log shows the statement; then waits for what the engine still does."""
    process, log = plain_dbt(stack, "killed", env)
    until = time.monotonic() + 120
    while not (log.exists() and moment in log.read_text()):
        assert process.ended() is None, f"it ended without {moment}: {process.said()}"
        assert time.monotonic() < until, moment
        time.sleep(0.002)
    process.kill()
    running = (
        "select count() from system.processes "
        "where position(query, 'fct_flights__dbt_new_') > 0 and position(query, 'system.processes') = 0"
    )
    while clickhouse(stack, running) != [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_months_swapped_by_half_are_completed_by_the_next_build(stack: Settings, facts: dict[int, Any]) -> None:
    """The state that a server's death between two months of one ALTER leaves: June new, July old, the aside still there."""
    clickhouse(
        stack, "alter table warehouse.fct_flights delete where flight_date = '2013-07-02' settings mutations_sync = 2"
    )
    left = "fct_flights__dbt_new_20130601000000_0badcafe"
    clickhouse(stack, f"create table warehouse.{left} as warehouse.fct_flights")
    just_made = f"fct_flights__dbt_new_{time.strftime('%Y%m%d%H%M%S', time.gmtime(time.time() + 3600))}_0badcafe"
    clickhouse(stack, f"create table warehouse.{just_made} as warehouse.fct_flights")
    built(stack, "run", "fct_flights")
    assert months_of(stack) == facts
    assert asides(stack) == [just_made], "what an hour-old build left goes; what another one is making stays"
    drop_asides(stack)


@pytest.mark.usefixtures("warehouse")
def test_a_table_without_months_is_exchanged_and_brings_its_descriptions(stack: Settings) -> None:
    before = clickhouse(stack, "select * from warehouse.dim_carriers order by carrier")
    clickhouse(stack, "drop table warehouse.dim_carriers sync")
    clickhouse(stack, "create view warehouse.dim_carriers as select 'it was a view once' as carrier")
    built(stack, "run", "dim_carriers")
    assert clickhouse(stack, "select * from warehouse.dim_carriers order by carrier") == before
    comments = clickhouse(
        stack, "select name, comment from system.columns where database = 'warehouse' and table = 'dim_carriers'"
    )
    assert comments == [("carrier", "IATA code of the carrier."), ("name", "Name.")]
    assert asides(stack) == []
