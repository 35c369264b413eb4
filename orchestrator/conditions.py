"""Conditions of automation that Dagster lacks: what its event log says of a partition now, not what a tick happened to see.

Belongs here: single conditions. Does not belong here: when an asset is made, which puts them together (automation.py).

Dagster's own look at what came since the last tick, and forget a change that comes in the moment of a request or while the
partition is being made (tests/unit/test_automation.py shows both). These compare the newest change with the newest attempt:
nothing is lost when a daemon stops, and nothing asked for twice. They are our own classes, so the code server evaluates them
and not the daemon (`use_user_code_server`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Any

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.definitions.declarative_automation.operands.subset_automation_condition import (
    SubsetAutomationCondition,
)
from dagster._record import record

from foundation.contract import load_contracts
from orchestrator.attempts import PLANNED, Part, newest, storage_of
from orchestrator.status import Problems
from orchestrator.timeline import Timeline

# An engine that was restarted, one that was full, one that somebody had to mend. Then it is left until something changes.
RETRY_AFTER_SECONDS = (120, 600, 3600)
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION

Subset = EntitySubset[dg.AssetKey]
Context = AutomationContext[dg.AssetKey]


@dataclass(frozen=True)
class Seen:
    """What one tick sees: of each partition the newest materialization and the newest attempt (event number, run), what failed
    and what is blocked."""

    times: Timeline
    made: Mapping[Part, tuple[int, str]]
    tried: Mapping[Part, tuple[int, str]]
    problems: Problems

    def changed(self, part: Part, parents: Collection[dg.AssetKey]) -> tuple[int, str]:
        """The newest change of what a partition is made of; (0, "") if nothing is there."""
        key, one = part
        mine, found = self.times.partitions(key), (0, "")
        for parent in parents:
            theirs = self.times.partitions(parent)
            if theirs is None:
                read: list[str | None] = [None]
            elif mine is None:
                read = list(theirs.keys)
            else:
                read = [theirs.keys[at] for at in self.times.edge(key, parent).reads[mine.position[str(one)]]]
            found = max(found, *(self.made.get((parent, other), (0, "")) for other in read), (0, ""))
        return found


@record
class Changed(SubsetAutomationCondition[dg.AssetKey]):
    """What it is made of changed after the newest attempt to make it began, by another run.

    Args:
        but_not_for: the parents whose change is no reason.
    """

    but_not_for: frozenset[dg.AssetKey]

    @property
    def name(self) -> str:
        return "changed_since_the_last_attempt"

    def compute_subset(self, context: Context) -> Subset:
        seen, key = _seen(context.asset_graph_view), context.key
        parents = set(seen.times.parents(key)) - self.but_not_for
        due: set[str | None] = set()
        for one in _partitions(context.candidate_subset):
            began, by = seen.tried.get((key, one), (0, ""))
            at, run_id = seen.changed((key, one), parents)
            if at > began and (not run_id or run_id != by):
                due.add(one)
        return _those(context.candidate_subset, due)


@record
class Blocked(SubsetAutomationCondition[dg.AssetKey]):
    """What it is made of, of its own time, failed or is blocked itself: what the step would refuse (gates.py)."""

    @property
    def name(self) -> str:
        return "blocked"

    def compute_subset(self, context: Context) -> Subset:
        return _those(context.candidate_subset, _seen(context.asset_graph_view).problems.causes[context.key])


@record
class RetryDue(SubsetAutomationCondition[dg.AssetKey]):
    """A failed partition whose next try is due: after 2, 10 and 60 minutes, and then no more until what it is made of changes.
    A cancelled run is not tried again: somebody wanted it to stop."""

    @property
    def name(self) -> str:
        return "retry_due"

    def compute_subset(self, context: Context) -> Subset:
        view, key = context.asset_graph_view, context.key
        seen = _seen(view)
        failed = {
            one: run
            for one, run in seen.problems.records.attempts.get(key, {}).items()
            if run.dagster_run.status == dg.DagsterRunStatus.FAILURE
        }
        if not failed:
            return _those(context.candidate_subset, ())
        parents = seen.times.parents(key)
        since = {
            one: max(seen.changed((key, one), parents)[0], seen.made.get((key, one), (0, ""))[0]) for one in failed
        }
        tries = _tries(view.instance, key, since)
        now = view.effective_dt.timestamp()
        return _those(
            context.candidate_subset,
            {
                one
                for one, run in failed.items()
                if tries[one] <= len(RETRY_AFTER_SECONDS) and now >= _ended(run) + RETRY_AFTER_SECONDS[tries[one] - 1]
            },
        )


@lru_cache(maxsize=1)
def _seen(view: AssetGraphView) -> Seen:
    """The log as this tick sees it, read once for all assets: some 10 queries, where a few an asset would be hundreds."""
    graph, times = view.asset_graph, _timeline(view.asset_graph)
    keys = graph.get_all_asset_keys()
    with storage_of(view.instance).index_connection() as connection:
        made, planned = (
            {
                (key, part): (row.id, row.run_id)
                for key, parts in newest(connection, graph, keys, kind).items()
                for part, row in parts.items()
            }
            for kind in (MADE, PLANNED)
        )
    tried = dict(planned)
    for part, (at, run_id) in made.items():
        plan = planned.get(part)
        if plan is None or (at > plan[0] and run_id != plan[1]):
            tried[part] = (at, run_id)  # told without a run (a rollback): it is of that moment
    return Seen(times, made, tried, Problems(view.instance, times, graph.materializable_asset_keys))


@lru_cache(maxsize=1)
def _timeline(graph: Any) -> Timeline:
    return Timeline(graph, load_contracts())


def _partitions(subset: Subset) -> set[str | None]:
    if subset.is_partitioned:
        return set(subset.expensively_compute_partition_keys())
    return set() if subset.is_empty else {None}


def _those(subset: Subset, partitions: Collection[str | None]) -> Subset:
    """Some partitions of a subset; of an unpartitioned asset (None) all or nothing."""
    if subset.is_partitioned:
        return subset.compute_intersection_with_partition_keys({one for one in partitions if one is not None})
    return subset if partitions else subset.compute_difference(subset)


def _tries(instance: dg.DagsterInstance, key: dg.AssetKey, since: Mapping[str | None, int]) -> dict[str | None, int]:
    """How often each partition was tried after an event; once at least, as it failed."""
    chosen = dg.EventRecordsFilter(
        PLANNED,
        asset_key=key,
        asset_partitions=[one for one in since if one is not None] or None,
        after_cursor=min(since.values()),
    )
    runs: dict[str | None, set[str]] = {one: set() for one in since}
    for event in instance.event_log_storage.get_event_records(chosen):
        one = event.partition_key if event.partition_key in since else None
        if one in runs and event.storage_id > since[one]:
            runs[one].add(event.run_id)
    return {one: max(len(found), 1) for one, found in runs.items()}


def _ended(run: dg.RunRecord) -> float:
    return run.end_time or run.update_timestamp.replace(tzinfo=UTC).timestamp()
