"""A small graph of every kind of edge, and a hand that writes its history: what the tests of statuses share."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.test_utils import create_run_for_test

from foundation.contract import Contract, load_contract
from foundation.settings import Settings
from orchestrator.status import State, Status, statuses
from tests.unit.feeds import document, written

DAYS = ["2013-01-30", "2013-01-31", "2013-02-01", "2013-02-02"]
JANUARY, FEBRUARY = "2013-01-01", "2013-02-01"
# Days and months go on beyond the feed, as where another feed has more.
DAILY = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-03-01")
MONTHLY = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2013-04-01")
BRONZE, SILVER = dg.AssetKey(["bronze", "events"]), dg.AssetKey(["silver", "events"])
FACTS, HISTORY, DIMS = (dg.AssetKey(["gold", name]) for name in ("facts", "history", "dims"))
GUESSES, TRAINING, MODEL = (dg.AssetKey(["models", name]) for name in ("guesses", "training", "model"))
VIEW, TOP = dg.AssetKey(["marts", "view"]), dg.AssetKey(["marts", "top"])
CHECK, WARNING = "keys_unique", "looks_odd"
AFTER_ALL = datetime(2013, 3, 1, tzinfo=UTC)


def assets() -> list[dg.AssetsDefinition]:
    """bronze → silver → facts (which needs dims) → history of three days → guesses of the day after; facts → training set
    of the month → model of the month after → guesses; facts → view → top, both without partitions."""

    def asset(
        key: dg.AssetKey,
        partitions: dg.PartitionsDefinition | None,
        *deps: dg.AssetKey | dg.AssetDep,
        checks: Sequence[dg.AssetCheckSpec] = (),
    ) -> dg.AssetsDefinition:
        @dg.asset(key=key, deps=deps, partitions_def=partitions, check_specs=checks, owners=["team:events"])
        def made(): ...

        return made

    def offset(key: dg.AssetKey, start: int, end: int) -> dg.AssetDep:
        mapping = dg.TimeWindowPartitionMapping(start, end, allow_nonexistent_upstream_partitions=True)
        return dg.AssetDep(key, partition_mapping=mapping)

    checks = [dg.AssetCheckSpec(CHECK, asset=SILVER, blocking=True), dg.AssetCheckSpec(WARNING, asset=SILVER)]
    return [
        asset(BRONZE, DAILY),
        asset(SILVER, DAILY, BRONZE, checks=checks),
        asset(DIMS, None),
        asset(FACTS, DAILY, SILVER, DIMS),
        asset(HISTORY, DAILY, offset(FACTS, -2, 0)),
        asset(TRAINING, MONTHLY, offset(FACTS, 0, 0)),
        asset(MODEL, MONTHLY, offset(TRAINING, -1, -1)),
        asset(GUESSES, DAILY, SILVER, offset(HISTORY, -1, -1), offset(MODEL, 0, 0)),
        asset(VIEW, None, FACTS),
        asset(TOP, None, VIEW, DIMS),
    ]


@cache
def graph() -> BaseAssetGraph:
    return dg.Definitions(assets()).resolve_asset_graph()


def contract_of(folder: Path) -> Contract:
    """The tests' feed, of four days around the end of a month."""
    content = document()
    for item in content["customProperties"]:
        item["value"] = {"starts": DAYS[0], "ends": DAYS[-1]}.get(item["property"], item["value"])
    return load_contract(written(folder, content))


class World:
    """An instance with that graph, and what happened to it."""

    def __init__(self, settings: Settings, contract: Contract, instance: dg.DagsterInstance) -> None:
        self.settings, self.contracts, self.instance = settings, {contract.feed: contract}, instance
        self.graph = graph()

    def run(
        self,
        plan: Mapping[dg.AssetKey, Sequence[str | None]],
        made: Mapping[dg.AssetKey, Collection[str | None]] | None = None,
        end: dg.DagsterRunStatus | None = dg.DagsterRunStatus.SUCCESS,
    ) -> str:
        """A run that plans partitions and makes all or some of them; returns its id.

        Args:
            end: None if it goes on.
        """
        run = create_run_for_test(self.instance, job_name="job", status=dg.DagsterRunStatus.STARTED)
        for key, parts in plan.items():
            for part in parts:
                event = dg.DagsterEvent.build_asset_materialization_planned_event(
                    "job", "step", AssetMaterializationPlannedData(key, partition=part)
                )
                self.instance.report_dagster_event(event, run.run_id)
        for key, parts in (plan if made is None else made).items():
            for part in parts:
                partition = part if self.graph.get(key).partitions_def else None
                self.event(run.run_id, dg.AssetMaterialization(key, partition=partition))
        if end == dg.DagsterRunStatus.FAILURE:
            self.instance.report_run_failed(run)
        elif end == dg.DagsterRunStatus.CANCELED:
            self.instance.report_run_canceled(run)
        elif end is not None:
            event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "job")
            self.instance.report_dagster_event(event, run.run_id)
        return run.run_id

    def event(self, run_id: str, materialization: dg.AssetMaterialization) -> None:
        data = StepMaterializationData(materialization, [])
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_MATERIALIZATION.value, "job", step_key="step", event_specific_data=data
        )
        self.instance.report_dagster_event(event, run_id)

    def check(self, part: str | None, passed: bool, name: str = CHECK, warn: bool = False) -> None:
        severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
        one = dg.AssetCheckEvaluation(SILVER, name, passed, {}, severity=severity, blocking=True, partition=part)
        event = dg.DagsterEvent(dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, "job", event_specific_data=one)
        self.instance.report_dagster_event(event, create_run_for_test(self.instance, job_name="job").run_id)

    def statuses(self, now: datetime = AFTER_ALL) -> dict[dg.AssetKey, dict[str | None, Status]]:
        settings = self.settings.model_copy(update={"now": now})
        return statuses(settings, self.instance, self.graph, self.contracts)

    def states(self, key: dg.AssetKey, now: datetime = AFTER_ALL) -> dict[str | None, State]:
        return {part: one.state for part, one in self.statuses(now)[key].items()}

    def everything(self) -> None:
        """One good run of all that can be."""
        self.run({key: list(parts) for key, parts in self.statuses().items()})


def due(day: str, hours: int = 0) -> datetime:
    """When the contract says that a day is due, in UTC: noon of the day after in New York, in winter."""
    return datetime.combine(date.fromisoformat(day) + timedelta(days=1), datetime.min.time(), UTC) + timedelta(
        hours=17 + hours
    )


def plain(statuses: Mapping[dg.AssetKey, Mapping[str | None, Any]]) -> dict[tuple[str, str | None], Any]:
    """States by asset and partition, to be compared."""
    return {(key.to_user_string(), part): one.state for key, parts in statuses.items() for part, one in parts.items()}
