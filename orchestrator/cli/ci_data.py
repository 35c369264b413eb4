"""The data step of `./assay ci`: real data on the embedded engines, with no secret.

Belongs here: which commands build what changed, and what is kept of them. Does not belong here: what changed (impact), how
a branch is kept apart from its base (branch), what a base has (SAMPLE, the domain's). Every step is a line that a person
could type: `./assay …`, or plain `dagster asset materialize …` with the variables of `./assay env`.
"""

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.settings import PROJECT, load
from intake.archive import ACCEPTED, versions_of
from orchestrator.cli.ci_step import Red, Step
from orchestrator.cli.domain import SAMPLE
from orchestrator.cli.testing import clean_environment
from orchestrator.trees import commit_of

BRANCH = "ci"
# A model learns from whole months, which a sample of days has not; what rests on one is left out with it.
LEFT_OUT = "models"
KINDS = ["python", "-m", "orchestrator.cli.ci_data"]
# The base is made of its own commit's models.
MANIFESTS = (
    "from foundation.settings import load; from orchestrator.manifests import TARGETS, build; "
    "[build(load(), target) for target in TARGETS]"
)
# Rows of a failing test that are kept.
ROWS = 50
# A sampled day takes a minute or two a command; a command that waits for what never comes is ended, and says for what.
PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True)
class DataRequest:
    """What the data step is asked for.

    Args:
        home: where the base is, or is made.
        artifacts: where what people look at goes.
        against: the commit whose tables the base has, and whose difference is built.
        select, partition, days: built instead of what changed; as dagster's options say it, or empty.
        keep: leave the engines running.
        patience: how many seconds one command may take.
    """

    home: Path
    artifacts: Path
    against: str = "main"
    select: str = ""
    partition: str = ""
    days: str = ""
    keep: bool = False
    patience: float = PATIENCE_SECONDS


def build_base(step: Step, request: DataRequest) -> None:
    """Makes the sampled days of the base with the code of `against`, unless the home has them.

    Raises:
        Red: a command failed.
        AssayError: git does not know `against`.
    """
    commit_of(request.against)  # a mistyped one is said before the engines start
    with _engines(step, request) as environment:
        _ensure_base(step, request, environment)


def build_data(step: Step, request: DataRequest) -> None:
    """Builds what changed in a branch of the base, and keeps what people look at, also of a failure.

    Raises:
        Red: a command failed: the graph does not load, a step failed, or a check that blocks.
        AssayError: git does not know `against`.
    """
    if not SAMPLE:
        step.say("no sampled days are declared (orchestrator/cli/domain.py), so there is nothing to build")
        return
    if not request.select:  # what is named needs no git, if the base is there
        commit_of(request.against)
    with _engines(step, request) as base:
        _ensure_base(step, request, base)
        with suppress(Red):  # there may be none
            step.run(["./assay", "branch", "drop", BRANCH], base)
        step.run(["./assay", "branch", "create", BRANCH], base)
        branch = base | {"ASSAY_ENV": "branch", "ASSAY_BRANCH": BRANCH, "ASSAY_BASE": str(request.home)}
        exported = _exported(step, branch)
        began = time.time()
        try:
            for words in _plan(step, request, branch, exported):
                typed = time.time()
                step.run(words, exported, lambda _, typed=typed: _explained(Path(exported["DAGSTER_HOME"]), typed))
        finally:
            _keep(step, request, branch, Path(exported["DAGSTER_HOME"]).parent, began)


@contextmanager
def _engines(step: Step, request: DataRequest) -> Iterator[dict[str, str]]:
    """The engines of the home, for as long as they are needed; the environment of a shell that uses it."""
    environment = clean_environment() | {"ASSAY_HOME": str(request.home)}
    step.patience = request.patience
    try:
        # The home's manifests are of the base's code, and stay so.
        step.run(["./assay", "up", "--engines", "--no-manifests"], environment)
        yield environment
    finally:
        if not request.keep:
            try:
                step.run(["./assay", "down"], environment)
            except Red as red:  # it must not hide why the step is red
                step.say(f"not stopped: {red.reason[0] if red.reason else red.command}")


def _ensure_base(step: Step, request: DataRequest, environment: Mapping[str, str]) -> None:
    mark = request.home / "base.json"
    there = json.loads(mark.read_text()) if mark.exists() else {}
    if there.get("sample") == list(SAMPLE):
        step.say(f"the base is there, of commit {there['commit'][:12]}")
        if not request.select and there["commit"] != (commit := commit_of(request.against)):
            step.note(
                f"The base's tables are of commit {there['commit'][:12]}: what `{request.against}` ({commit[:12]}) has "
                "changed since shows in compared rows as well."
            )
        return
    commit = commit_of(request.against)
    code = request.home / "code"
    if code.exists():  # of a run that was killed
        shutil.rmtree(code)
    _git("worktree", "prune")
    _git("worktree", "add", "--detach", str(code), commit)
    try:
        at_base = {**environment, "PYTHONPATH": str(code)}
        step.run(["python", "-c", MANIFESTS], at_base, folder=code)
        for line in SAMPLE:
            step.run(shlex.split(line), at_base, folder=code)
    finally:
        _git("worktree", "remove", "--force", str(code))
    mark.write_text(json.dumps({"commit": commit, "sample": list(SAMPLE)}))


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise AssayError(
            f"git {' '.join(words)}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}",
            "see what git says of this folder",
        )
    return done.stdout.strip()


def _exported(step: Step, environment: Mapping[str, str]) -> dict[str, str]:
    lines = step.run(["./assay", "env"], environment).splitlines()
    assigned = [shlex.split(line)[1].partition("=") for line in lines if line.startswith("export ")]
    return {**environment, **{name: value for name, _, value in assigned}}


def _plan(
    step: Step, request: DataRequest, branch: Mapping[str, str], exported: Mapping[str, str]
) -> Iterator[list[str]]:
    """The `dagster asset materialize` lines: of what was asked for, else of what changed and what is made of it."""
    materialize = ["dagster", "asset", "materialize", "--select"]
    if request.select:
        days = ["--partition", request.partition] if request.partition else []
        days += ["--partition-range", request.days] if request.days else []
        # Loads the graph, and refuses what matches nothing, part by part, which dagster itself does not.
        step.run(["./assay", "dagster", "asset", "list", "--select", request.select], branch)
        yield [*materialize, request.select, *days]
        return
    # Loads the graph: a contract, feature or asset that is broken is named here.
    kind_of = json.loads(step.run(KINDS, exported).splitlines()[-1])

    told: list[str] = []

    def keep(impact: str) -> list[str]:
        if not impact.strip():  # it could not be told; an earlier page stays
            return []
        (request.artifacts / "impact.md").write_text(impact)
        step.notes[:] = [impact, *(note for note in step.notes if note not in told)]
        told.append(impact)
        return [line for line in impact.splitlines() if "**Refused**" in line]

    # Exit code 1 if a contract breaks and its version does not say so.
    impact = ["./assay", "impact", "--against", request.against, "--markdown"]
    keep(step.run(impact, branch, keep))
    changed = step.run(["./assay", "changed", "--against", request.against, "--downstream"], branch)
    assets = [asset for asset in changed.strip().split(",") if asset]
    sampled = [line.split("\t") for line in step.run(["./assay", "changed", "--partitions"], branch).splitlines()]
    daily, whole, months, empty = (
        [one for one in assets if kind_of.get(one) == kind] for kind in ("daily", "whole", "months", "no file")
    )
    if empty:
        step.note(f"Not built, as no file of their feeds has come to the base: {', '.join(empty)}.")
    if months:
        step.note(f"Not built, as they are of whole months or rest on such: {', '.join(months)}.")
    if not daily and not whole:
        step.note("Nothing changed of what makes a table: nothing was built.")
        return
    step.note("Built on " + "; ".join(f"{day} ({why})" for day, why in sampled) + ".")
    for first, last in _ranges([date.fromisoformat(day) for day, _ in sampled]) if daily else ():
        days = ["--partition", str(first)] if first == last else ["--partition-range", f"{first}...{last}"]
        yield [*materialize, ",".join([*whole, *daily]), *days]
        whole = []  # once is enough
    if whole:
        yield [*materialize, ",".join(whole)]
    # All is built: the same page again, with the rows that are others than the base's.
    of_days = [word for day, _ in sampled for word in ("--partition", day)]
    keep(step.run([*impact, "--rows", *of_days], branch, keep))


def kinds_of(definitions: object, without_files: Sequence[str] = ()) -> dict[str, str]:
    """How each asset of a graph that a run can make is built for a sample of days: `daily` or `whole`; not at all if it
    rests on `months`, or on a feed of which there is `no file`, as of a new one.

    Args:
        without_files: such feeds.
    """
    import dagster as dg

    assert isinstance(definitions, dg.Definitions)
    graph = definitions.get_repository_def().asset_graph

    def resting_on(*keys: str) -> AbstractSet[dg.AssetKey]:
        return dg.AssetSelection.from_coercible([f'key:"{key}"+' for key in keys]).resolve(graph, allow_missing=True)

    months = resting_on(f"{LEFT_OUT}/*")
    empty = resting_on(*(f"bronze/{feed}" for feed in without_files)) if without_files else set()
    found: dict[str, str] = {}
    for key in graph.materializable_asset_keys:
        daily = isinstance(graph.get(key).partitions_def, dg.DailyPartitionsDefinition)
        kind = "no file" if key in empty else "months" if key in months else "daily" if daily else "whole"
        found[key.to_user_string()] = kind
    return found


def _ranges(days: Sequence[date]) -> list[tuple[date, date]]:
    from orchestrator.partitions import consecutive

    return consecutive(days)


def _explained(dagster_home: Path, began: float) -> list[str]:
    """What the steps that failed said, from the run that Dagster recorded; nothing if there is none."""
    import dagster as dg

    from orchestrator.runs import report_of

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        records = instance.get_run_records(limit=1)
        if not records or records[0].create_timestamp.timestamp() < began:
            return []
        report = report_of(instance, records[0].dagster_run.run_id, False)
    lines = [f"{step.replace('__', '/')}: {text}" for step, text in report.failures.items()]
    lines += [f"failed check {name}" for name, passed in report.checks.items() if not passed]
    return [line for text in lines for line in text.splitlines() if line.strip()][:24]


def _keep(step: Step, request: DataRequest, branch: Mapping[str, str], home: Path, began: float) -> None:
    """Collects what people look at. What cannot be made of a broken tree is said, and hides no failure before it."""

    def attempt(*words: str) -> str:
        try:
            return step.run(["./assay", *words], branch)
        except Red as red:
            step.say(f"not kept: {red.reason[0] if red.reason else red.command}")
            return ""

    folder = request.artifacts
    said = attempt("dbt", "docs", "--no-serve").splitlines()
    for site in [line for line in said if line.startswith("/") and Path(line).is_dir()][-1:]:
        shutil.copytree(site, folder / "dbt_docs", dirs_exist_ok=True)
    attempt("catalog", "--to", str(folder / "catalog"))
    if (home / "data_docs").is_dir():
        shutil.copytree(home / "data_docs", folder / "data_docs", dirs_exist_ok=True)
    rows = folder / "failing_rows"
    rows.mkdir(parents=True, exist_ok=True)
    feeds: list[str] = []
    with suppress(AssayError):  # of a broken contract, which the step that loaded the graph has named
        feeds = list(load_contracts())
    counted = attempt("quarantine") if feeds else ""  # a line a feed, which ends with its counts
    (rows / "quarantine.txt").write_text(counted)
    for feed in feeds:
        if re.search(rf"^{feed} .*[1-9]", counted, re.MULTILINE):
            (rows / f"quarantine_{feed}.txt").write_text(attempt("quarantine", feed, "--limit", str(ROWS)))
    for test, engine, statement in _failed_tests(home, began):
        (rows / f"{test}.sql").write_text(statement + "\n")
        limited = f"select * from ({statement}) failing limit {ROWS}"
        (rows / f"{test}.tsv").write_text(attempt("sql", "--engine", engine, limited))
    shutil.copytree(request.home / "services" / "logs", folder / "logs" / "services", dirs_exist_ok=True)


def _failed_tests(home: Path, began: float) -> Iterator[tuple[str, str, str]]:
    """dbt's tests that failed since a moment: name, engine, and the statement that finds the rows."""
    for file in sorted((home / "dbt").glob("*/runs/*/run_results.json")):
        if file.stat().st_mtime < began:
            continue
        for result in json.loads(file.read_text())["results"]:
            if result["status"] == "fail" and result.get("compiled_code"):
                engine = next(name for name in ("trino", "clickhouse") if name in file.parts[-4])
                yield result["unique_id"].split(".")[2], engine, result["compiled_code"].strip()


def _print_kinds() -> None:
    """Prints `kinds_of` by the graph and the ledger of this environment."""
    from orchestrator.definitions import defs

    settings = load()
    accepted = {
        feed: any(one.state == ACCEPTED for one in versions_of(settings, feed, None)) for feed in load_contracts()
    }
    print(json.dumps(kinds_of(defs, [feed for feed, some in accepted.items() if not some])))


if __name__ == "__main__":
    _print_kinds()
