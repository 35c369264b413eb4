"""What CI would do with a pull request, done here: the workflow's own command lines, and a change that breaks data.

It comes after the demo, whose January is the base. What breaks before an engine is asked is in tests/unit/test_ci.py.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from foundation.settings import PROJECT, Settings
from orchestrator.cli.domain import SAMPLE
from orchestrator.cli.engines import rows
from orchestrator.cli.init import shipped
from orchestrator.manifests import manifest_file
from tests.conftest import SHELL, Assay

MART = "warehouse/mart_on_time_by_carrier"
DAY = ["--select", MART, "--partition", "2013-01-15"]
# Later months are still being made from what other tests landed.
JANUARY = "select sum(cityHash64(*)) from warehouse.mart_on_time_by_carrier where month = '2013-01-01'"


def typed(job: str) -> list[str]:
    """The command of a job of the workflow."""
    steps = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())["jobs"][job]["steps"]
    [command] = [step["run"] for step in steps if "run" in step]
    return shlex.split(command)


@pytest.fixture(scope="module")
def base(demo: str, assay: Assay, stack: Settings) -> Iterator[Settings]:
    """The demo's home as a base: January is there, so no sampled day is made. Its automation rests meanwhile."""
    assert assay("pause").returncode == 0
    mark = stack.home / "base.json"
    mark.write_text(json.dumps({"commit": "0" * 40, "sample": list(SAMPLE)}))
    yield stack
    mark.unlink()
    # Another tree's configuration of the services has stopped those that are no engines.
    assert assay("up").returncode == 0
    assert assay("resume").returncode == 0


def pull_request(tree: Path, base: Settings, artifacts: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The workflow's data job on a tree, as it stands in the workflow, with what it builds named."""
    # What hangs ends before the test does, and the screen says where it stood.
    where = ["--home", str(base.home), "--artifacts", str(artifacts)]
    command = [*typed("data"), "--keep", "--patience", "8", *where, *words]
    assert command[0] == "./assay"
    line = shlex.join([sys.executable, "-m", "orchestrator.cli", *command[1:]]).replace("'$BASE'", '"$BASE"')
    environment = {**SHELL, "PYTHONPATH": str(tree), "BASE": "HEAD", "COLUMNS": "200"}
    return subprocess.run(["bash", "-c", line], cwd=tree, env=environment, capture_output=True, text=True)


def test_the_data_jobs_command_builds_beside_the_base_and_leaves_what_people_look_at(
    base: Settings, tmp_path: Path
) -> None:
    before = list(rows(base, "clickhouse", JANUARY))
    done = pull_request(PROJECT, base, tmp_path, *DAY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dagster asset materialize {shlex.join(DAY)}" in done.stdout
    assert list(rows(base, "clickhouse", JANUARY)) == before
    assert (tmp_path / "dbt_docs" / "index.html").stat().st_size > 100_000
    assert (tmp_path / "catalog" / "index.html").exists()
    assert sorted(file.name for file in (tmp_path / "failing_rows").iterdir())


def test_a_model_that_builds_but_fails_its_test_is_red_with_the_reason_on_the_last_screen(
    base: Settings, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for name in shipped():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, tree / name)
    model = tree / "dbt_project" / "models" / f"{MART.replace('/', '/marts/')}.sql"
    assert "toUInt32(count()) as flights" in model.read_text()
    model.write_text(model.read_text().replace("toUInt32(count()) as flights", "toUInt32(count() + 1) as flights"))
    before, manifest = list(rows(base, "clickhouse", JANUARY)), manifest_file(base, "clickhouse").read_bytes()
    done = pull_request(tree, base, tmp_path / "artifacts", *DAY)
    assert done.returncode == 1, done.stdout
    last = done.stdout.splitlines()[-30:]
    assert any("data failed: dagster asset materialize" in line for line in last)
    assert any("mart_on_time_by_carrier_adds_up" in line for line in last)
    assert list(rows(base, "clickhouse", JANUARY)) == before
    assert manifest_file(base, "clickhouse").read_bytes() == manifest, "the base is of another tree"
    failing = tmp_path / "artifacts" / "failing_rows"
    assert (failing / "mart_on_time_by_carrier_adds_up.tsv").read_text().strip()
