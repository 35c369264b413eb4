"""The two trees that are held side by side: the working tree with what is not committed, and a commit of git; each described
by its own code, in a process of its own.

Belongs here: git, copies, and what was described before. Does not belong here: what a description holds (describe), comparing
(impact).

A description is kept in the home by what the tree's files hold: the same files are described once, whether committed or not,
and in the home of a branch's base, which outlives the branch. A tree is described in one folder, where dbt parses only the
files that changed.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import PROJECT, VARIABLES, Settings, load_base

DESCRIBE = "orchestrator/describe.py"
# Nothing there makes a table.
LEFT_OUT = ("tests/", "docs/", "bench/", ".github/")
# Who reads a tree with others finds other SQL.
READ_WITH = ("dbt-core", "dbt-trino", "dbt-clickhouse", "sqlglot")
KEPT = 20
# git's modes of plain files; links and submodules are none.
FILES = ("100644", "100755")


@dataclass(frozen=True)
class Trees:
    """Both descriptions; `commit` is what the working tree is compared with, and `files` are those that differ."""

    commit: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    files: list[str]


def trees(settings: Settings, against: str) -> Trees:
    """Describes the working tree and a commit.

    Args:
        against: any name that git knows: a branch, a tag, a hash. The working tree is compared with that very commit, so
            what others changed there since shows as well.

    Raises:
        AssayError: this is no git work tree, git does not know the name, or one of the trees cannot be described.
    """
    commit = commit_of(against)
    home = load_base(settings.base) if settings.base else settings
    folder = home.home / "cache" / "impact"
    with writer_lock(home, "impact"), ThreadPoolExecutor() as pool:
        committed, here = _blobs_of_commit(commit), _blobs_here()
        old = pool.submit(_once, folder, committed, lambda: _of_commit(folder, commit))
        new = old if committed == here else pool.submit(_once, folder, here, lambda: _of_work_tree(folder, here))
        return Trees(commit, old.result(), new.result(), _differing(commit))


def commit_of(name: str) -> str:
    """The hash of a commit.

    Raises:
        AssayError: this is no git work tree, or git does not know the name.
    """
    if _git("rev-parse", "--is-inside-work-tree", check=False).strip() != "true":
        raise AssayError(
            f"{PROJECT} is no work tree of git, so there is nothing to compare it with",
            "use a clone; if it is one, git status there says what is wrong",
        )

    def known(one: str) -> str:
        return _git("rev-parse", "--verify", "--quiet", f"{one}^{{commit}}", check=False).strip()

    if commit := known(name):
        return commit
    if known(f"origin/{name}"):
        then = f"--against origin/{name} is there"
    elif _git("rev-parse", "--is-shallow-repository").strip() == "true":
        then = "this clone is a shallow one: git fetch --unshallow brings the rest"
    else:
        then = "name a branch, a tag or a commit; git fetch brings those of others"
    raise AssayError(f"git knows no {name!r}", then)


def _once(folder: Path, blobs: Mapping[str, str], describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The description of a tree by its files, from those that are kept if these were described before."""
    read_with = [version(name) for name in READ_WITH]
    key = hashlib.sha256(json.dumps([sorted(blobs.items()), read_with]).encode()).hexdigest()[:24]
    kept = folder / "kept" / f"{key}.json"
    if kept.exists():
        os.utime(kept)
        return json.loads(kept.read_text())
    said = describe()
    kept.parent.mkdir(parents=True, exist_ok=True)
    written = kept.with_suffix(".new")
    written.write_text(json.dumps(said))
    written.replace(kept)
    for old in sorted(kept.parent.glob("*.json"), key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        old.unlink()
    return said


def _blobs_of_commit(commit: str) -> dict[str, str]:
    """The files of a commit that may make a table, each with git's name for what it holds."""
    found: dict[str, str] = {}
    for line in filter(None, _git("ls-tree", "-r", "-z", commit).split("\0")):
        (mode, _, blob), name = line.partition("\t")[0].split(), line.partition("\t")[2]
        if mode in FILES and _of_tables(name):
            found[name] = blob
    return found


def _blobs_here() -> dict[str, str]:
    """The same of the working tree, with what is not committed."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    # What was deleted and not committed is listed, and not there.
    names = sorted(
        {
            one
            for one in listed
            if one and _of_tables(one) and (PROJECT / one).is_file() and not (PROJECT / one).is_symlink()
        }
    )
    whole = "\n".join(str(PROJECT / name) for name in names)
    return dict(zip(names, _git("hash-object", "--stdin-paths", said=whole).split(), strict=True))


def _of_commit(folder: Path, commit: str) -> dict[str, Any]:
    if not _git("ls-tree", "--name-only", commit, "--", DESCRIBE).strip():
        raise AssayError(
            f"{commit[:12]} cannot say what it declares: it has no {DESCRIBE}",
            "compare with a newer commit: --against <branch, tag or hash>",
        )
    tree = _emptied(folder / "base" / "tree")
    packed = subprocess.run(["git", "archive", "--format=tar", commit], cwd=PROJECT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, [one for one in archive if _of_tables(one.name)], filter="data")
    return _described(tree, folder / "base", f"{commit[:12]}")


def _of_work_tree(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    tree = _emptied(folder / "here" / "tree")
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, tree / name)
    return _described(tree, folder / "here", "the working tree")


def _described(tree: Path, folder: Path, name: str) -> dict[str, Any]:
    # Nobody's settings: a description is the same for all who ask.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)}
    environment |= {"ASSAY_HOME": str(folder / "home"), "PYTHONPATH": str(tree)}
    file = folder / "said.json"
    file.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.describe", file], cwd=tree, env=environment, capture_output=True, text=True
    )
    if done.returncode or not file.exists():
        what, said, then = done.stderr.strip().rpartition("\nNext: ")
        raise AssayError(
            f"{name} cannot be described: {what.removesuffix('.') if said else _raised(done.stderr, tree)}",
            then.removesuffix(".") if said else "correct it, then run this again",
        )
    return json.loads(file.read_text())


def _raised(traceback: str, tree: Path) -> str:
    """What Python said at the end, and where in the tree that was."""
    files = re.findall(rf'File "{re.escape(str(tree))}/([^"]+)", line (\d+)', traceback)
    lines = traceback.strip().splitlines()
    return f"{files[-1][0]}:{files[-1][1]}: {lines[-1]}" if files else "\n".join(lines[-10:])


def _differing(commit: str) -> list[str]:
    changed = _git("diff", "--name-only", "-z", "--no-renames", "--relative", commit).split("\0")
    fresh = _git("ls-files", "-z", "--others", "--exclude-standard").split("\0")
    return sorted({name for name in (*changed, *fresh) if name})


def _emptied(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _of_tables(name: str) -> bool:
    return not name.startswith(LEFT_OUT)


def _git(*words: str, check: bool = True, said: str | None = None) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, input=said, capture_output=True, text=True)
    if check and done.returncode:
        raise AssayError(f"git {words[0]} failed: {done.stderr.strip()}", "see what git says of this folder")
    return done.stdout
