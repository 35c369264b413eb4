"""The sensor that tells owners of problems.

Belongs here: finding problems in Dagster's event log, and the sensor. Does not belong here: what is told again (alerts), how
it is sent (alert_delivery), and judging data: late partitions, quarantine spikes, drift and refused promotions are checks, so
that they show in the UI as well, and a failed check is all that is looked for here.

New events say where to look, the log's newest state says what is so: a partition that was made meanwhile is no problem, and
a run that fails for 400 days is one. What is open is kept in Dagster's own database, as its daemon keeps its cursors, and not
in the sensor's cursor: Dagster keeps a copy of that with each tick, and a tick that is killed keeps none.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.events import DagsterEventType
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.alert_delivery import addresses, deliver
from orchestrator.alerts import (
    EVERYBODY,
    FAILED,
    FAILED_CHECK,
    FAILED_RUN,
    KIND,
    LATE,
    LATE_CHECKS,
    MOST_LETTERS,
    OVER,
    Memory,
    Problem,
    as_text,
    compare,
    from_text,
    headline,
    letters,
    ranges,
    short,
    split_next,
)
from orchestrator.history import FINISHED
from orchestrator.living import fail_gone

MEMORY = "assay/alerts"
# Of each kind a tick; the rest waits for the next one.
MOST_EVENTS = 500
STEPS = {DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
AN_ERROR = "foundation.errors.AssayError: "


def alerts_sensor(settings: Settings) -> dg.SensorDefinition:
    """Each half minute: what failed since the last look and what is over is told to its owners."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Failed runs and checks are told to the owners of their assets, at the addresses of ASSAY_ALERTS.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        began, now, instance = time.monotonic(), time.time(), context.instance
        for run_id in fail_gone(instance):
            context.log.warning(f"run {run_id} was under way in a process that is gone: marked as failed")
        newest = instance.event_log_storage.get_maximum_record_id() or 0
        memory = recall(instance)
        if memory is None:
            _remember(instance, Memory(after=newest))
            return dg.SkipReason("From now on: what failed before is not told.")
        found = [told.problem for told in memory.open.values()]
        if newest > memory.after:
            assert context.repository_def is not None
            found, memory.after = _Look(instance, context.repository_def.asset_graph, memory).problems(newest)
        changes = compare(memory, found, now)
        for change in changes:
            (context.log.info if change.word == OVER else context.log.warning)(
                f"{change.word}, of {', '.join(change.problem.owners)}: {headline(change.problem)}. {change.problem.what}"
            )
        if settings.alerts is not None:
            memory.letters += letters(changes, now, settings.environment, ui_address(settings))
            for lost in memory.letters[:-MOST_LETTERS]:
                context.log.error(f"Too many messages wait; {lost.owner} is not told: {lost.title}")
            memory.letters = memory.letters[-MOST_LETTERS:]
        # Before anything is sent: a tick that is killed while it sends tells nothing twice but one message.
        _remember(instance, memory)
        if memory.letters:
            try:
                book = addresses(settings)
                deliver(memory, book, now, began, lambda: _remember(instance, memory), context.log.error)
            except AssayError as error:
                context.log.error(str(error))
        told = (
            "" if settings.alerts is not None else " ASSAY_ALERTS is not set: they stand in the log of the tick only."
        )
        return dg.SkipReason(
            f"{len(memory.open)} problems are open, {len(changes)} changes, {len(memory.letters)} messages wait.{told}"
        )

    return alerts


def recall(instance: dg.DagsterInstance) -> Memory | None:
    """What was told and what waits; None if the sensor never looked."""
    text = instance.daemon_cursor_storage.get_cursor_values({MEMORY}).get(MEMORY)
    return from_text(text) if text else None


def _remember(instance: dg.DagsterInstance, memory: Memory) -> None:
    instance.daemon_cursor_storage.set_cursor_values({MEMORY: as_text(memory)})


def ui_address(settings: Settings) -> str:
    """The address of Dagster's pages, or nothing if the services of this home were never started."""
    try:
        return f"http://127.0.0.1:{settings.port('dagster')}"
    except AssayError:
        return ""


class _Look:
    """One look at the event log."""

    def __init__(self, instance: dg.DagsterInstance, graph: AssetGraph, memory: Memory) -> None:
        self.instance, self.graph, self.memory = instance, graph, memory
        self.log = instance.event_log_storage
        self.by_step = {one.node_def.name: one.keys for one in graph.assets_defs if one.is_executable}

    def problems(self, newest: int) -> tuple[list[Problem], int]:
        """All problems that there are now, and the last event that was read."""
        failures = self._events(DagsterEventType.RUN_FAILURE)
        checked = self._events(DagsterEventType.ASSET_CHECK_EVALUATION)
        upto = min([newest, *(max(events) for events in (failures, checked) if len(events) == MOST_EVENTS)])
        candidates = {key: told.problem for key, told in self.memory.open.items()}
        failed_checks: set[str] = set()
        for number, entry in checked.items():
            evaluation = entry.asset_check_evaluation
            if number <= upto and evaluation is not None and not evaluation.passed and entry.dagster_event:
                self._note(candidates, self._failed_check(evaluation, entry.timestamp))
                failed_checks.add(entry.run_id)
        failures = {number: entry for number, entry in failures.items() if number <= upto}
        of_runs = {entry.run_id: list(self._failed_run(entry)) for entry in failures.values()}
        for problem in (problem for problems in of_runs.values() for problem in problems):
            self._note(candidates, problem)
        found = {key: now for key, one in candidates.items() if (now := self._now(one)) is not None}
        for entry in failures.values():
            if entry.run_id in failed_checks or self._made_again(of_runs[entry.run_id]):
                continue
            one = self._run_itself(entry, found)
            if one is not None:
                found[one.key] = one
        return list(found.values()), upto

    def _events(self, kind: DagsterEventType) -> Mapping[int, dg.EventLogEntry]:
        return self.log.get_logs_for_all_runs_by_log_id(
            after_cursor=self.memory.after, dagster_event_type=kind, limit=MOST_EVENTS
        )

    def _note(self, candidates: dict[str, Problem], problem: Problem) -> None:
        """The newest of a problem says what it is, the first since when."""
        known = candidates.get(problem.key)
        candidates[problem.key] = replace(problem, since=known.since) if known else problem

    def _owners(self, key: dg.AssetKey) -> tuple[str, ...]:
        return tuple(self.graph.get(key).owners if self.graph.has(key) else ()) or (EVERYBODY,)

    def _failed_check(self, evaluation: dg.AssetCheckEvaluation, at: float) -> Problem:
        key = evaluation.asset_check_key
        declared = self.graph.get(key).metadata.get(KIND) if key in self.graph.asset_check_keys else None
        kind = LATE if key.name in LATE_CHECKS else str(declared or FAILED_CHECK)
        action = evaluation.metadata.get("next")
        return Problem(
            kind=kind,
            subject=key.asset_key.to_user_string(),
            owners=self._owners(key.asset_key),
            what=short(evaluation.description or ""),
            next=str(action.value) if action else self._next(key.asset_key),
            since=at,
            check=key.name,
        )

    def _failed_run(self, entry: dg.EventLogEntry) -> Iterator[Problem]:
        """What a run failed at: the assets of its failed steps; of one that died, of the steps that were under way."""
        run = self.instance.get_run_by_id(entry.run_id)
        ended: dict[str, Any] = {}
        for event in self.instance.all_logs(entry.run_id, of_type=STEPS):
            ended[str(event.step_key)] = event.dagster_event
        for step, event in ended.items():
            if event.event_type == DagsterEventType.STEP_SUCCESS:
                continue
            what, action = self._why(event, entry)
            for key in sorted(self.by_step.get(step.partition(".")[0], ())):
                if run is None or run.asset_selection is None or key in run.asset_selection:
                    subject, next_ = key.to_user_string(), action or self._next(key)
                    when = entry.timestamp
                    yield Problem(
                        FAILED, subject, self._owners(key), what, next_, since=when, run=entry.run_id, at=when
                    )

    def _run_itself(self, entry: dg.EventLogEntry, found: Mapping[str, Problem]) -> Problem | None:
        """A run that failed without an asset to show for it: before its first step, or after it had made all. None if one
        of its assets is told already."""
        run = self.instance.get_run_by_id(entry.run_id)
        keys = sorted((run and run.asset_selection) or ())
        told = {problem.subject for problem in found.values() if problem.kind == FAILED}
        if any(key.to_user_string() in told for key in keys):
            return None
        owners = tuple(sorted({owner for key in keys for owner in self._owners(key)})) or (EVERYBODY,)
        steps = self.instance.all_logs(entry.run_id, of_type=DagsterEventType.STEP_FAILURE)
        what, action = self._why(steps[-1].dagster_event if steps else None, entry)
        named = (
            f"It was to make {', '.join(key.to_user_string() for key in keys[:5])}{', …' * (len(keys) > 5)}."
            if keys
            else ""
        )
        return Problem(
            FAILED_RUN,
            f"run {entry.run_id[:8]}",
            owners,
            f"{what}\n{named}".strip(),
            action or "read the run in the Dagster UI, then run it again",
            since=entry.timestamp,
            run=entry.run_id,
        )

    def _why(self, event: dg.DagsterEvent | None, entry: dg.EventLogEntry) -> tuple[str, str]:
        if event is None or event.event_type != DagsterEventType.STEP_FAILURE:
            said = entry.dagster_event.message if entry.dagster_event else None
            return split_next(said or "the run ended without a word")
        data = event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return split_next(data.user_failure_data.description)
        error = data.error and (data.error.cause or data.error)
        return split_next(error.message.removeprefix(AN_ERROR) if error else "its step failed")

    def _next(self, key: dg.AssetKey) -> str:
        name = key.to_user_string()
        if self.graph.has(key) and self.graph.get(key).is_partitioned:
            return f"./assay partitions {name}"
        return f"correct what it names, then ./assay dagster asset materialize --select {name}"

    def _now(self, problem: Problem) -> Problem | None:
        """A problem as it is now, None if it is over. While a run tries again it stays as it was."""
        key = dg.AssetKey.from_user_string(problem.subject)
        check = dg.AssetCheckKey(key, problem.check)
        if not self.graph.has(key) or (problem.check and check not in self.graph.asset_check_keys):
            return None  # nobody declares it any more
        if problem.check:
            failed, busy = self._failing(check)
        elif self.graph.get(key).is_partitioned:
            failed, busy = self._unmade(key)
        else:
            return None if self._made_again([problem]) else problem
        if problem.key in self.memory.open and busy:
            return problem
        if not failed:
            return None
        days = {day for day in failed if day is not None}
        partitions = self.graph.get(key).partitions_def
        order = partitions.get_partition_keys() if days and partitions else ()
        return replace(problem, partitions=ranges(days, order), count=len(days))

    def _unmade(self, key: dg.AssetKey) -> tuple[set[str | None], bool]:
        """The partitions whose newest attempt failed or was cancelled; whether one is under way."""
        attempts = self.log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        unfinished = self._unfinished({run for run, _ in attempts.values()})
        return {day for day, (run, _) in attempts.items() if run not in unfinished}, bool(unfinished)

    def _failing(self, key: dg.AssetCheckKey) -> tuple[set[str | None], bool]:
        """The partitions for which a check fails, None for the table; whether it is being evaluated."""
        newest = self.log.get_asset_check_partition_info([key])
        judged = [one for one in newest if one.latest_execution_status != Status.PLANNED]
        last = max((one.latest_check_event_storage_id for one in judged), default=None)
        failed = {
            one.partition_key
            for one in judged
            if one.latest_execution_status == Status.FAILED
            # of the table only what was said last: since then its partitions were judged
            and (one.partition_key is not None or one.latest_check_event_storage_id == last)
        }
        planned = {one.latest_planned_run_id for one in newest if one.latest_execution_status == Status.PLANNED}
        return failed, bool(self._unfinished(planned))

    def _unfinished(self, runs: set[str]) -> set[str]:
        if not runs:
            return set()
        found = self.instance.get_runs(dg.RunsFilter(run_ids=sorted(runs)))
        return {run.run_id for run in found if run.status not in FINISHED}

    def _made_again(self, problems: list[Problem]) -> bool:
        """Whether all these assets were made since they failed."""
        return bool(problems) and all(self._made_since(problem) for problem in problems)

    def _made_since(self, problem: Problem) -> bool:
        event = self.instance.get_latest_materialization_event(dg.AssetKey.from_user_string(problem.subject))
        return event is not None and (event.run_id == problem.run or event.timestamp > problem.at)
