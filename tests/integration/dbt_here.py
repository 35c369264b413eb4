"""dbt in the tests' own process, for tests that are about its tables: its imports, 4 s of CPU a start, are paid once.

Belongs here: calls that do what a process of its own would. Does not belong here: tests of the command line, of what is
killed and of what runs at once; those start processes.
"""

import io
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout

from rich.console import Console

from foundation.errors import AssayError
from foundation.settings import Settings, load
from orchestrator.cli.dbt import run_dbt
from orchestrator.dbt_environment import environment_of


def assay_dbt_here(stack: Settings, *words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`./assay dbt …` on the stack's home: what it returns and prints."""
    out, err = io.StringIO(), io.StringIO()
    variables = {"ASSAY_HOME": str(stack.home), "COLUMNS": "200", **env}
    with environment_of(variables), redirect_stdout(out), redirect_stderr(err):
        try:
            code = run_dbt(load(stack.home), Console(), words)
        except AssayError as error:
            code = 1
            err.write(str(error))
    return subprocess.CompletedProcess(["dbt", *words], code, out.getvalue(), err.getvalue())


def plain_dbt_here(words: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
    """`dbt …` with these variables: what it returns and prints."""
    from dbt.cli.main import dbtRunner

    out = io.StringIO()
    with environment_of(variables), redirect_stdout(out):
        done = dbtRunner().invoke(list(words))
    return (0 if done.success else 1 if done.exception is None else 2), out.getvalue()
