"""Conditions of automation that Dagster lacks: what its event log says of a partition now, not what a tick happened to see.

Belongs here: single conditions. Does not belong here: when an asset is made, which puts them together (automation.py).

Dagster's own look at what came since the last tick, and forget a change that comes in the moment of a request or while the
partition is being made (tests/unit/test_automation.py shows both). These compare the newest change with the newest attempt:
nothing is lost when a daemon stops, and nothing asked for twice. They are our own classes, so the code server evaluates them
and not the daemon (`use_user_code_server`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from typing import Any

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.definitions.declarative_automation.automation_condition import (
    AutomationResult,
    BuiltinAutomationCondition,
)
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.definitions.declarative_automation.operands.subset_automation_condition import (
    SubsetAutomationCondition,
)
from dagster._core.definitions.declarative_automation.operators import AndAutomationCondition, AnyDepsCondition
from dagster._record import record

from foundation.contract import load_contracts
from orchestrator.attempts import PLANNED, Event, newest, storage_of
from orchestrator.status import Problems
from orchestrator.timeline import Timeline

# An engine that was restarted, one that was full, one that somebody had to mend. Then it is left until something changes.
RETRY_AFTER_SECONDS = (120, 600, 3600)
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION

Subset = EntitySubset[dg.AssetKey]
Context = AutomationContext[dg.AssetKey]


NO_PARTITIONS = (None,)
NEVER = Event(0, None, datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Seen:
    """What one tick sees: the newest materialization and the newest attempt of each partition (at its position; of an asset
    without partitions there is one), what failed and what is blocked."""

    times: Timeline
    made: Mapping[dg.AssetKey, Sequence[Event]]
    tried: Mapping[dg.AssetKey, Sequence[Event]]
    problems: Problems

    def parts(self, key: dg.AssetKey) -> Sequence[str | None]:
        """An asset's partitions, by position."""
        there = self.times.partitions(key)
        return NO_PARTITIONS if there is None else there.keys

    def changes(self, key: dg.AssetKey, parent: dg.AssetKey) -> Iterable[Event]:
        """For each partition of an asset the newest change among those of a parent that it reads."""
        made = self.made[parent]
        if self.times.partitions(parent) is None or self.times.partitions(key) is None:
            return repeat(max(made, default=NEVER), len(self.parts(key)))
        reads = self.times.edge(key, parent).reads
        return (made[one.start] if len(one) == 1 else max(made[one.start : one.stop], default=NEVER) for one in reads)


class InTurn(AndAutomationCondition[dg.AssetKey]):
    """All of them, asked in turn while anything is left. Dagster's own goes on to ask the rest about nothing, which is most of
    what a tick without a change would cost. So only the first may remember anything of an earlier tick."""

    async def evaluate(self, context: Context) -> AutomationResult[dg.AssetKey]:
        left, results = context.candidate_subset, []
        for position, one in enumerate(self.operands):
            if left.is_empty:
                break
            asked = context.for_child_condition(one, child_indices=[position], candidate_subset=left)
            results.append(await asked.evaluate_async())
            left = left.compute_intersection(results[-1].true_subset)
        return AutomationResult(context, left, child_results=results)


class RequestedWith(AnyDepsCondition[dg.AssetKey]):
    """Dagster's own look at what is asked of an asset's parents, if any of them was asked for in this tick."""

    async def evaluate(self, context: Context) -> AutomationResult[dg.AssetKey]:
        requests = context.request_subsets_by_key
        parents = context.asset_graph.get(context.key).parent_keys
        if all(key not in requests or requests[key].is_empty for key in parents):
            return AutomationResult(context, context.get_empty_subset())
        return await super().evaluate(context)


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
        parts, tried = seen.parts(key), seen.tried[key]
        due = {
            part
            for parent in set(seen.times.parents(key)) - self.but_not_for
            for part, began, change in zip(parts, tried, seen.changes(key, parent), strict=True)
            if change.id > began.id and (change.run_id is None or change.run_id != began.run_id)
        }
        return _those(context.candidate_subset, due)


@record
class NewCode(BuiltinAutomationCondition[dg.AssetKey]):
    """It was made, and its code changed after the newest attempt to make it. Remembers the version, and which attempt was the
    newest of all when it changed; what has no version cannot change."""

    @property
    def name(self) -> str:
        return "code_changed_since_the_last_attempt"

    def evaluate(self, context: Context) -> AutomationResult[dg.AssetKey]:
        key, version = context.key, context.asset_graph.get(context.key).code_version
        if version is None:
            return AutomationResult(context, context.get_empty_subset())
        seen = _seen(context.asset_graph_view)
        newest, _, before = (context.cursor or f"0 {version}").partition(" ")
        until = int(newest) if version == before else max(seen.tried[key], default=NEVER).id
        due = {
            part
            for part, made, tried in zip(seen.parts(key), seen.made[key], seen.tried[key], strict=True)
            if made is not NEVER and tried.id <= until
        }
        return AutomationResult(context, _those(context.candidate_subset, due), cursor=f"{until} {version}")


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
        changes = [seen.made[key], *(seen.changes(key, parent) for parent in seen.times.parents(key))]
        newest_change = (max(events).id for events in zip(*changes, strict=True))
        since = {one: at for one, at in zip(seen.parts(key), newest_change, strict=True) if one in failed}
        if not since:
            return _those(context.candidate_subset, ())
        tries = _tries(view.instance, key, since)
        now = view.effective_dt.timestamp()
        return _those(
            context.candidate_subset,
            {
                one
                for one, run in failed.items()
                if one in tries
                and tries[one] <= len(RETRY_AFTER_SECONDS)
                and now >= _ended(run) + RETRY_AFTER_SECONDS[tries[one] - 1]
            },
        )


@lru_cache(maxsize=1)
def _seen(view: AssetGraphView) -> Seen:
    """The log as this tick sees it, read once for all assets: some 10 queries, where a few an asset would be hundreds."""
    graph = view.asset_graph
    keys = graph.get_all_asset_keys()
    definitions = {graph.get(key).partitions_def for key in keys}
    times = _timeline(graph, frozenset((one, one.get_last_partition_key()) for one in definitions if one is not None))
    with storage_of(view.instance).index_connection() as connection:
        made, planned = (newest(connection, graph, keys, kind) for kind in (MADE, PLANNED))
    at: dict[dg.AssetKey, list[Event]] = {}
    tried: dict[dg.AssetKey, list[Event]] = {}
    for key in keys:
        there = times.partitions(key)
        parts: Sequence[str | None] = NO_PARTITIONS if there is None else there.keys
        at[key], plans = ([events[key].get(one, NEVER) for one in parts] for events in (made, planned))
        # Told without a run (a rollback), it was tried in that moment.
        tried[key] = [
            done if done.id > plan.id and (plan is NEVER or done.run_id != plan.run_id) else plan
            for done, plan in zip(at[key], plans, strict=True)
        ]
    return Seen(times, at, tried, Problems(view.instance, times, graph.materializable_asset_keys))


@lru_cache(maxsize=1)
def _timeline(graph: Any, newest_parts: Collection[tuple[dg.PartitionsDefinition, str | None]]) -> Timeline:
    """The timeline of a graph, worked out again when there is a new day: the code server keeps its graph for weeks."""
    return Timeline(graph, load_contracts())


def _those(subset: Subset, partitions: Collection[str | None]) -> Subset:
    """Some partitions of a subset; of an unpartitioned asset (None) all or nothing."""
    if not partitions:
        return subset.compute_difference(subset)
    if subset.is_partitioned:
        return subset.compute_intersection_with_partition_keys({one for one in partitions if one is not None})
    return subset


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
