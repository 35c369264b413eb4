"""The same scenario on Dagster alone and on ours, both outcomes side by side: docs/operator.md shows them as a table."""

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest

from foundation.errors import AssayError
from foundation.settings import load
from orchestrator.automation import any_partition, view_condition
from orchestrator.partitions import run_days
from orchestrator.reporting import late_policy, report_parts
from orchestrator.sensors import RANGE_END, RANGE_START
from orchestrator.status import State, statuses
from tests.unit import feeds

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-11")
TABLE, CHILD = dg.AssetKey("table"), dg.AssetKey("child")
EAGER = dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
DAY, OTHER, LAST = "2013-01-05", "2013-01-06", "2013-01-09"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Ticks:
    """A daily table, and something made of it by a condition."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        condition: dg.AutomationCondition,
        partitions: dg.PartitionsDefinition | None = DAYS,
    ) -> None:
        @dg.asset(
            key=TABLE,
            partitions_def=DAYS,
            check_specs=[dg.AssetCheckSpec("right", asset=TABLE, blocking=True, partitions_def=DAYS)],
        )
        def table(): ...

        @dg.asset(key=CHILD, deps=[TABLE], partitions_def=partitions, automation_condition=condition)
        def child() -> None:
            raise RuntimeError("the engine died")

        self.instance, self.cursor, self.definitions = instance, None, dg.Definitions([table, child])
        self.tick()

    def tick(self) -> int:
        """How many partitions of the child one tick requests."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return result.get_num_requested(CHILD)

    def written(self, day: str, passed: bool = True) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(TABLE, partition=day))
        if not passed:
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=TABLE, check_name="right", passed=False, partition=day, blocking=True)
            )

    def made(self, day: str | None = None) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(CHILD, partition=day))

    def fail(self, day: str) -> None:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(asset_selection=[CHILD], instance=self.instance, partition_key=day, raise_on_error=False)


def test_an_old_day_that_is_made_again_makes_a_daily_table_fresh_to_dagster_and_not_to_us(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_NOW", "2013-01-12T18:00:00+00:00")
    contract = feeds.events(tmp_path)
    key = dg.AssetKey(["silver", contract.feed])

    @dg.asset(key=key, partitions_def=DAYS, freshness_policy=late_policy(timedelta(hours=24)))
    def silver() -> None: ...

    graph = dg.Definitions([silver]).resolve_asset_graph()
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2013-01-02"))
    stock = asyncio.run(
        TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(instance), graph.get(key))
    )
    ours = statuses(load(tmp_path), instance, graph, {contract.feed: contract})[key]
    assert stock == FreshnessState.PASS
    assert [one.partition for one in ours.values() if one.state == State.PRESENT] == ["2013-01-02"]
    assert sum(one.state == State.LATE for one in ours.values()) >= 8


@pytest.mark.parametrize(("ours", "made"), [(False, []), (True, ["2013-01-05", "2013-01-07"])])
def test_of_a_range_with_a_bad_day_dagster_records_nothing_and_we_the_good_ones(
    instance: dg.DagsterInstance, ours: bool, made: list[str]
) -> None:
    bad = date(2013, 1, 6)

    @dg.asset(key=TABLE, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def table(context: dg.AssetExecutionContext) -> None:
        if not ours:
            raise AssayError("one of the days is unreadable", "send it again")
        good: dict[date | None, dict[str, int]] = {day: {} for day in run_days(context) if day != bad}
        report_parts(context, {TABLE: good}, {bad: AssayError(f"{bad} is unreadable", "send it again")})

    job = dg.Definitions([table]).resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=instance, tags={RANGE_START: "2013-01-05", RANGE_END: "2013-01-07"}, raise_on_error=False
    )
    assert sorted(instance.get_materialized_partitions(TABLE)) == made


@pytest.mark.parametrize(("condition", "requests"), [(EAGER, 5), (view_condition(), 1)])
def test_a_view_is_made_for_each_new_day_by_dagster_and_once_by_us(
    instance: dg.DagsterInstance, condition: dg.AutomationCondition, requests: int
) -> None:
    anyway = condition.replace(
        "any_deps_missing", dg.AutomationCondition.any_deps_missing().ignore(dg.AssetSelection.assets(TABLE))
    )
    ticks, asked = Ticks(instance, anyway, partitions=None), 0
    for number in range(1, 6):
        ticks.written(f"2013-01-0{number}")
        if ticks.tick():
            asked += 1
            ticks.made()
            ticks.tick()
    assert asked == requests


@pytest.mark.parametrize(("condition", "requested"), [(EAGER, 0), (any_partition(), 1)])
def test_a_change_that_comes_in_the_moment_of_a_request_is_lost_by_dagster_and_kept_by_us(
    instance: dg.DagsterInstance, condition: dg.AutomationCondition, requested: int
) -> None:
    ticks = Ticks(instance, condition)
    ticks.written(DAY)
    assert ticks.tick() == 1
    ticks.made(DAY)  # by the run that was asked for, which read the rows of then
    ticks.written(DAY)  # corrected
    later = [ticks.tick() for _ in range(3)]
    assert sum(later) == requested


@pytest.mark.parametrize(
    ("condition", "requests"), [(EAGER | dg.AutomationCondition.execution_failed(), 6), (any_partition(), 1)]
)
def test_what_fails_is_asked_for_at_each_tick_by_dagster_and_with_a_pause_by_us(
    instance: dg.DagsterInstance, condition: dg.AutomationCondition, requests: int
) -> None:
    """Six ticks within a minute. Ours tries again after 2, 10 and 60 minutes (test_automation.py)."""
    ticks, asked = Ticks(instance, condition), 0
    ticks.written(DAY)
    for _ in range(6):
        if ticks.tick():
            asked += 1
            ticks.fail(DAY)
    assert asked == requests


@pytest.mark.parametrize(
    ("condition", "requested"),
    [(EAGER & dg.AutomationCondition.all_deps_blocking_checks_passed(), 0), (any_partition(), 1)],
)
def test_a_day_whose_check_never_ran_waits_for_dagster_and_not_for_us(
    instance: dg.DagsterInstance, condition: dg.AutomationCondition, requested: int
) -> None:
    ticks = Ticks(instance, condition)
    ticks.written(OTHER, passed=False)
    ticks.written(DAY)
    assert ticks.tick() == requested
