"""Branch environments: making one from its base in seconds, listing them, dropping them.

Belongs here: the branch's home, and the order in which its parts are made and taken away. Does not belong here: what a
branch is (foundation/settings), the clone of the lake (spark_assets/clone.py), its part of each service
(deploy/embedded/branches.py).

`branch.json` is written first and removed last, so that a command that was killed is run again.
"""

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from rich.console import Console

from deploy.embedded import branches, programs
from deploy.embedded.files import write_private
from feature_repo.configuration import project
from foundation.errors import AssayError
from foundation.lake import pin_published
from foundation.lock import writer_lock
from foundation.settings import Settings, branch_record, branch_settings
from orchestrator.cli.printing import print_table

RECORD = "branch.json"
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def create(base: Settings, name: str, console: Console) -> Settings:
    """Makes the environment of a branch: every table of the base as it is now, to read and to build over.

    Raises:
        AssayError: it is there already, another has its names, the base was never started or its services are down.
    """
    began = time.monotonic()
    branch = branch_settings(base, name)
    if not base.catalog_file.exists() or not (base.services_dir / "addresses.json").exists():
        raise AssayError(f"{base.home} has no tables to branch from", "run ./assay up there first")
    with writer_lock(base, f"branch.{branch.home.name}", wait_seconds=10):
        record = branch_record(branch)
        if record and record["branch"] != name:
            raise AssayError(f"{name} would have the names of the branch {record['branch']}", "give it another name")
        if record.get("state") == "ready":
            raise AssayError(f"The branch {name} is there already", f"use it, or ./assay branch drop {name} first")
        if not record:
            branches.refuse_taken(base, branch)
        _mark(branch, "creating")
        programs.prepare_data(branch)
        if (kept := base.home / "settings.env").exists():
            shutil.copy(kept, branch.home / kept.name)
        _at_once(
            lambda: _clone_tables(base, branch),
            lambda: branches.add_catalog(base, branch),
            lambda: branches.copy_arrivals(base, branch),
            lambda: branches.copy_history(base, branch),
            lambda: branches.copy_online_store(base, branch, project(base), project(branch)),
        )
        _mark(branch, "ready")
    console.print(f"The branch {name} is ready after {time.monotonic() - began:.1f} s: {branch.home}")
    said = f"ASSAY_BRANCH={shlex.quote(name)} ASSAY_BASE={shlex.quote(str(base.home))}"
    console.print(f"  export ASSAY_ENV=branch {said}", soft_wrap=True, markup=False)
    return branch


def drop(base: Settings, name: str, console: Console) -> None:
    """Takes everything of a branch away; nothing of its base.

    Raises:
        AssayError: there is no such branch, or the base's services are down.
    """
    branch = branch_settings(base, name)
    with writer_lock(base, f"branch.{branch.home.name}", wait_seconds=60):
        record = branch_record(branch)
        if record.get("branch") != name:
            known = ", ".join(one.environment for one, _ in _known(base)) or "none"
            raise AssayError(f"There is no branch {name} of {base.home}; there are: {known}", "see ./assay branch list")
        _mark(branch, "dropping")
        _at_once(
            lambda: branches.remove_catalog(base, branch),
            lambda: branches.remove_databases(base, branch),
            lambda: branches.remove_models(base, branch),
        )
        for entry in branch.home.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != RECORD:
                entry.unlink()
        shutil.rmtree(branch.home)
    console.print(f"The branch {name} is gone.")


def drop_old(base: Settings, older_than: str, console: Console) -> None:
    """Drops every branch that was made longer ago than `14d` (also h, w).

    Raises:
        AssayError: it is no age, or some could not be dropped; the others are gone.
    """
    found = re.fullmatch(r"(\d+)([hdw])", older_than)
    if not found:
        raise AssayError(f"{older_than!r} is no age", "write it as 14d, 36h or 2w")
    limit = datetime.now(UTC) - timedelta(**{UNITS[found[2]]: int(found[1])})
    old = [branch for branch, created in _known(base) if created < limit]
    stayed: dict[str, AssayError] = {}
    for branch in old:
        try:
            drop(base, branch.environment, console)
        except AssayError as error:
            stayed[branch.environment] = error
    if not old:
        console.print(f"No branch is older than {older_than}.")
    if stayed:
        said = "; ".join(f"{name}: {error.what}" for name, error in stayed.items())
        raise AssayError(f"Not dropped: {said}", next(iter(stayed.values())).next_action)


def print_branches(base: Settings, console: Console) -> None:
    """A line a branch."""
    lines = [("branch", "state", "made (UTC)", "own files", "home")]
    for branch, created in _known(base):
        files = [file.stat() for file in branch.home.rglob("*") if file.is_file()]
        own = sum(file.st_size for file in files if file.st_nlink == 1)  # the others are the base's as well
        state = branch_record(branch)["state"]
        lines.append(
            (branch.environment, state, f"{created:%Y-%m-%d %H:%M}", f"{own / 2**20:.0f} MB", str(branch.home))
        )
    if len(lines) > 1:
        print_table(console, lines)
    else:
        console.print(f"{base.home} has no branches; ./assay branch create <name> makes one.", soft_wrap=True)


def _known(base: Settings) -> Iterator[tuple[Settings, datetime]]:
    for file in sorted((base.home / "branches").glob(f"*/{RECORD}")):
        record = json.loads(file.read_text())
        yield branch_settings(base, record["branch"]), datetime.fromisoformat(record["created"])


def _mark(branch: Settings, state: str) -> None:
    branch.home.mkdir(parents=True, exist_ok=True)
    before = branch_record(branch)
    created = before.get("created") or datetime.now(UTC).isoformat(timespec="seconds")
    record = {"branch": branch.environment, "state": state, "created": created}
    write_private(branch.home / RECORD, json.dumps(record, indent=1))


def _at_once(*parts: Callable[[], None]) -> None:
    """Each waits for another engine most of its time."""
    with ThreadPoolExecutor(len(parts)) as pool:
        for future in [pool.submit(part) for part in parts]:
            future.result()


def _clone_tables(base: Settings, branch: Settings) -> None:
    from spark_assets.clone import clone_lake

    clone_lake(base, branch)
    branches.add_databases(base, branch, pin_published(branch))
