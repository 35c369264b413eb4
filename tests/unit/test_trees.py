"""The two trees: what is in each, and what is never described twice."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator import trees

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit that can describe itself and one before it that cannot; a description lists files."""
    folder = tmp_path / "project"
    (folder / "orchestrator").mkdir(parents=True)
    (folder / "tests").mkdir()
    git(folder, "init", "--initial-branch", "main")
    for name, text in ((".gitignore", "*.log\n"), ("kept.py", "1"), ("gone.py", "1"), ("tests/test.py", "1")):
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    git(folder, "tag", "first")
    (folder / trees.DESCRIBE).write_text("")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "second")
    monkeypatch.setattr(trees, "PROJECT", folder)
    monkeypatch.setattr(trees, "_described", listed)
    return folder


def listed(tree: Path, folder: Path, name: str) -> dict[str, Any]:
    return {str(one.relative_to(tree)): one.read_text() for one in tree.rglob("*") if one.is_file()}


def test_the_working_tree_has_what_is_not_committed_and_the_commit_has_not(settings: Settings, project: Path) -> None:
    (project / "kept.py").write_text("2")
    (project / "new.py").write_text("3")
    (project / "secret.log").write_text("4")
    (project / "gone.py").unlink()
    found = trees.trees(settings, "main")
    both = {".gitignore": "*.log\n", trees.DESCRIBE: ""}
    assert found.old == {**both, "kept.py": "1", "gone.py": "1"}
    assert found.new == {**both, "kept.py": "2", "new.py": "3"}
    assert found.files == ["gone.py", "kept.py", "new.py"]


def test_the_same_files_are_described_once_committed_or_not(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(trees, "_described", lambda tree, folder, name: asked.append(name) or {})
    for _ in range(2):
        trees.trees(settings, "main")
    assert len(asked) == 1, "a working tree without a change is its commit"
    (project / "kept.py").write_text("2")
    (project / "tests" / "test.py").write_text("2")
    for _ in range(2):
        trees.trees(settings, "main")
    assert asked[1:] == ["the working tree"]
    git(project, "commit", "-a", "-m", "third")
    trees.trees(settings, "HEAD")
    assert len(asked) == 2, "what was described before it was committed is known"


def test_a_branch_keeps_its_descriptions_with_its_base(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "load_base", lambda home: settings)
    branch = settings.model_copy(update={"base": settings.home, "home": settings.home / "branches" / "one"})
    trees.trees(branch, "main")
    assert list((settings.home / "cache" / "impact" / "kept").glob("*.json"))
    assert not (branch.home / "cache").exists()


def test_what_cannot_be_compared_is_refused_by_name(settings: Settings, project: Path) -> None:
    with pytest.raises(AssayError, match="no 'nowhere'"):
        trees.trees(settings, "nowhere")
    with pytest.raises(AssayError, match="cannot say what it declares"):
        trees.trees(settings, "first")


def test_a_branch_that_only_the_remote_has_is_named_with_it(settings: Settings, project: Path) -> None:
    git(project, "update-ref", "refs/remotes/origin/release", "HEAD")
    with pytest.raises(AssayError, match="--against origin/release is there"):
        trees.trees(settings, "release")


def test_what_a_shallow_clone_lacks_can_be_fetched(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = project.with_name("copy")
    git(project.parent, "clone", "--depth", "1", "--no-tags", f"file://{project}", "copy")
    monkeypatch.setattr(trees, "PROJECT", copy)
    assert trees.commit_of("main")
    with pytest.raises(AssayError, match="--unshallow"):
        trees.commit_of("first")


def test_a_project_in_a_folder_of_a_repository_names_its_files_as_it_does_alone(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "checkout", "--detach", "--quiet")
    inner = project / "inner"
    (inner / "orchestrator").mkdir(parents=True)
    for name in ("kept.py", trees.DESCRIBE):
        (inner / name).write_text("1")
    git(project, "add", ".")
    git(project, "commit", "-m", "third")
    (inner / "kept.py").write_text("2")
    (inner / "two words.py").write_text("3")
    (project / "kept.py").write_text("not of this project")
    monkeypatch.setattr(trees, "PROJECT", inner)
    found = trees.trees(settings, "HEAD")
    assert found.old == {"kept.py": "1", trees.DESCRIBE: "1"}
    assert found.files == ["kept.py", "two words.py"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import json\n\njson.loads('{')\n", r"described: orchestrator/describe.py:3: json.*Expecting property name"),
        ("def broken(:\n", r"described: orchestrator/describe.py:1: SyntaxError: invalid syntax$"),
        ("raise SystemExit('orders: no key.\\nNext: write one.')", "described: orders: no key$"),
    ],
)
def test_a_tree_that_does_not_load_is_answered_with_file_and_line(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "tree" / "orchestrator").mkdir(parents=True)
    (tmp_path / "tree" / "orchestrator" / "__init__.py").touch()
    (tmp_path / "tree" / trees.DESCRIBE).write_text(code)
    with pytest.raises(AssayError) as refused:
        trees._described(tmp_path / "tree", tmp_path, "here")
    assert re.search(said, refused.value.what), refused.value.what
    assert "Traceback" not in str(refused.value)


def test_no_repository_is_said_to_be_none(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(AssayError, match="no work tree of git"):
        trees.trees(settings, "main")
