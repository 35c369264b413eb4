"""Going back: the table as it was, the days that changed told to Dagster, and automation off and on.

Days of its own: 2013-12-20 to 24.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import dagster as dg
import pytest
from rich.console import Console

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake import vendor
from orchestrator.automation import any_partition
from orchestrator.cli.engines import rows
from orchestrator.cli.pausing import look
from orchestrator.cli.rollback import roll_back
from spark_assets.bronze import ingest
from spark_assets.maintenance import compact
from spark_assets.publish import refine
from spark_assets.rollback import set_current, states
from spark_assets.session import connect
from tests.conftest import Assay
from tests.integration.test_lake import rewritten

pytestmark = pytest.mark.usefixtures("sensors_wait")

FLIGHTS = find_contract("flights")
DAYS = [date(2013, 12, number) for number in (20, 21, 22)]
CORRECTED = DAYS[1]
KEY = dg.AssetKey(["silver", "flights"])


@contextmanager
def instance_of(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def counts(settings: Settings) -> dict[date, int]:
    question = (
        "select flight_date, count(*) from lake.silver.flights where flight_date between date '2013-12-20' and "
        "date '2013-12-24' group by flight_date"
    )
    return {row[0]: row[1] for row in rows(settings, "trino", question)}


def rolled_back(settings: Settings, snapshot_id: int) -> str:
    """What a person is told; in this process, which has its Spark session already."""
    told = io.StringIO()
    roll_back(settings, Console(file=told, width=200), "silver/flights", snapshot_id)
    return told.getvalue()


def current(settings: Settings) -> int:
    found = load_table(settings, "silver", "flights").metadata.current_snapshot_id
    assert found is not None
    return found


def events_of(settings: Settings, before: int, after: int) -> dict[str | None, int]:
    """The days of a rollback's events, and the rows that they tell."""
    with instance_of(settings) as instance:
        records = instance.fetch_materializations(KEY, limit=50).records
    found: dict[str | None, int] = {}
    for record in records:
        assert record.asset_materialization is not None
        said = {name: value.value for name, value in record.asset_materialization.metadata.items()}
        if (said.get("rolled_back_from"), said.get("snapshot_id")) == (str(before), str(after)):
            assert record.partition_key not in found, "one event a day"
            found[record.partition_key] = int(str(said["rows"]))
    return found


@pytest.fixture(scope="module")
def versions(stack: Settings, sensors_wait: None) -> tuple[int, int]:
    """The snapshots of Silver with three days as sent, and with a correction that lost most rows of the second."""
    files = dict(zip(DAYS, vendor.land(stack, FLIGHTS, DAYS), strict=True))
    ingest(stack, FLIGHTS, DAYS, {})
    refine(stack, FLIGHTS, DAYS, {"dagster.run_id": "as-sent"})
    good = current(stack)
    rewritten(files[CORRECTED], lambda lines: lines[:10])
    ingest(stack, FLIGHTS, DAYS, {})
    # All three days are written again; only one has other rows.
    refine(stack, FLIGHTS, DAYS, {"dagster.run_id": "corrected"})
    return good, current(stack)


def test_a_rollback_is_seen_by_readers_and_told_for_the_days_whose_rows_changed(
    stack: Settings, assay: Assay, versions: tuple[int, int]
) -> None:
    good, bad = versions
    as_sent = {day: len(vendor.flights_by_day()[day]) for day in DAYS}
    assert counts(stack) == {**as_sent, CORRECTED: 10}

    listed = assay("rollback", "silver/flights").stdout.splitlines()
    assert re.match(rf"now +{bad} .*corrected", listed[1])
    assert re.match(rf" +{good} .*as-sent", listed[2])

    done = assay("rollback", "silver/flights", "--to", str(good))
    assert done.returncode == 0, done.stderr
    assert counts(stack) == as_sent
    assert events_of(stack, bad, good) == {str(CORRECTED): as_sent[CORRECTED]}

    assert "already" in rolled_back(stack, good)
    assert events_of(stack, bad, good) == {str(CORRECTED): as_sent[CORRECTED]}

    assert f"is at snapshot {bad} now" in rolled_back(stack, bad)
    assert counts(stack)[CORRECTED] == 10
    assert events_of(stack, good, bad) == {str(CORRECTED): 10}


def test_a_rollback_that_was_killed_before_its_events_records_them_when_it_is_typed_again(
    stack: Settings, versions: tuple[int, int]
) -> None:
    """Also after compaction: its snapshot has other files, and the same rows."""
    with connect(stack) as spark:
        set_current(spark, stack.table("silver", "flights"), versions[0])
        set_current(spark, stack.table("silver", "flights"), (empty := first(stack)))
        compact(spark, stack.table("silver", "flights"))
    assert events_of(stack, versions[0], empty) == {}
    assert "Recorded" in rolled_back(stack, empty)
    assert set(events_of(stack, versions[0], empty)) >= {str(day) for day in DAYS}
    assert set(events_of(stack, versions[0], empty).values()) == {0}
    rolled_back(stack, versions[0])
    assert counts(stack) == {day: len(vendor.flights_by_day()[day]) for day in DAYS}


def first(settings: Settings) -> int:
    """The empty snapshot that a table begins with."""
    return load_table(settings, "silver", "flights").metadata.snapshot_log[0].snapshot_id


def test_what_is_made_of_a_rolled_back_day_is_asked_for_by_automation(
    stack: Settings, versions: tuple[int, int]
) -> None:
    """On a graph of two: the real one would ask for whatever else is out of date on a shared stack."""
    days = dg.DailyPartitionsDefinition("2013-12-01", end_date="2014-01-01")

    @dg.asset(key=KEY, partitions_def=days)
    def silver() -> None: ...

    @dg.asset(deps=[KEY], partitions_def=days, automation_condition=any_partition())
    def child() -> None: ...

    definitions = dg.Definitions(assets=[silver, child])
    rolled_back(stack, versions[0])
    with instance_of(stack) as instance:
        before = dg.evaluate_automation_conditions(definitions, instance)
        for day in DAYS:  # as if made once: then only what changes is asked for
            instance.report_runless_asset_event(dg.AssetMaterialization("child", partition=str(day)))
        between = dg.evaluate_automation_conditions(definitions, instance, cursor=before.cursor)
        assert between.get_num_requested(dg.AssetKey("child")) == 0
        rolled_back(stack, versions[1])
        after = dg.evaluate_automation_conditions(definitions, instance, cursor=between.cursor)
        assert after.get_requested_partitions(dg.AssetKey("child")) == {str(CORRECTED)}
        instance.wipe_assets([dg.AssetKey("child")])


def test_what_cannot_be_rolled_back_is_refused_with_what_to_type(
    stack: Settings, assay: Assay, versions: tuple[int, int]
) -> None:
    before = current(stack)
    unknown = assay("rollback", "silver/flights", "--to", "4711")
    assert unknown.returncode == 1
    assert "no snapshot 4711" in unknown.stderr and "./assay rollback silver/flights" in unknown.stderr
    table = assay("rollback", "warehouse/fct_flights")
    assert table.returncode == 1
    assert "silver/flights" in table.stderr and "bronze, silver, quarantine, gold, models, predictions" in table.stderr
    assert current(stack) == before


def test_a_state_that_failed_its_checks_on_a_branch_cannot_be_rolled_back_to(
    stack: Settings, versions: tuple[int, int]
) -> None:
    name = stack.table("silver", "flights")
    for statement in (
        f"alter table {name} create or replace branch rejected",
        f"delete from {name}.branch_rejected where flight_date = date '2013-12-20'",
    ):
        list(rows(stack, "spark", statement))
    rejected = load_table(stack, "silver", "flights").metadata.refs["rejected"].snapshot_id
    try:
        with pytest.raises(AssayError, match="that readers have seen"):
            rolled_back(stack, rejected)
        assert rejected not in [state.snapshot_id for state in states(load_table(stack, "silver", "flights"))]
    finally:
        list(rows(stack, "spark", f"alter table {name} drop branch rejected"))


def test_a_rollback_waits_for_the_tables_writer(
    stack: Settings, versions: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.rollback.WAIT_SECONDS", 0.5)
    before = current(stack)
    with writer_lock(stack, "silver.flights"), pytest.raises(AssayError, match=r"silver\.flights is held by process"):
        rolled_back(stack, versions[0])
    assert current(stack) == before


def test_pause_stops_every_sensor_and_resume_starts_them_and_both_may_be_typed_twice(
    stack: Settings, assay: Assay
) -> None:
    names = {"automation", "landing_flights", "landing_schedule"}
    try:
        done = assay("pause")
        assert done.returncode == 0, done.stderr
        assert look(stack).paused
        assert all(name in done.stdout for name in names)
        assert "paused already" in assay("pause").stdout
        assert "Automation is paused" in assay("status").stdout
        with instance_of(stack) as instance:
            states = {state.instigator_name: state.status.value for state in instance.all_instigator_state()}
        assert {states[name] for name in names} == {"STOPPED"}, "kept in the instance, so over down and up"
    finally:
        going = assay("resume")
    assert going.returncode == 0, going.stderr
    assert {switch.name for switch in look(stack).switches if switch.running} >= names
    assert "on already" in assay("resume").stdout
    assert "Automation is on" in assay("status").stdout


def test_pause_without_services_says_what_to_type(stack: Settings, assay: Assay) -> None:
    nowhere = stack.home.parent / f"{stack.home.name}_nowhere"
    (nowhere / "services").mkdir(parents=True, exist_ok=True)
    (nowhere / "services" / "addresses.json").write_text(json.dumps({"dagster": 9}))
    refused = assay("pause", env={"ASSAY_HOME": str(nowhere)})
    assert refused.returncode == 1
    assert "./assay up" in refused.stderr
