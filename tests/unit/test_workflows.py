"""The workflows are what GitHub reads, hold no secret, and do nothing that a person could not type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.settings import PROJECT
from orchestrator.cli.ci import STEPS
from orchestrator.cli.testing import LINT

GITHUB = PROJECT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
EVENTS = {"pull_request", "merge_group", "push", "schedule", "workflow_dispatch"}
JOB = {"runs-on", "timeout-minutes", "steps", "if"}
STEP = {"uses", "with", "run", "env", "if", "name", "id"}


def parsed(file: Path) -> dict[Any, Any]:
    return yaml.safe_load(file.read_text())


def events(workflow: dict[Any, Any]) -> dict[str, Any]:
    """What starts a workflow; YAML 1.1 reads its key `on` as true."""
    return workflow[True]


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step of every workflow and action, and where it stands."""
    for file in WORKFLOWS:
        for name, job in parsed(file)["jobs"].items():
            yield from ((f"{file.name}: {name}", step) for step in job["steps"])
    for file in ACTIONS:
        yield from ((str(file.relative_to(GITHUB)), step) for step in parsed(file)["runs"]["steps"])


def commands() -> list[str]:
    """What the workflows type."""
    return [step["run"] for _, step in steps() if "run" in step]


def test_there_are_workflows() -> None:
    assert {file.name for file in WORKFLOWS} == {"ci.yml", "base.yml"}
    assert set(parsed(GITHUB / "workflows" / "ci.yml")["jobs"]) == {"lint", "unit", "integration", "data"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_has_what_github_wants_and_nothing_else(file: Path) -> None:
    workflow = parsed(file)
    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}
    assert set(events(workflow)) <= EVENTS
    for job in workflow["jobs"].values():
        assert set(job) <= JOB
        assert JOB - {"if"} <= set(job)


def test_a_step_uses_an_action_or_runs_a_command() -> None:
    for where, step in steps():
        assert set(step) <= STEP, where
        assert ("uses" in step) != ("run" in step), where


def test_every_action_is_pinned_by_commit_and_says_its_version() -> None:
    for where, step in steps():
        if "uses" in step and not step["uses"].startswith("./"):
            assert PINNED.fullmatch(step["uses"]), where
    for file in [*WORKFLOWS, *ACTIONS]:
        for line in file.read_text().splitlines():
            if "uses: actions/" in line:
                assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_a_cached_environment_is_of_the_python_that_runs_it() -> None:
    found = parsed(GITHUB / "actions" / "prepare" / "action.yml")["runs"]["steps"]
    [python] = [step for step in found if "actions/setup-python@" in step["uses"]]
    [packages] = [step for step in found if step["with"].get("path") == ".venv"]
    assert f"steps.{python['id']}.outputs.python-version" in packages["with"]["key"]


def test_an_action_of_ours_is_there() -> None:
    local = {step["uses"] for _, step in steps() if step.get("uses", "").startswith("./")}
    assert {(PROJECT / name / "action.yml").is_file() for name in local} == {True}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_read_the_code_and_nothing_else(file: Path) -> None:
    assert parsed(file)["permissions"] == {"contents": "read"}


def test_no_secret_is_used_and_no_token_left_behind() -> None:
    for file in [*WORKFLOWS, *ACTIONS]:
        text = file.read_text()
        assert "pull_request_target" not in text
        assert not re.search(r"secrets\.|github\.token|GITHUB_TOKEN", text)
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


def test_every_command_is_one_of_ours_with_steps_that_there_are() -> None:
    typed = [shlex.split(command) for command in commands()]
    assert typed
    for words in typed:
        assert words[:2] == ["./assay", "ci"]
        named = [word for word in words[2:] if not word.startswith(("-", "$"))]
        assert named, "a job says which step it is"
        assert set(named) <= set(STEPS)


def test_no_expression_stands_in_a_command() -> None:
    """What a stranger wrote, such as a branch's name, would be run by the shell."""
    assert not [command for command in commands() if "${{" in command]


def test_a_job_ends_by_itself() -> None:
    assert all(0 < job["timeout-minutes"] <= 120 for file in WORKFLOWS for job in parsed(file)["jobs"].values())


def test_the_base_is_restored_from_where_it_is_saved() -> None:
    cached = {
        step["uses"].split("@")[0]: step["with"]
        for _, step in steps()
        if step.get("uses", "").startswith(("actions/cache/restore", "actions/cache/save"))
    }
    saved, restored = cached["actions/cache/save"], cached["actions/cache/restore"]
    assert saved["path"] == restored["path"]
    assert saved["key"].rpartition("-")[0] == restored["key"].rpartition("-")[0]


def test_the_hooks_of_a_commit_are_commands_of_the_lock_on_files_that_there_are() -> None:
    [repository] = parsed(PROJECT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    linters = {command[0] for command in LINT.values()}
    for hook in repository["hooks"]:
        command, *words = shlex.split(hook["entry"])
        assert hook["language"] == "system"
        assert command.removeprefix(".venv/bin/") in linters, hook["id"]
        assert all((PROJECT / word).exists() for word in words if word.startswith("tests/")), hook["id"]
        re.compile(hook.get("files", ""))
