"""`./assay test`: everything that must hold before a change lands, in the order of its cost.

Belongs here: which checks there are. Does not belong here: the tests (tests/). With arguments it is plain pytest on them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foundation.settings import PROJECT

# Each run says where its time went.
SLOWEST = ("--durations=40", "--durations-min=5")
CHECKS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "SQL": ["sqlfluff", "lint", "dbt_project/models", "dbt_project/analyses"],
    "types": ["basedpyright", "--level", "error"],
    "imports": ["lint-imports", "--no-cache"],
    "unit tests": ["pytest", "tests/unit"],
    # The commands first: they count a home's rows, and the others add rows of their own to the same stack.
    "end-to-end and integration tests": ["pytest", *SLOWEST, "tests/end_to_end", "tests/integration"],
}
# A test must not see the home, the addresses or the clock of who runs it.
OURS = ("ASSAY_", "DAGSTER_", "DBT_", "SPARK_", "TRINO_", "CLICKHOUSE_", "MLFLOW_", "ICEBERG_", "FEAST_")
KEPT = ("ASSAY_CACHE", "ASSAY_PYTHON")


def run_tests(console: Console, arguments: Sequence[str]) -> int:
    """Runs every check, also after one failed, and returns 1 if any did; with arguments, pytest on them."""
    environment = {n: v for n, v in os.environ.items() if n in KEPT or not n.startswith(OURS)}
    binaries = Path(sys.executable).parent
    environment["PATH"] = f"{binaries}{os.pathsep}{environment.get('PATH', os.defpath)}"
    checks = {"tests": ["pytest", *arguments]} if arguments else CHECKS
    failed: list[str] = []
    for name, command in checks.items():
        console.rule(name, align="left")
        began = time.monotonic()
        code = subprocess.run([binaries / command[0], *command[1:]], cwd=PROJECT, env=environment).returncode
        if code:
            failed.append(name)
        console.print(f"{name}: {'failed' if code else 'passed'} in {time.monotonic() - began:.0f} s")
    if failed:
        console.print(f"Failed: {', '.join(failed)}.", style="bold red")
        return 1
    return 0
