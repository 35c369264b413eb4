"""What every unit test gets: an environment and a home that are nobody's; dbt's manifests, built once.

And a process that does nothing twice: what libraries load again for each instance of Dagster is most of a small test.
"""

import gc

gc.disable()  # until the tests begin

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from foundation.contract import Contract
from foundation.settings import VARIABLES, Settings, load
from tests.unit.feeds import events

if TYPE_CHECKING:
    import dagster as dg

# Machines differ in speed, and a test that failed once must fail again without a folder of memories.
hypothesis.settings.register_profile("assay", deadline=None, database=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("assay")
PORTS = {"spark": 20001, "trino": 20002, "clickhouse": 20003, "mlflow": 20004, "dagster": 20005, "dagster-code": 20006}


def pytest_collection_finish() -> None:
    """Now nearly all modules are imported: garbage collection need not look at them, nor every 700 objects."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    if "dagster" in sys.modules:
        _load_migrations_once()


def _load_migrations_once() -> None:
    """For each storage of each instance Dagster reads all its migrations, 90 Python files, to know the newest: 0.08 s of CPU
    an instance in memory, 0.3 s one on disk."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    load_migrations = ScriptDirectory.from_config
    loaded: dict[tuple[str | None, ...], ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        key = (config.config_file_name and str(config.config_file_name), config.get_main_option("script_location"))
        if key not in loaded:
            loaded[key] = load_migrations(config)
        return loaded[key]

    ScriptDirectory.from_config = from_config  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(autouse=True)
def nobodys_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, clock or home of who runs the tests."""
    for name in list(os.environ):
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))


@pytest.fixture
def settings(nobodys_environment: None) -> Settings:
    """The settings of an empty home."""
    return load()


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """The tests' own small feed."""
    return events(tmp_path)


@pytest.fixture(scope="session")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that was set up: it has addresses (where nobody listens) and dbt's manifests of both targets."""
    from orchestrator import manifests

    home = tmp_path_factory.mktemp("set_up")
    (home / "services").mkdir()
    (home / "services" / "addresses.json").write_text(json.dumps(PORTS))
    (home / "services" / "clickhouse.password").write_text("secret\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(VARIABLES)]:
            patch.delenv(name)
        settings = load(home)
        patch.setattr(manifests, "_dbt", _dbt_in_this_process)
        for target in manifests.TARGETS:
            manifests.build(settings, target)
    return settings


def _dbt_in_this_process(words: Sequence[str], variables: Mapping[str, str]) -> None:
    """What set-up does in a process a target, which spends 3 s of CPU on imports that the tests need anyway."""
    from dbt.cli.main import dbtRunner

    from orchestrator.dbt_environment import environment_of
    from orchestrator.manifests import DBT_PROJECT

    with environment_of(variables):
        done = dbtRunner().invoke(["--no-use-colors", "--quiet", *words, "--project-dir", str(DBT_PROJECT)])
    assert done.success, done.exception


@pytest.fixture(scope="session")
def definitions(set_up: Settings) -> "Iterator[dg.Definitions]":
    """The graph, as webserver, daemon and command line load it."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dagster's betas, which the package silences outside of pytest
        for name in [name for name in os.environ if name.startswith(VARIABLES)]:
            patch.delenv(name)
        patch.setenv("ASSAY_HOME", str(set_up.home))
        from orchestrator.definitions import defs
    yield defs
    # Whoever imports it after these tests gets the graph of their own home.
    sys.modules.pop("orchestrator.definitions", None)
