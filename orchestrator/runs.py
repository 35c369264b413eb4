"""Runs that a command of ours executes in its own process.

Belongs here: executing a selection for some days and telling what happened. Does not belong here: what is selected, or
how it is printed. A run is recorded in the home's Dagster instance, where the UI shows it.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from foundation.settings import PROJECT
from orchestrator.sensors import RANGE_END, RANGE_START

if TYPE_CHECKING:
    import dagster as dg

POLL_SECONDS = 0.3
OURS = "foundation.errors.AssayError: "


@dataclass(frozen=True)
class RunReport:
    """How a run ended. `seconds` is by step, in the order they ran; `failures` what each failed step said."""

    run_id: str
    success: bool
    seconds: dict[str, float]
    failures: dict[str, str]
    checks: dict[str, bool]


def execute(
    definitions: "dg.Definitions",
    instance: "dg.DagsterInstance",
    assets: Sequence[str],
    days: tuple[date, date] | None,
    on_step: Callable[[str], None],
    partition: str | None = None,
) -> RunReport:
    """Materializes assets in this process.

    Args:
        assets: keys as `layer/table`.
        days: first and last day of the range, or None.
        on_step: told the name of each step when it starts.
        partition: a single key instead of days, such as a month.
    """
    import dagster as dg

    from orchestrator.living import fail_gone, mark

    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey.from_user_string(asset) for asset in assets]
    tags = {RANGE_START: str(days[0]), RANGE_END: str(days[1])} if days is not None else {}
    run_id = str(uuid.uuid4())
    fail_gone(instance)
    mark(instance, run_id)  # `execute_in_process` has an executor of its own, which does not

    def run() -> bool:
        return job.execute_in_process(
            asset_selection=keys,
            instance=instance,
            run_id=run_id,
            tags=tags,
            partition_key=partition,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        ).success

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(run)
        told: set[str] = set()
        while True:
            done = _finished_within(future, POLL_SECONDS)
            for stats in instance.get_run_step_stats(run_id):
                if stats.start_time and stats.step_key not in told:
                    told.add(stats.step_key)
                    on_step(stats.step_key)
            if done:
                break
        success = future.result()
    return report_of(instance, run_id, success)


def _finished_within(future: object, seconds: float) -> bool:
    from concurrent.futures import Future, wait

    assert isinstance(future, Future)
    return bool(wait([future], timeout=seconds).done)


def report_of(instance: "dg.DagsterInstance", run_id: str, success: bool) -> RunReport:
    """What a run left in the log: seconds, what failed steps said, checks."""
    import dagster as dg

    seconds = {
        stats.step_key: stats.end_time - stats.start_time
        for stats in sorted(instance.get_run_step_stats(run_id), key=lambda stats: stats.start_time or 0)
        if stats.start_time and stats.end_time
    }
    failures: dict[str, str] = {}
    checks: dict[str, bool] = {}
    for record in instance.get_records_for_run(run_id).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            text = (data.user_failure_data.description if data.user_failure_data else None) or _cause(data.error)
            failures[event.step_key or "run"] = text
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            checks[f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"] = evaluation.passed
    return RunReport(run_id, success, seconds, failures, checks)


def _cause(error: "dg.SerializableErrorInfo | None") -> str:  # pyright: ignore[reportAttributeAccessIssue]
    """The innermost message of a chain of errors, which is ours; of another one also where it came from."""
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "it failed silently"
    text = error.message.strip()
    if text.startswith(OURS):
        return text.removeprefix(OURS)
    own = re.findall(rf'File "{re.escape(str(PROJECT))}/(?!\.venv/)([^"]+)", line (\d+)', "".join(error.stack))
    return f"{own[-1][0]}:{own[-1][1]}: {text}" if own else text
