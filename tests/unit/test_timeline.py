"""Which partitions belong together is what Dagster says, and what is due follows from the contracts of the real graph."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from foundation.contract import load_contracts
from orchestrator.timeline import GOES_ON_WITHOUT, GRACE, Timeline
from tests.unit.status_world import graph

DAY = timedelta(days=1)


@pytest.fixture
def real(definitions: dg.Definitions) -> Timeline:
    return Timeline(definitions.resolve_asset_graph(), load_contracts())


def listed(times: Timeline, key: dg.AssetKey) -> list[str]:
    there = times.partitions(key)
    assert there is not None
    return [part for part, expected in zip(there.keys, times.expected(key), strict=True) if expected]


@pytest.mark.parametrize("which", ["small", "real"])
def test_what_a_partition_reads_is_what_dagster_says(which: str, request: pytest.FixtureRequest) -> None:
    times = Timeline(graph(), {}) if which == "small" else request.getfixturevalue("real")
    compared = 0
    for key in times.graph.get_all_asset_keys():
        mine = times.partitions(key)
        for parent in times.parents(key):
            theirs = times.partitions(parent)
            if mine is None or theirs is None:
                continue
            edge = times.edge(key, parent)
            mapping = times.graph.get_partition_mapping(key, parent)
            other_unit = times.graph.get(key).partitions_def != times.graph.get(parent).partitions_def
            if other_unit and mapping != dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True):
                continue  # an offset in another unit: see the next test
            for position in sorted({*range(0, len(mine.keys), 45), min(31, len(mine.keys) - 1), len(mine.keys) - 1}):
                asked = times.graph.get_parent_partition_keys_for_child(mine.keys[position], parent, key)
                told = {theirs.keys[one] for one in edge.reads[position]}
                assert told == set(asked.partitions_subset.get_partition_keys()), (key, parent, mine.keys[position])
                own = {theirs.keys[one] for one in edge.own[position]}
                needed = parent.to_user_string() not in times.graph.get(key).metadata.get(GOES_ON_WITHOUT, ())
                assert own == {one for one in told if needed and overlaps(times, key, mine.keys[position], parent, one)}
                compared += 1
    assert compared > 20


def test_the_month_before_a_day_is_that_of_its_month(real: Timeline) -> None:
    drift, training = (
        dg.AssetKey(["monitoring", "arrival_delay_drift"]),
        dg.AssetKey(["models", "arrival_delay_training_set"]),
    )
    mine, theirs = real.partitions(drift), real.partitions(training)
    assert mine is not None
    assert theirs is not None
    edge = real.edge(drift, training)
    for day, months in (("2013-01-10", []), ("2013-02-01", ["2013-01-01"]), ("2013-03-31", ["2013-02-01"])):
        assert [theirs.keys[one] for one in edge.reads[mine.position[day]]] == months
        assert not edge.own[mine.position[day]]


def overlaps(times: Timeline, key: dg.AssetKey, part: str, parent: dg.AssetKey, other: str) -> bool:
    one, two = (
        times.graph.get(asset).partitions_def.time_window_for_partition_key(name)
        for asset, name in ((key, part), (parent, other))
    )
    return one.start < two.end and two.start < one.end


def test_of_the_year_every_table_has_the_days_that_it_can_have(real: Timeline) -> None:
    year = [str(date(2013, 1, 1) + number * DAY) for number in range(365)]
    expected: dict[str, Sequence[str]] = {
        "silver/flights": year,
        "silver/weather": year[:-1],  # the last day of it is not there
        "gold/flight_facts": year,
        "gold/origin_weather": year[:-1],
        "features/aircraft_history": year,
        "models/arrival_delay_training_set": [f"2013-{month:02}-01" for month in range(1, 13)],
        "models/arrival_delay": [f"2013-{month:02}-01" for month in range(2, 13)],
        "predictions/arrival_delay": year[31:],  # January has no model
        "monitoring/arrival_delay_drift": year[31:],
    }
    for name, days in expected.items():
        assert listed(real, dg.AssetKey(name.split("/"))) == list(days), name


def test_nothing_is_due_before_the_flights_that_it_is_made_of(real: Timeline) -> None:
    """Noon in New York of the day after, in summer 16:00 UTC, in winter 17:00; schedules the evening before."""
    noon = datetime(2013, 6, 16, 16, tzinfo=UTC)
    for name, part, moment in (
        ("silver/flights", "2013-06-15", noon),
        ("quarantine/flights", "2013-06-15", noon + GRACE),
        ("warehouse/mart_on_time_by_route", "2013-06-15", noon + GRACE),
        ("features/aircraft_history", "2013-06-15", noon + GRACE),
        ("models/arrival_delay_training_set", "2013-06-01", datetime(2013, 7, 1, 18, tzinfo=UTC)),
        ("models/arrival_delay", "2013-07-01", datetime(2013, 7, 1, 18, tzinfo=UTC)),
    ):
        assert real.due(dg.AssetKey(name.split("/")))[part] == moment, name


def test_the_demos_month_has_nothing_late_that_it_did_not_make(real: Timeline) -> None:
    """At its clock, 2013-02-01 11:00 UTC, due is what `./assay demo` of 31 days makes, and no model or prediction."""
    now = datetime(2013, 2, 1, 11, tzinfo=UTC)
    graph = real.graph
    for key in graph.materializable_asset_keys:
        if graph.get(key).partitions_def is None:
            continue
        due = [part for part, moment in real.due(key).items() if moment is not None and moment <= now]
        last = "2013-02-01" if key.path[-1] == "schedule" else "2013-01-31"
        assert all(str(part) <= last for part in due), key
        assert key.path[0] not in ("models", "predictions", "monitoring") or not due, key
