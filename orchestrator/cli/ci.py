"""`./assay ci`: what a pull request must pass, as steps of plain command lines that anybody can type.

Belongs here: the steps, their order, and how a red one is shown. Does not belong here: what is linted and tested
(testing.py), what the data step does (ci_data.py) and when CI runs (.github/workflows, which only call this).

Steps run beside each other, as many as there are processors; the commands of a step one after the other. What a command
writes goes to a file; the last screen says which failed, and why.
"""

import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from foundation.errors import AssayError
from orchestrator.cli.ci_data import DataRequest, build_base, build_data
from orchestrator.cli.ci_step import REASON_LINES, Red, Step, reason_of
from orchestrator.cli.printing import print_table
from orchestrator.cli.testing import INTEGRATION, LINT, UNIT, clean_environment


def _lint(step: Step, _: DataRequest) -> None:
    red: list[Red] = []
    for command in LINT.values():
        try:
            step.run(command, clean_environment())
        except Red as one:  # the others are told as well: one push mends them all
            red.append(one)
    if red:
        reason = [line for one in red for line in ([f"$ {one.command}"] if len(red) > 1 else []) + one.reason[:8]]
        raise Red(
            "; ".join(one.command for one in red), reason[: 2 * REASON_LINES], [log for one in red for log in one.logs]
        )


def _unit(step: Step, _: DataRequest) -> None:
    step.run(UNIT, clean_environment())


def _integration(step: Step, _: DataRequest) -> None:
    step.run(INTEGRATION, clean_environment())


STEPS: dict[str, tuple[Callable[[Step, DataRequest], None], str]] = {
    "lint": (_lint, "linters, types, import rules, contracts, generated files, workflows, production's configuration"),
    "unit": (_unit, "unit tests"),
    "data": (build_data, "builds what changed on real engines, for sampled days"),
    "integration": (_integration, "commands and every engine on one stack; an hour"),
    "base": (build_base, "builds the sampled days of main that data compares with"),
}
USUAL = ("lint", "unit", "data")


def list_steps(console: Console) -> None:
    """Prints the steps."""
    lines = [("step", "by itself", "what"), *[(n, "yes" if n in USUAL else "", what) for n, (_, what) in STEPS.items()]]
    print_table(console, lines)


def run_ci(console: Console, names: Sequence[str], request: DataRequest) -> int:
    """Runs steps and says how each ended; 1 if any is red.

    Args:
        names: of `STEPS`; the usual ones if there are none.
        request: what the data step is asked for, and the folder for what all steps leave.

    Raises:
        AssayError: there is no such step, or days without assets.
    """
    for name in names:
        if name not in STEPS:
            raise AssayError(f"There is no step {name!r}", f"use one of {', '.join(STEPS)}")
    if (request.partition or request.days) and not request.select:
        raise AssayError(
            "--partition and --partition-range say of which days --select is made, and there is none",
            "name the assets, such as --select silver/orders, or leave the days out",
        )
    logs = request.artifacts / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    steps = [Step(name, console, logs) for name in dict.fromkeys(names or USUAL)]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(lambda step: _run(step, request), steps))
    _report(console, steps)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(as_markdown(steps))
    return int(any(step.red for step in steps))


def _run(step: Step, request: DataRequest) -> None:
    began = time.monotonic()
    try:
        STEPS[step.name][0](step, request)
    except Red as red:
        step.red = red
    except AssayError as error:
        step.red = Red(f"./assay ci {step.name}", str(error).splitlines(), [])
    except Exception:  # noqa: BLE001 - a mistake of one step must not hide what the others found
        step.red = Red(f"./assay ci {step.name}", reason_of(traceback.format_exc()), [])
    step.seconds = time.monotonic() - began
    step.say(f"{'failed' if step.red else 'passed'} after {step.seconds:.0f} s")


def _report(console: Console, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.red:
            console.print(f"\n[bold red]{step.name} failed[/]: {escape(step.red.command)}", soft_wrap=True)
            for line in step.red.reason:
                console.print(f"  {line}", markup=False, soft_wrap=True)
            for log in step.red.logs:
                console.print(f"  all of it: {log}", markup=False, soft_wrap=True)
    console.print()
    print_table(console, [("step", "outcome", "seconds"), *[_line(step) for step in steps]])


def _line(step: Step) -> tuple[str, str, str]:
    return step.name, "failed" if step.red else "passed", f"{step.seconds:.0f}"


def as_markdown(steps: Sequence[Step]) -> str:
    """The page of a pull request: a table, the reason of each red step, what the steps noted."""
    parts = ["| step | outcome | seconds |\n|---|---|---|", *["| {} | {} | {} |".format(*_line(one)) for one in steps]]
    for step in steps:
        if step.red:
            reason = "\n".join(step.red.reason).replace("```", "'''")
            parts.append(f"\n**{step.name} failed**: `{step.red.command}`\n\n```text\n{reason}\n```")
        parts += [f"\n{note}" for note in step.notes]
    return "\n".join(parts) + "\n"
