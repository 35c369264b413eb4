"""`./assay init --empty`: the list of what is domain is complete, and what is left is a platform that passes its tests."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from foundation.contract import load_contract
from foundation.errors import AssayError
from foundation.settings import PROJECT
from orchestrator.cli.init import DOMAIN, INSTEAD, MENTIONED, WORDS, copy_without_domain, shipped
from tests.conftest import type_assay


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without flights."""
    folder = tmp_path_factory.mktemp("parent") / "platform"
    copy_without_domain(folder)
    return folder


def run_there(copy: Path, *command: str) -> str:
    """What a tool of the virtual environment prints in the copy; it must succeed."""
    tool = Path(sys.executable).parent / command[0]
    environment = {**os.environ, "PYTHONPATH": str(copy), "ASSAY_HOME": str(copy / ".assay")}
    done = subprocess.run([tool, *command[1:]], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_in_a_copy_speaks_of_flights_but_what_says_why(copy: Path) -> None:
    files = {file.relative_to(copy).as_posix(): file for file in copy.rglob("*") if file.is_file()}
    speaking = {path for path, file in files.items() if WORDS.search(file.read_text(errors="replace"))}
    assert {path for path in speaking if not any(fnmatch(path, pattern) for pattern in MENTIONED)} == set()
    assert [path for path in files if WORDS.search(path)] == []


@pytest.mark.parametrize("pattern", DOMAIN)
def test_whatever_is_listed_as_domain_is_there(pattern: str) -> None:
    assert any(fnmatch(path, pattern) for path in shipped()), "take it off the list of orchestrator/cli/init.py"


def test_what_stands_for_the_domain_is_at_its_place(copy: Path) -> None:
    for file in INSTEAD.rglob("*.*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert (copy / file.relative_to(INSTEAD)).read_bytes() == file.read_bytes()
    assert os.access(copy / "assay", os.X_OK)


def test_no_page_links_to_what_a_copy_does_not_have(copy: Path) -> None:
    for page in [copy / "README.md", *copy.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_first_contract_of_its_readme_is_one(copy: Path, tmp_path: Path) -> None:
    text = (copy / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (rows,) = re.findall(r"```csv\n(.*?)\n", text)
    file = tmp_path / "orders.odcs.yaml"
    file.write_text(example)
    assert ",".join(column.name for column in load_contract(file).received) == rows


def test_a_copy_passes_the_checks_that_take_no_time(copy: Path) -> None:
    run_there(copy, "ruff", "check", ".")
    run_there(copy, "ruff", "format", "--check", ".")
    run_there(copy, "lint-imports", "--no-cache")


def test_every_test_of_a_copy_can_be_collected(copy: Path) -> None:
    run_there(copy, "pytest", "--collect-only", "-q", "tests")


def test_a_copy_loads_empty_and_with_a_first_contract(copy: Path) -> None:
    run_there(copy, "pytest", "-q", "tests/unit/test_definitions.py", "tests/unit/test_sources_are_current.py")


def test_a_copy_lands_a_file_of_its_first_feed(copy: Path, tmp_path: Path) -> None:
    example = re.findall(r"```yaml\n(.*?)```", (copy / "README.md").read_text(), re.DOTALL)[0]
    contract, file = copy / "contracts" / "orders.odcs.yaml", tmp_path / "orders.csv"
    contract.parent.mkdir()
    contract.write_text(example)
    file.write_text("order_date,order_id,country,amount\n")
    try:
        landed = run_there(
            copy, "python", "-m", "orchestrator.cli", "land", "orders", "2025-01-15", "--file", str(file)
        )
        assert Path(landed.strip()) == copy / ".assay/landing/orders/ds=2025-01-15/orders.csv"
    finally:
        contract.unlink()
        contract.parent.rmdir()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AssayError, match="not an empty folder"):
        copy_without_domain(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled_and_one_of_the_project_is_refused(tmp_path: Path) -> None:
    copy_without_domain(tmp_path / "new" / "platform")
    assert (tmp_path / "new" / "platform" / "assay").exists()
    assert [folder.name for folder in (tmp_path / "new").iterdir()] == ["platform"], "no unfinished copy is left"
    (tmp_path / "empty").mkdir()
    copy_without_domain(tmp_path / "empty")
    with pytest.raises(AssayError, match="is in this project"):
        copy_without_domain(PROJECT / "platform")


@pytest.mark.parametrize("words", [["init"], ["init", "somewhere"], ["init", "--empty"]])
def test_init_that_was_not_told_enough_explains_itself(tmp_path: Path, words: list[str]) -> None:
    answer = type_assay(tmp_path, *words)
    assert answer.returncode == 1
    assert "./assay init --empty" in answer.stderr
    assert not (PROJECT / "somewhere").exists()
