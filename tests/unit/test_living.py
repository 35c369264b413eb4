"""A run that was killed is over, and nothing waits for it; one that lives is let alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from deploy.embedded import branches, programs
from foundation.settings import PROJECT, Settings, branch_settings
from orchestrator.living import FOLDER, GONE, fail_gone, mark

# With the file `wait` there, the step waits for ever, in its pool's only place.
GRAPH = """
import time
from pathlib import Path

import dagster as dg
from orchestrator.executor import in_process

@dg.asset(pool="engine")
def table() -> None:
    Path("began").touch()
    while Path("wait").exists():
        time.sleep(0.1)

defs = dg.Definitions(assets=[table], executor=in_process)
"""
POOLS = "telemetry: {enabled: false}\nconcurrency:\n  pools: {granularity: op, default_limit: 1}\n"
STARTED = dg.DagsterRunStatus.STARTED


@dg.job
def nothing() -> None: ...


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of a home."""
    programs.prepare_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as one:
        one.event_log_storage.initialize_concurrency_limit_to_default("engine")
        yield one


def waits(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a step that needs the engine would wait."""
    return not instance.event_log_storage.claim_concurrency_slot("engine", run_id, "table").is_claimed


def test_the_next_command_does_not_wait_for_a_run_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text(POOLS)
    (tmp_path / "small_graph.py").write_text(GRAPH)
    (tmp_path / "wait").touch()
    command = [
        Path(sys.executable).parent / "dagster",
        *["asset", "materialize", "-m", "small_graph", "--select", "table"],
    ]
    path = f"{tmp_path}{os.pathsep}{PROJECT}"
    environment = {**os.environ, "PYTHONPATH": path, "DAGSTER_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as killed:
        deadline = time.monotonic() + 120
        while not (tmp_path / "began").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
    (tmp_path / "wait").unlink()
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120).returncode == 0
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        second, first = instance.get_runs()
        assert (first.status, second.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
        said = [one.event_log_entry.message for one in instance.get_records_for_run(first.run_id).records]
        assert any(GONE in one for one in said)


def test_a_run_that_lives_is_let_alone(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing, status=STARTED)
    mark(instance, run.run_id)
    assert not waits(instance, run.run_id)
    assert fail_gone(instance) == []
    assert [one.status for one in instance.get_runs()] == [STARTED]
    assert waits(instance, "another")


def test_a_mark_of_a_run_that_ended_goes_and_the_run_stays_as_it_ended(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS)
    file = Path(instance.root_directory) / FOLDER / run.run_id
    file.parent.mkdir()
    file.touch()
    assert fail_gone(instance) == []
    assert not file.exists()
    assert [one.status for one in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]


def test_a_run_that_was_ended_from_outside_gives_its_place_back(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing, status=STARTED)
    assert not waits(instance, run.run_id)
    instance.report_run_canceled(run)
    assert waits(instance, "another"), "Dagster itself frees it now: this may go"
    fail_gone(instance)
    assert not waits(instance, "another")


def test_where_a_cluster_launches_runs_nothing_is_marked_and_no_cluster_is_asked(tmp_path: Path) -> None:
    launcher = yaml.safe_load((PROJECT / "deploy" / "production" / "dagster.yaml").read_text())["run_launcher"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, "run_launcher": launcher}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        mark(instance, instance.create_run_for_job(nothing, status=STARTED).run_id)
        assert fail_gone(instance) == []
        assert [one.status for one in instance.get_runs()] == [STARTED]
    assert not (tmp_path / FOLDER).exists()


def test_a_branch_that_is_made_while_its_base_builds_does_not_wait_for_that(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    run = instance.create_run_for_job(nothing, status=STARTED)
    mark(instance, run.run_id)
    assert not waits(instance, run.run_id)
    branch = branch_settings(settings, "pr-42")
    programs.prepare_data(branch)
    branches.copy_history(settings, branch)
    with dg.DagsterInstance.from_config(str(branch.dagster_home)) as own:
        assert waits(own, "of the branch")
        assert fail_gone(own) == []
        assert not waits(own, "of the branch")
    assert [one.status for one in instance.get_runs()] == [STARTED]
