"""`./assay ci`: what a person sees of a red step, and that a broken tree is red before an engine is asked."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from rich.console import Console

from deploy.embedded.environment import exports
from foundation.errors import AssayError
from foundation.settings import PROJECT, Settings
from orchestrator import trees
from orchestrator.cli import ci, ci_data
from orchestrator.cli.ci_data import KINDS, DataRequest, kinds_of
from orchestrator.cli.ci_step import REASON_LINES, Step, reason_of
from orchestrator.cli.domain import SAMPLE
from orchestrator.cli.platform import start
from orchestrator.cli.testing import FILES, LINT
from orchestrator.runs import report_of

PYTEST = """\
tests/unit/test_names.py ..F                                            [100%]
E       AssertionError: a schema without a prefix
E       assert 'gold' == 'pr_42__gold'
FAILED tests/unit/test_names.py::test_a_branch_has_a_prefix - AssertionError
1 failed, 2 passed in 0.11s
"""
PYTHON = f"""\
Traceback (most recent call last):
  File "{PROJECT}/.venv/lib/python3.11/site-packages/dagster/_core/load.py", line 3, in load
  File "{PROJECT}/orchestrator/domain.py", line 12, in domain_assets
    return feature_asets()
           ^^^^^^^^^^^^^^
NameError: name 'feature_asets' is not defined
"""
OURS = """\
  spark: starting
error: orders.odcs.yaml: load: 'sometimes' is not built.
Next: correct load in contracts/orders.odcs.yaml.
"""


@pytest.fixture
def request_of(tmp_path: Path) -> DataRequest:
    return DataRequest(tmp_path / "home", tmp_path / "artifacts")


def screen(names: list[str], request: DataRequest) -> tuple[int, str]:
    written = io.StringIO()
    return ci.run_ci(Console(file=written, width=120), names, request), written.getvalue()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Step, DataRequest], None]]:
    """Steps that are not the real ones."""
    found = {
        "good": lambda step, _: step.run([sys.executable, "-c", "print('fine')"], os.environ),
        "bad": lambda step, _: step.run([sys.executable, "-c", "import json; json.loads('{')"], os.environ),
    }
    monkeypatch.setattr(ci, "STEPS", {name: (run, name) for name, run in found.items()})
    return found


def test_a_red_step_is_exit_code_1_and_the_last_screen_says_command_reason_and_log(
    steps: object, request_of: DataRequest
) -> None:
    code, said = screen(["good", "bad"], request_of)
    assert code == 1
    reasons = said[said.index("bad failed") :]
    assert "json.loads" in reasons
    assert "JSONDecodeError: Expecting property name" in reasons
    [log] = [line.partition("all of it: ")[2] for line in reasons.splitlines() if "all of it: " in line]
    assert "Traceback" in Path(log).read_text()
    assert [line.split()[:2] for line in reasons.splitlines()[-2:]] == [["good", "passed"], ["bad", "failed"]]
    assert len(reasons.splitlines()) < 24


def test_a_command_that_does_not_end_is_red_with_where_it_stood_and_leaves_no_child(
    monkeypatch: pytest.MonkeyPatch, request_of: DataRequest, tmp_path: Path
) -> None:
    (tmp_path / "waits.py").write_text(
        "import subprocess, sys, time\n"
        "def wait_for_nobody():\n"
        "    time.sleep(600)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('asking', child.pid, file=sys.stderr, flush=True)\n"
        "wait_for_nobody()\n"
    )

    def hang(step: Step, _: DataRequest) -> None:
        step.patience = 3
        step.run([sys.executable, str(tmp_path / "waits.py")], os.environ)

    monkeypatch.setattr(ci, "STEPS", {"data": (hang, "")})
    code, said = screen(["data"], request_of)
    assert code == 1
    reasons = said[said.index("data failed") :]
    assert "It did not end in 0.05 minutes" in reasons
    assert re.search(r"waits.py., line 3 in wait_for_nobody", reasons)
    assert "Next: mend what it waits for" in reasons
    [child] = re.findall(r"asking (\d+)", reasons)
    assert not psutil.pid_exists(int(child))


def test_all_green_is_exit_code_0(steps: object, request_of: DataRequest) -> None:
    code, said = screen(["good"], request_of)
    assert code == 0
    assert "failed" not in said


def test_each_command_is_printed_before_it_runs(steps: object, request_of: DataRequest) -> None:
    said = screen(["good"], request_of)[1]
    assert "-c 'print('\"'\"'fine'\"'\"')'" in said.splitlines()[0]


def test_a_step_that_there_is_not_is_refused_before_any_runs(steps: object, request_of: DataRequest) -> None:
    with pytest.raises(AssayError, match="no step 'date'"):
        screen(["good", "date"], request_of)
    assert not request_of.artifacts.exists()


def test_days_without_assets_are_refused_before_any_step_runs(steps: object, request_of: DataRequest) -> None:
    with pytest.raises(AssayError, match="of which days --select is made"):
        screen(["good"], replace(request_of, partition="2013-01-15"))
    assert not request_of.artifacts.exists()


def test_a_mistake_of_a_step_itself_is_red_and_the_others_are_told(
    steps: dict[str, Any], request_of: DataRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(step: Step, _: DataRequest) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(ci, "STEPS", {**ci.STEPS, "mistaken": (mistaken, "")})
    code, said = screen(["mistaken", "good"], request_of)
    assert code == 1
    assert "ZeroDivisionError: division by zero" in said
    assert said.splitlines()[-1].split()[:2] == ["good", "passed"]


def test_a_mistyped_commit_is_said_before_an_engine_starts(
    request_of: DataRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci_data, "SAMPLE", ("./assay land nothing",))
    code, said = screen(["data", "base"], replace(request_of, against="nowhere"))
    assert code == 1
    assert said.count("git knows no 'nowhere'") == 2
    assert "$ ./assay up" not in said


def test_the_base_is_made_by_its_own_commit_and_once(
    request_of: DataRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for words in (("init", "--initial-branch", "main"), ("add", "."), ("commit", "-m", "first")):
        (project / "model.sql").write_text("main's")
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        subprocess.run(["git", *identity, *words], cwd=project, check=True, capture_output=True)
    (project / "model.sql").write_text("the pull request's")
    for module in (ci_data, trees):
        monkeypatch.setattr(module, "PROJECT", project)
    monkeypatch.setattr(ci_data, "SAMPLE", ("./assay land orders",))
    ran: list[tuple[str, str, bool]] = []

    def run(
        _: Step, words: list[str], environment: dict[str, str], explain: object = None, folder: Path = project
    ) -> str:
        ours = environment.get("PYTHONPATH") == str(folder)
        ran.append((" ".join(words[:2]), (folder / "model.sql").read_text(), ours))
        return ""

    monkeypatch.setattr(Step, "run", run)
    (request_of.home / "code").mkdir(parents=True)
    (request_of.home / "code" / "left.py").write_text("of a run that was killed")
    for _ in range(2):
        assert screen(["base"], request_of)[0] == 0
    engines = [("./assay up", "the pull request's", False), ("./assay down", "the pull request's", False)]
    assert ran == [engines[0], ("python -c", "main's", True), ("./assay land", "main's", True), engines[1], *engines]
    assert not (request_of.home / "code").exists()


def test_the_line_that_makes_manifests_finds_those_that_are_there(set_up: Settings) -> None:
    command = [sys.executable, "-c", ci_data.MANIFESTS]
    subprocess.run(command, cwd=PROJECT, env={**os.environ, "ASSAY_HOME": str(set_up.home)}, check=True)


def test_the_page_of_the_pull_request_says_the_same(
    steps: object, request_of: DataRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    screen(["good", "bad"], request_of)
    assert "| good | passed |" in page.read_text()
    assert "| bad | failed |" in page.read_text()
    assert "JSONDecodeError" in page.read_text()


@pytest.mark.parametrize(
    ("output", "first", "also"),
    [
        (PYTEST, "E       AssertionError: a schema without a prefix", "FAILED tests/unit/test_names.py"),
        (PYTHON, f'File "{PROJECT}/orchestrator/domain.py", line 12', "NameError: name 'feature_asets'"),
        (OURS, "error: orders.odcs.yaml", "Next: correct load"),
        ("one\ntwo\n", "one", "two"),
    ],
)
def test_the_reason_is_what_a_person_would_look_for(output: str, first: str, also: str) -> None:
    reason = reason_of(output)
    assert reason[0].startswith(first)
    assert any(also in line for line in reason)


def test_lint_looks_at_tests_that_there_are() -> None:
    assert all((PROJECT / "tests" / "unit" / f"test_{name}.py").is_file() for name in FILES)
    assert {command[0] for command in LINT.values()} == {"ruff", "lint-imports", "pytest", "sqlfluff", "basedpyright"}


def test_the_sample_is_made_of_lines_that_a_person_can_type() -> None:
    assert {tuple(line.split()[:2]) for line in SAMPLE} <= {("./assay", "land"), ("./assay", "dagster")}


def test_what_rests_on_a_month_is_left_out_of_a_sample_of_days() -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")
    months = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2013-02-01")
    keys = {
        name: dg.AssetKey(name.split("/")) for name in ("gold/facts", "gold/names", "models/late", "warehouse/scores")
    }

    @dg.asset(key=keys["gold/facts"], partitions_def=days)
    def facts() -> None: ...

    @dg.asset(key=keys["gold/names"])
    def names() -> None: ...

    @dg.asset(key=keys["models/late"], partitions_def=months, deps=[facts])
    def late() -> None: ...

    @dg.asset(key=keys["warehouse/scores"], partitions_def=days, deps=[late])
    def scores() -> None: ...

    graph = dg.Definitions(assets=[facts, names, late, scores])
    assert kinds_of(graph) == {
        "gold/facts": "daily",
        "gold/names": "whole",
        "models/late": "months",
        "warehouse/scores": "months",
    }


def test_a_feed_of_which_the_base_has_no_file_is_left_out_with_what_is_made_of_it() -> None:
    feeds = {name: dg.AssetKey(["bronze", name]) for name in ("old", "fresh")}

    @dg.asset(key=feeds["old"])
    def old() -> None: ...

    @dg.asset(key=feeds["fresh"])
    def fresh() -> None: ...

    @dg.asset(key=dg.AssetKey(["gold", "both"]), deps=[old, fresh])
    def both() -> None: ...

    found = kinds_of(dg.Definitions(assets=[old, fresh, both]), ["fresh"])
    assert found == {"bronze/old": "whole", "bronze/fresh": "no file", "gold/both": "no file"}


def test_a_step_that_raises_is_red_with_file_and_line_and_a_message_of_ours_as_it_is() -> None:
    @dg.asset
    def mistaken() -> None:
        json.loads("{")

    @dg.asset
    def refused() -> None:
        raise AssayError("gold/x has no row", "land one")

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([mistaken, refused], instance=instance, raise_on_error=False)
        said = report_of(instance, run.run_id, False).failures
    assert re.match(r"tests/unit/test_ci\.py:\d+: .*JSONDecodeError: Expecting property name", said["mistaken"])
    assert said["refused"] == "gold/x has no row.\nNext: land one."


# A tree that somebody broke ------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the graph is made of."""
    copy = tmp_path / "tree"
    for name in (
        *("foundation", "intake", "spark_assets", "feature_repo", "ml", "deploy", "orchestrator", "dbt_project"),
        *("contracts", "pyproject.toml", "quality"),
    ):
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
        elif (PROJECT / name).exists():
            shutil.copy(PROJECT / name, copy / name)
    return copy


def reason(tree: Path, settings: Settings, *command: str) -> str:
    """What is shown if a command of the data step fails on a tree."""
    environment = {**os.environ, **exports(settings), "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    shown = reason_of((done.stdout + done.stderr).replace(str(tree), str(PROJECT)))
    assert len(shown) <= REASON_LINES
    return "\n".join(shown)


def broken(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def test_a_broken_contract_is_red_before_an_engine_starts(tree: Path, settings: Settings) -> None:
    feeds = sorted((tree / "contracts").glob("*.odcs.yaml"))
    if not feeds:
        pytest.skip("a platform without feeds")
    file = feeds[0]
    broken(file, "value: full", "value: sometimes")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "orchestrator.cli", "up", "--engines", "--no-manifests"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "sometimes" in reason_of(done.stderr)[0]
    assert not settings.services_dir.exists()


def test_what_loads_manifests_does_not_start_with_those_of_another_tree(settings: Settings) -> None:
    with pytest.raises(AssayError, match="load dbt's manifests as they start"):
        start(settings, Console(), manifests=False)
    assert not settings.services_dir.exists()


def test_a_broken_model_is_red_with_its_file(tree: Path, set_up: Settings, settings: Settings) -> None:
    models = sorted((tree / "dbt_project" / "models" / "gold").glob("*.sql"))
    if not models:
        pytest.skip("a platform without models")
    models[0].write_text("select * from {{ ref('nobody') }}\n")
    shutil.copytree(set_up.home, settings.home)  # dbt parses what changed since
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", ci_data.MANIFESTS], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    shown = "\n".join(reason_of(done.stderr))
    assert "depends on a node named 'nobody'" in shown
    assert f"models/gold/{models[0].name}" in shown


def test_a_new_feed_leaves_generated_files_current(tree: Path, tmp_path: Path) -> None:
    sample = tmp_path / "two words.csv"
    sample.write_text("receipt_no,amount\n1,2.50\n2,3.75\n")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "orchestrator.cli", "new", "feed", "receipts", "--from", str(sample)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"./assay land receipts --file '{sample}'" in done.stdout
    sources = tree / "dbt_project" / "models" / "sources" / "feeds.yml"
    assert "name: receipts" in sources.read_text()


def test_a_broken_asset_is_red_with_file_and_line(tree: Path, set_up: Settings) -> None:
    # One that is loaded before dbt is, which takes 3 s.
    broken(tree / "orchestrator" / "assets" / "lake.py", "\ndef lake_assets(", "\n@dg.aset\ndef lake_assets(")
    shown = reason(tree, set_up, sys.executable, *KINDS[1:])
    assert "orchestrator/assets/lake.py" in shown
    assert "aset" in shown


def test_a_broken_feature_is_red_with_its_name(tree: Path, set_up: Settings) -> None:
    file = tree / "feature_repo" / "definitions.py"
    if not file.exists():
        pytest.skip("a platform without features")
    file.write_text(file.read_text() + "\nVIEWS = {**VIEWS, 'nobodys_history': VIEWS['nobody']}\n")
    shown = reason(tree, set_up, sys.executable, *KINDS[1:])
    assert "nobody" in shown
    assert "feature_repo/definitions.py" in shown
