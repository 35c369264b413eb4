"""The standing check of an asset's partitions fails while one that is due is not right, and names it with what to type."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

import orchestrator.status as status_module
from foundation.settings import Settings
from orchestrator.checks import PARTITIONS, standing_checks
from tests.unit.status_world import (
    AFTER_ALL,
    DAYS,
    DIMS,
    FACTS,
    SILVER,
    TRAINING,
    VIEW,
    World,
    assets,
    contract_of,
    due,
)


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings, contract_of(tmp_path), instance)


def evaluations(world: World, now: datetime = AFTER_ALL) -> dict[dg.AssetKey, dg.AssetCheckEvaluation]:
    """What a run of all standing checks says."""
    check = standing_checks(world.settings.model_copy(update={"now": now}), world.contracts, assets())
    definitions = dg.Definitions(assets(), asset_checks=[check])
    job = dg.define_asset_job("hourly", dg.AssetSelection.checks(check))
    definitions = dg.Definitions(assets(), asset_checks=[check], jobs=[job])
    result = definitions.resolve_job_def("hourly").execute_in_process(instance=world.instance)
    return {one.asset_key: one for one in result.get_asset_check_evaluations() if one.check_name == PARTITIONS}


def plain(one: dg.AssetCheckEvaluation) -> dict[str, object]:
    return {name: value.value for name, value in one.metadata.items()}


def test_every_asset_with_partitions_has_one_and_it_passes_if_all_is_there(world: World) -> None:
    world.everything()
    found = evaluations(world)
    partitioned = {key for key in world.graph.get_all_asset_keys() if world.graph.get(key).partitions_def}
    assert set(found) == partitioned
    assert VIEW not in partitioned
    assert all(one.passed for one in found.values())
    assert found[SILVER].description == "all 4 due partitions are there"


def test_it_names_what_is_late_as_ranges_and_says_what_to_type(world: World) -> None:
    world.run({SILVER: [DAYS[0], DAYS[3]]})
    one = evaluations(world)[SILVER]
    assert not one.passed
    assert (one.severity, one.blocking) == (dg.AssetCheckSeverity.ERROR, False)
    assert one.description == "late: 2013-01-31...2013-02-01"
    assert plain(one) == {
        "due": 4,
        "wrong": 2,
        "late_partitions": 2,
        "late": ["2013-01-31...2013-02-01"],
        "next": "./assay dagster asset materialize --select bronze/events,silver/events,quarantine/events "
        "--partition-range 2013-01-31...2013-02-01",
    }


def test_a_day_that_is_not_due_is_not_missed(world: World) -> None:
    minute = timedelta(minutes=1)
    world.run({SILVER: DAYS[:1]})
    assert evaluations(world, due(DAYS[1]) - minute)[SILVER].passed
    assert not evaluations(world, due(DAYS[1]))[SILVER].passed


def test_a_failed_day_fails_it_and_what_is_blocked_points_to_its_cause(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)
    found = evaluations(world)
    assert plain(found[SILVER])["failed"] == [DAYS[1]]
    assert found[FACTS].description == f"blocked: {DAYS[1]}"
    assert plain(found[FACTS])["next"] == "./assay late"
    assert plain(found[TRAINING])["blocked"] == ["2013-01-01"]


def test_what_is_blocked_and_not_due_yet_is_no_news(world: World) -> None:
    world.run({DIMS: [None]}, {}, dg.DagsterRunStatus.FAILURE)
    assert evaluations(world, due(DAYS[0]))[FACTS].passed


def test_a_run_fails_it_only_once_it_has_gone_quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.everything()
    run_id = world.run({SILVER: DAYS[:1]}, {}, None)
    assert evaluations(world)[SILVER].passed
    monkeypatch.setattr(status_module, "QUIET", timedelta(seconds=-1))
    one = evaluations(world)[SILVER]
    assert one.description == f"quiet: {DAYS[0]}"
    assert f"end run {run_id} in the Dagster UI" in str(plain(one)["next"])
