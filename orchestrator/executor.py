"""The executor: Dagster's in-process one, which refuses two runs that nobody means, and ends those that were killed.

Belongs here: what no run may be, whoever starts it. Does not belong here: what a person's own command line can say more
about (cli/selecting.py). One process, as a step of its own process costs 2.5 s on two cores, and the work is done by the
engines.

`dagster asset materialize` takes a selection that matches nothing for the whole graph, also of a range, and a range that ends
before it begins for a run of no partition, which is green (Dagster 1.13). Both arrive here before the first step.
"""

from collections.abc import Iterator
from typing import Any, cast

import dagster as dg

from foundation.errors import AssayError
from orchestrator.living import fail_gone, mark
from orchestrator.sensors import RANGE_END, RANGE_START

WHOLE_GRAPH = "__ASSET_JOB"


class RefusingExecutor(dg.Executor):
    """Another executor's work, but for runs of the whole graph and of backward ranges; a run that was killed is over first."""

    def __init__(self, executor: dg.Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> Any:
        return self._executor.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._executor.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Raises:
        AssayError: the run is one of the two; no step was begun.
        """
        run: dg.DagsterRun = plan_context.dagster_run
        if run.job_name == WHOLE_GRAPH and not run.asset_selection:
            raise AssayError(
                "The selection matched no asset, or all of them: Dagster takes both for the whole graph, so nothing was run",
                "look at what it matches with dagster asset list --select …, and name what is to be made",
            )
        start, end = run.tags.get(RANGE_START, ""), run.tags.get(RANGE_END, "")
        if start > end:  # days and months are written so that the order of the texts is that of time
            raise AssayError(
                f"The range {start}...{end} ends before it begins, so it has no partition",
                f"write it as --partition-range {end}...{start}",
            )
        fail_gone(plan_context.instance)  # or this run would wait for their places in the pools
        mark(plan_context.instance, run.run_id)
        yield from self._executor.execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema=cast(Any, dg.in_process_executor.config_schema))
def in_process(context: dg.InitExecutorContext) -> RefusingExecutor:
    """Dagster's in-process executor, with its configuration, that refuses."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None, "Dagster's own executor"
    return RefusingExecutor(create(context))
