"""`./assay test`: everything that must hold before a change lands, in the order of its cost.

Belongs here: which checks there are; `./assay ci` takes them from here. Does not belong here: the tests (tests/). With
arguments it is plain pytest on them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foundation.settings import PROJECT, VARIABLES

# Each run says where its time went.
SLOWEST = ("--durations=40", "--durations-min=5")
# Contracts load, generated files are current, the lock holds what pyproject.toml asks for, workflows and the production
# deployment are valid: tests that need nothing and take seconds.
FILES = ("sources_are_current", "lock_is_current", "workflows", "production", "contract")
LINT = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "imports": ["lint-imports", "--no-cache"],
    "files": ["pytest", "-q", *[f"tests/unit/test_{name}.py" for name in FILES]],
    "SQL": ["sqlfluff", "lint", "dbt_project/models", "dbt_project/analyses"],
    "types": ["basedpyright", "--level", "error"],
}
UNIT = ["pytest", "-q", "tests/unit"]
INTEGRATION = ["pytest", *SLOWEST, "tests/end_to_end", "tests/integration"]
CHECKS = {
    **LINT,
    "unit tests": UNIT,
    # The commands first: they count a home's rows, and the others add rows of their own to the same stack.
    "end-to-end and integration tests": INTEGRATION,
}
# A test must not see the home, the addresses or the clock of who runs it, nor write on the page of a pull request.
OURS = (*VARIABLES, "GITHUB_STEP_")
KEPT = ("ASSAY_CACHE", "ASSAY_PYTHON")


def clean_environment() -> dict[str, str]:
    """The environment without what names a home or an address, and with this Python's commands first on the path."""
    environment = {n: v for n, v in os.environ.items() if n in KEPT or not n.startswith(OURS)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return environment


def run_tests(console: Console, arguments: Sequence[str]) -> int:
    """Runs every check, also after one failed, and returns 1 if any did; with arguments, pytest on them."""
    environment = clean_environment()
    binaries = Path(sys.executable).parent
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
