"""One status for any asset and partition, from Dagster's event log alone.

Belongs here: what a state is, and which one holds. Does not belong here: the queries (attempts.py), when something is due
(timeline.py), how it is shown (checks.py, cli/tables.py).

A run plans all its assets before its first step. What is behind a failed step in the same run was not tried, so it has not
failed: it is blocked by what did, late, or as it was. Nor has what was refused in a later run because of what did.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from foundation import clock
from foundation.contract import Contract, load_contracts
from foundation.settings import Settings
from orchestrator.attempts import UNSUCCESSFUL, FailedCheck, Part, Records, moment_of, newest_evaluations, read_records
from orchestrator.timeline import Timeline

# A run that has said nothing for so long is dead or hangs: the longest step, a year of Silver, takes minutes.
QUIET = timedelta(hours=6)
# Metadata that only Dagster's pages can show.
FOR_PAGES = (dg.TableMetadataValue, dg.TableSchemaMetadataValue, dg.TableColumnLineageMetadataValue)


class State(StrEnum):
    """What holds of a partition; of several the first one in this order, but that `present` is the last."""

    PRESENT = "present"
    FAILED = "failed"
    BLOCKED = "blocked"
    RUNNING = "running"
    LATE = "late"
    WAITING = "waiting"


@dataclass(frozen=True)
class Status:
    """The status of an asset's partition (None: of an asset without partitions).

    `since` is when the state began, `made_at` when the partition was last made, also if it failed since, `due` when it should
    be there, all in UTC; `run_id` the run that failed, is under way, or made it. `blocked_by` are the upstream partitions that
    failed, however far up. `quiet` is a run under way that has said nothing for `QUIET`.
    """

    asset: dg.AssetKey
    partition: str | None
    state: State
    since: datetime | None
    why: str
    made_at: datetime | None
    run_id: str | None
    failed_checks: tuple[str, ...] = ()
    blocked_by: tuple[Part, ...] = ()
    due: datetime | None = None
    quiet: bool = False


@dataclass(frozen=True)
class _Failure:
    since: datetime
    why: str
    run_id: str | None
    checks: tuple[str, ...]


def statuses(
    settings: Settings,
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    contracts: Mapping[str, Contract],
    keys: Collection[dg.AssetKey] | None = None,
) -> dict[dg.AssetKey, dict[str | None, Status]]:
    """The status of every partition that the contracts let an asset have, or that was made nevertheless, in order.

    Args:
        graph: `defs.resolve_asset_graph()`.
        contracts: the feeds, which say what is due.
        keys: the assets; None is all that a run can make.

    Raises:
        AssayError: Dagster's event log is no database.
    """
    now = clock.now(settings)
    asked = graph.materializable_asset_keys if keys is None else keys
    times = Timeline(graph, contracts)
    found = Problems(instance, times, asked)
    return {key: _of_asset(instance, times, found, key, now) for key in asked}


def wrong(status: Status, now: datetime) -> bool:
    """Whether somebody should look: it failed or hangs, or it is late, or blocked although it is due.

    Args:
        now: the platform's clock.
    """
    if status.state == State.BLOCKED:
        return status.due is None or status.due <= now
    return status.quiet or status.state in (State.FAILED, State.LATE)


def blocked(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    keys: Collection[dg.AssetKey],
    partitions: Collection[str | None],
    contracts: Mapping[str, Contract] | None = None,
) -> dict[tuple[dg.AssetKey, str | None], tuple[Part, ...]]:
    """Which of these partitions of some assets must not be built, and the upstream partitions of their own time that failed.

    Args:
        contracts: the feeds; the default is every file in contracts/. A day that no feed has blocks nothing.
    """
    times = Timeline(graph, load_contracts() if contracts is None else contracts)
    causes = Problems(instance, times, keys).causes
    return {(key, one): causes[key][one] for key in sorted(keys) for one in partitions if one in causes[key]}


def built_without(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    key: dg.AssetKey,
    partitions: Collection[str | None],
    contracts: Mapping[str, Contract] | None = None,
) -> list[tuple[dg.AssetKey, str]]:
    """The upstream partitions, failed or blocked, that these partitions read although they are not of their own time: those
    of a lookback, of the month before, and all that an asset without partitions reads. It is built from their last good rows.

    Args:
        contracts: as of `blocked`.
    """
    times = Timeline(graph, load_contracts() if contracts is None else contracts)
    found = Problems(instance, times, [key])
    mine = times.partitions(key)
    missed: dict[tuple[dg.AssetKey, str], None] = {}
    for parent in times.parents(key):
        theirs = times.partitions(parent)
        bad = found.bad(parent)
        if theirs is None or not bad:
            continue
        if mine is None:
            read = set(range(len(theirs.keys)))
        else:
            edge = times.edge(key, parent)
            asked = [mine.position[one] for one in partitions if one is not None and one in mine.position]
            read = {other for one in asked for other in edge.reads[one] if other not in edge.own[one]}
        missed |= {(parent, theirs.keys[one]): None for one in sorted(read) if theirs.keys[one] in bad}
    return list(missed)


def details(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> dict[str, Any]:
    """What is known of the last time that a partition was made: `made_at`, `run_id`, `metadata` by name as plain values, and
    `checks`, each one's newest outcome for it (or, where `of_table`, for the whole table); empty if it never was."""
    chosen = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    records = instance.fetch_materializations(chosen, limit=1).records
    made = records[0].asset_materialization if records else None
    if made is None:
        return {}
    return {
        "made_at": moment_of(records[0].timestamp),
        "run_id": records[0].run_id or None,
        "metadata": {name: one.value for name, one in made.metadata.items() if not isinstance(one, FOR_PAGES)},
        "checks": {
            name: {
                "passed": one.passed,
                "severity": one.severity.value,
                "description": one.description,
                "of_table": one.partition != partition,
            }
            for name, one in sorted(newest_evaluations(instance, (key, partition)).items())
        },
    }


class Problems:
    """What failed and what is blocked of some assets and all that they are made of. `causes` are of all partitions behind a
    failed one, of those that failed themselves too."""

    def __init__(self, instance: dg.DagsterInstance, times: Timeline, keys: Collection[dg.AssetKey]) -> None:
        graph = times.graph
        needed = {one for key in keys for one in graph.get_ancestor_asset_keys(key, include_self=True)}
        self.records: Records = read_records(instance, graph, needed)
        self.failed: dict[dg.AssetKey, dict[str | None, _Failure]] = {}
        self.causes: dict[dg.AssetKey, dict[str | None, tuple[Part, ...]]] = {}
        self.parts: dict[dg.AssetKey, list[str | None]] = {}
        failed_runs: dict[dg.AssetKey, set[str]] = {}
        for key in (one for one in graph.toposorted_asset_keys if one in needed):
            self.parts[key] = _parts(times, key, self.records)
            attempts = {
                part: run
                for part, run in self.records.attempts.get(key, {}).items()
                if run.dagster_run.status in UNSUCCESSFUL
            }
            failed_runs[key] = {run.dagster_run.run_id for run in attempts.values()}
            upstream = {run_id for parent in times.parents(key) for run_id in failed_runs[parent]}
            checks = self.records.failed_checks.get(key, {})
            self.causes[key] = self._causes(times, key)
            # An attempt behind a failed partition was refused (gates.py): the failure is that one's.
            tried = {
                part: run
                for part, run in attempts.items()
                if run.dagster_run.run_id not in upstream and part not in self.causes[key]
            }
            wrong_ones = tried.keys() | checks.keys()
            self.failed[key] = {
                part: _failure(tried.get(part), checks.get(part, ()))
                for part in (self.parts[key] if wrong_ones else ())
                if part in wrong_ones
            }

    def bad(self, key: dg.AssetKey) -> Collection[str | None]:
        """The partitions of an asset that failed or are blocked."""
        return self.failed[key].keys() | self.causes[key].keys()

    def _causes(self, times: Timeline, key: dg.AssetKey) -> dict[str | None, tuple[Part, ...]]:
        found: dict[str | None, dict[Part, None]] = {}
        mine = times.partitions(key)
        for parent in times.parents(key):
            theirs = times.partitions(parent)
            bad = {part: self._roots(parent, part) for part in self.bad(parent)}
            if not bad or (mine is None and theirs is not None):
                continue
            edge = times.edge(key, parent) if mine is not None and theirs is not None else None
            for part in self.parts[key]:
                own = [None]
                if edge is not None and mine is not None and theirs is not None:
                    own = [theirs.keys[one] for one in edge.own[mine.position[str(part)]]]
                for one in own:
                    if one in bad:
                        found.setdefault(part, {}).update(dict.fromkeys(bad[one]))
        return {part: tuple(causes) for part, causes in found.items()}

    def _roots(self, key: dg.AssetKey, part: str | None) -> tuple[Part, ...]:
        return ((key, part),) if part in self.failed[key] else self.causes[key][part]


def _parts(times: Timeline, key: dg.AssetKey, records: Records) -> list[str | None]:
    there = times.partitions(key)
    if there is None:
        return [None]
    made = records.made.get(key, {})
    return [part for part, expected in zip(there.keys, times.expected(key), strict=True) if expected or part in made]


def _failure(run: dg.RunRecord | None, checks: Collection[FailedCheck]) -> _Failure:
    since, why = [one.at for one in checks], []
    if run is not None:
        since.append(moment_of(run.end_time) or run.update_timestamp.replace(tzinfo=UTC))
        how = "failed" if run.dagster_run.status == dg.DagsterRunStatus.FAILURE else "was cancelled"
        why.append(f"run {run.dagster_run.run_id[:8]} {how}")
    names = tuple(one.name for one in checks)
    if names:
        why.append(f"check {', '.join(names)} failed")
    run_id = run.dagster_run.run_id if run is not None else next((one.run_id for one in checks), None)
    return _Failure(min(since), "; ".join(why), run_id, names)


def _of_asset(
    instance: dg.DagsterInstance, times: Timeline, found: Problems, key: dg.AssetKey, now: datetime
) -> dict[str | None, Status]:
    due_of = times.due(key)
    made, attempts = found.records.made.get(key, {}), found.records.attempts.get(key, {})
    failed, causes = found.failed[key], found.causes[key]
    hung: dict[str, bool] = {}
    result: dict[str | None, Status] = {}
    for part in found.parts[key]:
        newest = made.get(part)
        made_at, run_id = (newest.at, newest.run_id) if newest else (None, None)
        due = due_of[part]
        run = attempts.get(part)
        if part in failed:
            one = failed[part]
            result[part] = Status(key, part, State.FAILED, one.since, one.why, made_at, one.run_id, one.checks, due=due)
        elif part in causes:
            since = min(found.failed[parent][one].since for parent, one in causes[part])
            result[part] = Status(
                key, part, State.BLOCKED, since, _blocked_by(causes[part]), made_at, run_id, (), causes[part], due
            )
        elif run is not None and not run.dagster_run.is_finished:
            run_id = run.dagster_run.run_id
            quiet = hung[run_id] if run_id in hung else hung.setdefault(run_id, _is_quiet(instance, run))
            since = moment_of(run.start_time) or run.create_timestamp.replace(tzinfo=UTC)
            hours = int(QUIET.total_seconds() // 3600)
            why = f"run {run_id[:8]} " + (f"has said nothing for {hours} h" if quiet else "is under way")
            result[part] = Status(key, part, State.RUNNING, since, why, made_at, run_id, due=due, quiet=quiet)
        elif newest is not None:
            result[part] = Status(key, part, State.PRESENT, made_at, "", made_at, run_id, due=due)
        elif due is not None and due <= now:
            result[part] = Status(key, part, State.LATE, due, f"due {due:%Y-%m-%d %H:%M} UTC", None, None, due=due)
        else:
            why = "not made yet, and nothing says when" if due is None else f"due {due:%Y-%m-%d %H:%M} UTC"
            result[part] = Status(key, part, State.WAITING, None, why, None, None, due=due)
    return result


def _blocked_by(causes: tuple[Part, ...]) -> str:
    key, part = causes[0]
    more = f" and {len(causes) - 1} more" if len(causes) > 1 else ""
    return f"blocked by {key.to_user_string()}{f' {part}' if part else ''}{more}"


def _is_quiet(instance: dg.DagsterInstance, run: dg.RunRecord) -> bool:
    """Whether a run that has not ended said nothing for long, by the real clock, which runs are stamped with."""
    quiet_since = datetime.now(UTC) - QUIET
    if run.update_timestamp.replace(tzinfo=UTC) > quiet_since:
        return False
    last = instance.get_records_for_run(run.dagster_run.run_id, limit=1, ascending=False).records
    return not last or last[0].timestamp <= quiet_since.timestamp()
