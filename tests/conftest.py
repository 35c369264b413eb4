"""What every test shares: no setting of who runs them, and one embedded stack for all that need engines."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foundation.settings import PROJECT, VARIABLES, Settings, load

KEPT = ("ASSAY_CACHE", "ASSAY_PYTHON", "ASSAY_TEST_HOME")
for name in [name for name in os.environ if name.startswith(VARIABLES) and name not in KEPT]:
    del os.environ[name]

# What a person's shell has: libraries used by tests write variables of their own (MLflow its address), which would make a
# command believe that somebody else runs the service.
SHELL = dict(os.environ)

Assay = Callable[..., subprocess.CompletedProcess[str]]


def type_assay(
    home: Path, *words: str, env: dict[str, str] | None = None, timeout: int = 900
) -> subprocess.CompletedProcess[str]:
    """Types `./assay …` as a person with this home would, and returns what they see."""
    environment = {**SHELL, "ASSAY_HOME": str(home), "COLUMNS": "200", **(env or {})}
    return subprocess.run(
        [PROJECT / "assay", *words], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a running home: every service, its own ports. Started once for all tests.

    `ASSAY_TEST_HOME` names a home to keep and use again, for who writes tests.
    """
    kept = os.environ.get("ASSAY_TEST_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("home")
    started = type_assay(home, "up")
    assert started.returncode == 0, started.stdout + started.stderr
    yield load(home)
    if not kept:
        stopped = type_assay(home, "down")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.fixture(scope="session")
def assay(stack: Settings) -> Assay:
    """Types a command on the stack's home."""

    def type_on_stack(
        *words: str, env: dict[str, str] | None = None, timeout: int = 900
    ) -> subprocess.CompletedProcess[str]:
        return type_assay(stack.home, *words, env=env, timeout=timeout)

    return type_on_stack
