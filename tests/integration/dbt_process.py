"""dbt as a process of its own, for tests that kill it or run two at once. It is forked from a process that has imported dbt:
an import takes 4 s of CPU.

Belongs here: starting one, and what became of it. Does not belong here: dbt in the tests' own process (dbt_here.py).
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["pytest", "dbt.cli.main", "dbt.adapters.clickhouse", "dbt.adapters.trino"])


@dataclass
class Dbt:
    """A process that runs dbt, and the file that it prints to."""

    process: BaseProcess
    output: Path

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.exitcode

    def said(self, timeout: float = 300) -> str:
        """Waits for its end, in seconds, and gives what it printed."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"it still runs after {timeout} s: {self.output.read_text()}"
        return self.output.read_text()

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.process.kill()
        self.process.join()


def start_dbt(words: Sequence[str], environment: Mapping[str, str], output: Path) -> Dbt:
    """`dbt …` in this environment, which is all of it."""
    process = FORKED.Process(target=_run, args=(list(words), dict(environment), str(output)))
    output.write_text("")
    process.start()
    return Dbt(process, output)


def _run(words: list[str], environment: dict[str, str], output: str) -> None:
    from dbt.cli.main import cli

    os.environ.clear()
    os.environ.update(environment)
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["dbt", *words]
    cli()
