"""Conditions of automation that Dagster lacks: what the event log says of a partition, and not what a tick happened to see.

Belongs here: single conditions. Does not belong here: when an asset is made, which puts them together (automation.py).
They are our own classes, so the code server evaluates them, not the daemon (`use_user_code_server`).
"""

from collections.abc import Iterable, Mapping

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.definitions.declarative_automation.operands.subset_automation_condition import (
    SubsetAutomationCondition,
)
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._record import record

from orchestrator.status import blocked

# An engine that was restarted, one that was full, one that somebody had to mend. Then it is left until something changes.
RETRY_AFTER_SECONDS = (120, 600, 3600)
# As many as one query of SQLite takes.
BATCH = 500
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED

Subset = EntitySubset[dg.AssetKey]


@record
class Blocked(SubsetAutomationCondition[dg.AssetKey]):
    """What it is made of, of its own time, failed or is blocked itself: what the step would refuse."""

    @property
    def name(self) -> str:
        return "blocked"

    def compute_subset(self, context: AutomationContext[dg.AssetKey]) -> Subset:
        view, subset = context.asset_graph_view, context.candidate_subset
        return _those(subset, blocked(view.instance, view.asset_graph, context.key, _partitions(subset)))


@record
class MadeFromNewest(SubsetAutomationCondition[dg.AssetKey]):
    """The run that made it began after the last change of what it is made of, or made that change itself.

    A partition that was being made while its parent changed is made of the parent's old rows. `eager` takes its
    materialization for an answer to that change, and the change is lost.

    Args:
        but_not_of: the parents whose change is no reason.
    """

    but_not_of: frozenset[dg.AssetKey]

    @property
    def name(self) -> str:
        return "made_from_newest"

    def compute_subset(self, context: AutomationContext[dg.AssetKey]) -> Subset:
        view, key, subset = context.asset_graph_view, context.key, context.candidate_subset
        made, planned = (_newest(view, key, kind) for kind in (MADE, PLANNED))
        # Without a plan, somebody told Dagster of it (a rollback): then it is of that moment.
        began = {one: min(made[one], planned.get(one, made[one])) for one in _partitions(subset) if one in made}
        parents = view.asset_graph.get(key).parent_keys - self.but_not_of
        changed = _newest_of_parents(view, key, subset, parents)
        suspects = {one for one, at in began.items() if any(event > at for event in changed.get(one, {}).values())}
        if suspects:
            mine = _runs(view, key, [made[one] for one in suspects])
            for parent in parents:
                events = {one: changed[one][parent] for one in suspects if parent in changed.get(one, {})}
                theirs = _runs(view, parent, events.values())
                suspects -= {one for one, event in events.items() if theirs.get(event) == mine.get(made[one])}
        return _those(subset, set(began) - suspects)


@record
class RetryDue(SubsetAutomationCondition[dg.AssetKey]):
    """A failed partition whose next try is due: after 2, 10 and 60 minutes, and then no more until what it is made of changes.
    Use it behind `execution_failed()`, to which a cancelled run is none: somebody wanted it to stop."""

    @property
    def name(self) -> str:
        return "retry_due"

    def compute_subset(self, context: AutomationContext[dg.AssetKey]) -> Subset:
        view, key, subset = context.asset_graph_view, context.key, context.candidate_subset
        partitions = _partitions(subset)
        made = _newest(view, key, MADE)
        changed = _newest_of_parents(view, key, subset, view.asset_graph.get(key).parent_keys)
        since = {one: max([made.get(one, 0), *changed.get(one, {}).values()]) for one in partitions}
        tries: dict[str | None, list[str]] = {one: [] for one in partitions}
        found = dg.EventRecordsFilter(
            PLANNED,
            asset_key=key,
            asset_partitions=[one for one in partitions if one],
            after_cursor=min(since.values()),
        )
        for event in view.instance.event_log_storage.get_event_records(found):
            one = event.partition_key
            if one in tries and event.storage_id > since[one]:
                tries[one].append(event.run_id)
        now = view.effective_dt.timestamp()
        ended = {run_id: _ended(view.instance, run_id) for runs in tries.values() for run_id in runs[:1]}
        return _those(
            subset,
            {
                one
                for one, runs in tries.items()
                if 0 < len(runs) <= len(RETRY_AFTER_SECONDS)
                and now >= ended[runs[0]] + RETRY_AFTER_SECONDS[len(runs) - 1]
            },
        )


def _partitions(subset: Subset) -> set[str | None]:
    if subset.is_partitioned:
        return set(subset.expensively_compute_partition_keys())
    return set() if subset.is_empty else {None}


def _those(subset: Subset, partitions: Iterable[str | None]) -> Subset:
    """Some partitions of a subset; of an unpartitioned asset (None) all or nothing."""
    chosen = set(partitions)
    if subset.is_partitioned:
        return subset.compute_intersection_with_partition_keys({one for one in chosen if one is not None})
    return subset if chosen else subset.compute_difference(subset)


def _newest(view: AssetGraphView, key: dg.AssetKey, kind: dg.DagsterEventType) -> Mapping[str | None, int]:
    """The newest event of a kind of each partition (None: of an unpartitioned asset), by its number in the log."""
    if view.asset_graph.get(key).partitions_def:
        return {**view.instance.get_latest_storage_id_by_partition(key, kind)}
    if kind == PLANNED:
        plan = view.instance.event_log_storage.get_latest_planned_materialization_info(key)
        return {None: plan.storage_id} if plan else {}
    event = view.instance.get_asset_records([key])
    last = event[0].asset_entry.last_materialization_record if event else None
    return {None: last.storage_id} if last else {}


def _newest_of_parents(
    view: AssetGraphView, key: dg.AssetKey, subset: Subset, parents: Iterable[dg.AssetKey]
) -> dict[str | None, dict[dg.AssetKey, int]]:
    """The newest change of each parent, among the partitions that a partition is made of."""
    found: dict[str | None, dict[dg.AssetKey, int]] = {}
    for parent in parents:
        made = _newest(view, parent, MADE)
        for one in _partitions(subset):
            single = view.get_asset_subset_from_asset_partitions(key, {AssetKeyPartitionKey(key, one)})
            of_parent = _partitions(view.compute_parent_subset(parent, single))
            if newest := max((made.get(other, 0) for other in of_parent), default=0):
                found.setdefault(one, {})[parent] = newest
    return found


def _runs(view: AssetGraphView, key: dg.AssetKey, events: Iterable[int]) -> dict[int, str]:
    """The run of each event."""
    numbers = sorted(set(events))
    found: dict[int, str] = {}
    for start in range(0, len(numbers), BATCH):
        chosen = dg.AssetRecordsFilter(key, storage_ids=numbers[start : start + BATCH])
        records = view.instance.fetch_materializations(chosen, limit=BATCH).records
        found |= {one.storage_id: one.run_id for one in records}
    return found


def _ended(instance: dg.DagsterInstance, run_id: str) -> float:
    """When a run ended, in seconds since 1970; one that is gone ended long ago."""
    found = instance.get_run_record_by_id(run_id)
    return (found.end_time or found.update_timestamp.timestamp()) if found else 0.0
