"""No partition is built behind one that failed, in that run or a later one; what looks back is built and says without what."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from foundation.errors import AssayError
from orchestrator.gates import BUILT_WITHOUT, built_without_check, shut_days
from orchestrator.partitions import run_days
from orchestrator.reporting import report_check, report_parts
from orchestrator.sensors import RANGE_END, RANGE_START
from tests.unit.homes import dagster_home

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-03-01")
MONTHS = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2013-03-01")
SILVER, GOLD, FEATURES, HISTORY, MODEL = (
    dg.AssetKey(name) for name in ("silver", "gold", "features", "history", "model")
)
BACK = dg.TimeWindowPartitionMapping(start_offset=-2, allow_nonexistent_upstream_partitions=True)
FIRST, BAD, LAST = "2013-01-05", "2013-01-06", "2013-01-08"
# What the tests break: days whose step fails, days whose check fails.
UNREADABLE: set[date] = set()
WRONG: set[date] = set()


def table(key: dg.AssetKey, deps: list[dg.AssetDep], partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """What each of our steps does: leave out what is shut, make the rest, say both."""

    @dg.asset(key=key, deps=deps, partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def made(context: dg.AssetExecutionContext) -> None:
        errors = shut_days(context, run_days(context))
        report_parts(context, {key: {day: {} for day in run_days(context) if day not in errors}}, errors)

    return made


@dg.asset(
    key=SILVER,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("right", asset=SILVER, blocking=True, partitions_def=DAYS)],
)
def silver(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    days = run_days(context)
    errors: dict[date | None, AssayError] = {
        day: AssayError(f"{day} is unreadable", "send it again") for day in days if day in UNREADABLE
    }
    if errors:
        report_parts(context, {SILVER: {day: {} for day in days if day not in errors}}, errors)
    yield dg.MaterializeResult(asset_key=SILVER)
    found = dg.AssetCheckResult(asset_key=SILVER, check_name="right", passed=not WRONG & set(days))
    report_check(context, found, {day: day not in WRONG for day in days})
    yield found


assets = [
    silver,
    table(GOLD, [dg.AssetDep(SILVER)], DAYS),
    table(FEATURES, [dg.AssetDep(GOLD)], DAYS),
    table(HISTORY, [dg.AssetDep(GOLD, partition_mapping=BACK)], DAYS),
    table(MODEL, [dg.AssetDep(FEATURES, partition_mapping=dg.TimeWindowPartitionMapping())], MONTHS),
]
graph = dg.Definitions(assets).resolve_asset_graph()
definitions = dg.Definitions(
    assets, asset_checks=[built_without_check(assets, lambda: graph)], executor=dg.in_process_executor
)


class Home:
    """An instance, and runs in it as `dagster asset materialize` executes them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        repository = ReconstructableRepository.for_module(__name__, "definitions", str(Path.cwd()))
        self.job = repository.get_reconstructable_job("__ASSET_JOB")

    def run(self, *keys: dg.AssetKey, first: str = FIRST, last: str = LAST) -> str:
        """What the failed step said; nothing if none failed."""
        tags = {"dagster/partition": first} if first == last else {RANGE_START: first, RANGE_END: last}
        with dg.execute_job(self.job, self.instance, asset_selection=list(keys), tags=tags) as result:
            failed = [event for event in result.all_events if event.is_step_failure]
            said = failed[0].step_failure_data.user_failure_data if failed else None
            return (said.description or "") if said else "failed" if failed else ""

    def there(self, key: dg.AssetKey) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(key))

    def without(self, key: dg.AssetKey) -> tuple[bool, str]:
        records = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, BUILT_WITHOUT), limit=1
        )
        assert records[0].event
        found = records[0].event.get_dagster_event().asset_check_evaluation_data
        return found.passed, found.description or ""


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days of Silver of which one is bad."""
    folder = dagster_home(tmp_path_factory.mktemp("bad_day"))
    WRONG.clear()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        UNREADABLE.add(date.fromisoformat(BAD))
        assert "is unreadable" in Home(instance).run(SILVER)
        UNREADABLE.clear()
    return folder


@pytest.fixture
def home(bad_day: Path, tmp_path: Path) -> Iterator[Home]:
    """A copy of it, where the day can be read by now."""
    WRONG.clear()
    with dg.DagsterInstance.from_config(str(dagster_home(tmp_path / "home", like=bad_day))) as instance:
        yield Home(instance)


def test_in_a_later_run_the_day_is_left_out_and_named_and_its_neighbours_are_built(home: Home) -> None:
    said = home.run(GOLD)
    assert f"gold {BAD} was not built: silver {BAD} failed" in said
    assert "./assay late" in said
    assert home.there(GOLD) == [FIRST, "2013-01-07", LAST]


def test_what_is_further_down_is_left_out_too(home: Home) -> None:
    home.run(GOLD)
    assert f"silver {BAD} failed" in home.run(FEATURES)
    assert home.there(FEATURES) == [FIRST, "2013-01-07", LAST]


def test_a_run_of_the_bad_day_alone_builds_nothing(home: Home) -> None:
    assert f"silver {BAD} failed" in home.run(GOLD, first=BAD, last=BAD)
    assert home.there(GOLD) == []


def test_a_mended_day_is_built(home: Home) -> None:
    home.run(GOLD)
    home.run(SILVER, first=BAD, last=BAD)
    assert home.run(GOLD, FEATURES, first=BAD, last=BAD) == ""
    assert BAD in home.there(FEATURES)


def test_a_run_that_mends_the_day_itself_is_not_held_up(home: Home) -> None:
    assert home.run(SILVER, GOLD, first=BAD, last=BAD) == ""
    assert home.there(GOLD) == [BAD]


def test_a_failed_blocking_check_of_a_day_stops_that_day_alone(home: Home) -> None:
    WRONG.add(date.fromisoformat(LAST))
    home.run(SILVER)
    said = home.run(GOLD)
    assert f"silver {LAST} failed" in said
    assert home.there(GOLD) == [FIRST, BAD, "2013-01-07"]


def test_what_looks_back_on_a_bad_day_is_built_and_says_without_what(home: Home) -> None:
    home.run(GOLD)
    assert home.run(HISTORY, first=LAST, last=LAST) == ""
    passed, said = home.without(HISTORY)
    assert not passed
    assert f"gold {BAD}" in said
    home.run(SILVER, GOLD, first=BAD, last=BAD)
    home.run(HISTORY, first=LAST, last=LAST)
    assert home.without(HISTORY) == (True, "built of all days")


def test_a_month_with_a_bad_day_waits(home: Home) -> None:
    home.run(GOLD)
    assert f"silver {BAD} failed" in home.run(MODEL, first="2013-01-01", last="2013-01-01")
    assert home.run(MODEL, first="2013-02-01", last="2013-02-01") == ""
