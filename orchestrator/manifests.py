"""dbt's manifests, one a target: built by set-up, checked for staleness, never parsed by a plain `dagster` command.

Belongs here: building, finding and comparing them, and which asset a node is. Does not belong here: the assets made of them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from deploy.embedded.environment import exports
from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.names import schema_prefix
from foundation.settings import PROJECT, Settings
from orchestrator.dbt_sources import write_feed_sources

DBT_PROJECT = PROJECT / "dbt_project"
TARGETS = ("trino", "clickhouse")
# What dbt reads of the project; its own output and logs are not.
READ = ("*.sql", "*.yml", "*.yaml", "*.csv", "*.md")
WRITTEN = ("target", "logs", "dbt_packages")
# Beside a manifest whose models could not be rendered: why.
UNRENDERED = "unrendered.txt"
# dbt makes many objects that stay while it reads a project: with Python's own thresholds (700, 10, 10) a fifth of its time
# goes into looking for garbage, for which it needs 30 MB less.
FEW_COLLECTIONS = (200_000, 10, 10)
ANY_RANGE = {"ASSAY_RANGE_START": "2000-01-01", "ASSAY_RANGE_END": "2000-01-01"}


def manifest_dir(settings: Settings, target: str) -> Path:
    """Where a target's manifest and partial parse are: of this home and environment."""
    return settings.dbt_target / (schema_prefix(settings.environment) + target)


def manifest_file(settings: Settings, target: str) -> Path:
    """A target's manifest.

    Raises:
        AssayError: it was never built.
    """
    build_for_branch(settings)
    file = manifest_dir(settings, target) / "manifest.json"
    if not file.exists():
        raise AssayError(f"dbt's manifest for {target} is missing from {file.parent}", "run ./assay up")
    return file


def read_manifest(settings: Settings, target: str) -> Mapping[str, Any]:
    """What is in a target's manifest. To load the graph is to ask for it several times; it is read again when it was built
    again.

    Raises:
        AssayError: it was never built.
    """
    file = manifest_file(settings, target)
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=len(TARGETS))
def _read(file: Path, mtime_ns: int, size: int) -> Mapping[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def why_unrendered(settings: Settings, target: str) -> str:
    """Why a manifest lacks the SQL of its models: what dbt said; empty if it has it."""
    file = manifest_dir(settings, target) / UNRENDERED
    return file.read_text(encoding="utf-8") if file.exists() else ""


def build_for_branch(settings: Settings) -> None:
    """What `up` does for a home: a branch has none, and its code changes all day. Seconds after a change, else nothing."""
    if settings.base is None or all(is_current(settings, target) for target in TARGETS):
        return
    write_feed_sources(load_contracts())
    with writer_lock(settings, "dbt.manifests"), ThreadPoolExecutor() as pool:
        list(pool.map(lambda target: build(settings, target), TARGETS))


def is_current(settings: Settings, target: str) -> bool:
    """Whether a target's manifest was built from the project as it is now."""
    mark = manifest_dir(settings, target) / "project.sha256"
    return mark.exists() and mark.read_text() == _fingerprint(settings)


def build(settings: Settings, target: str) -> None:
    """Parses the project for a target, unless its manifest is current.

    Raises:
        AssayError: dbt cannot parse the project (the message is dbt's, which names file and line), or the services were
            never started, so that there are no addresses.
    """
    if is_current(settings, target):
        return
    fingerprint = _fingerprint(settings)
    folder = manifest_dir(settings, target)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("project.sha256", UNRENDERED):
        (folder / name).unlink(missing_ok=True)
    # The addresses must be those of later calls: dbt parses everything again when its profile has changed.
    variables = {**exports(settings), "DBT_TARGET_PATH": str(folder), "DBT_LOG_PATH": str(folder)}
    began = time.time_ns()
    try:
        # It takes a second longer than to parse, and the manifest has the SQL of every model, for column lineage. No engine
        # is asked, unless a model asks one while it is rendered. With a range, so that its conditions are in the SQL.
        _dbt(["compile", "--target", target, "--no-introspect", "--no-populate-cache"], {**variables, **ANY_RANGE})
    except AssayError as error:
        # dbt writes the manifest as soon as it has parsed: without a new one, to parse again would fail again.
        if not _was_written(folder / "manifest.json", began):
            raise
        # A model that cannot be rendered fails its own run; the others must load. What cannot be parsed fails here.
        _dbt(["parse", "--target", target], variables)
        (folder / UNRENDERED).write_text(error.what, encoding="utf-8")
        warnings.warn(f"column lineage on {target} is coarse, as the SQL is not known: {error.what}", stacklevel=2)
    (folder / "project.sha256").write_text(fingerprint)


def _was_written(file: Path, since_ns: int) -> bool:
    # A second of grace: a file system's clock may be coarser than ours.
    return file.exists() and file.stat().st_mtime_ns >= since_ns - 1_000_000_000


def asset_path(node: Mapping[str, Any]) -> list[str]:
    """The asset of a model, seed, snapshot or source: layer and table, or what its YAML says below `meta.dagster`."""
    config = node.get("config", {})
    meta = config.get("meta", {}).get("dagster", {})
    if "asset_key" in meta:
        return list(meta["asset_key"])
    return [node["source_name"] if node["resource_type"] == "source" else config["schema"], node["name"]]


def compiled_analyses(settings: Settings, names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The SQL of analyses of the warehouse, by name, as ClickHouse takes it.

    Args:
        environment: the variables of a dbt call (dbt_environment).
    """
    folder = run_dir(settings, "clickhouse", "analyses")
    variables = {**environment, "DBT_TARGET_PATH": str(folder), "DBT_LOG_PATH": str(folder)}
    _dbt(
        ["compile", "--target", "clickhouse", "--select", *[f"resource_type:analysis,{name}" for name in names]],
        variables,
    )
    compiled = folder / "compiled" / "assay" / "analyses"
    return {name: (compiled / f"{name}.sql").read_text(encoding="utf-8") for name in names}


def shared_state_dir(settings: Settings) -> Path:
    """The folder of one manifest with the nodes of both engines, for `dbt --defer`: a shell's exports name one folder for
    both. Made anew if it is older than either.

    Raises:
        AssayError: a manifest was never built.
    """
    file = settings.dbt_target / (schema_prefix(settings.environment) + "shared") / "manifest.json"
    parts = [manifest_file(settings, target) for target in TARGETS]
    if not file.exists() or any(part.stat().st_mtime > file.stat().st_mtime for part in parts):
        merged, *others = [json.loads(part.read_text()) for part in parts]
        for other in others:
            merged["nodes"] |= other["nodes"]
            merged["sources"] |= other["sources"]
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"manifest.{os.getpid()}.json")
        fresh.write_text(json.dumps(merged))
        fresh.replace(file)
    return file.parent


def run_dir(settings: Settings, target: str, run_id: str) -> Path:
    """A folder for one dbt call's artifacts, with the partial parse of set-up in it: dagster-dbt looks for that in one
    place for all targets, and a state parsed for another target is worth nothing."""
    folder = manifest_dir(settings, target) / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    parsed = manifest_dir(settings, target) / "partial_parse.msgpack"
    if parsed.exists():
        shutil.copy(parsed, folder / parsed.name)
    return folder


def _dbt(words: Sequence[str], variables: Mapping[str, str]) -> None:
    dbt = f"import gc; gc.set_threshold(*{FEW_COLLECTIONS}); from dbt.cli.main import cli; cli(prog_name='dbt')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", dbt, "--no-use-colors", "--quiet", *words, "--project-dir", DBT_PROJECT],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        # Trino's client says on every call that it keeps no token.
        lines = (done.stdout + done.stderr).strip().splitlines()
        said = "\n".join(line for line in lines if not line.startswith("INFO:"))
        raise AssayError(
            f"dbt {' '.join(words[:3])} failed on dbt_project:\n{said}",
            "correct the file that it names, then run this again",
        )


def _fingerprint(settings: Settings) -> str:
    files = sorted(
        file
        for pattern in READ
        for file in DBT_PROJECT.rglob(pattern)
        if file.relative_to(DBT_PROJECT).parts[0] not in WRITTEN
    )
    # By what it is made with, too: one that was only parsed has no SQL.
    digest = hashlib.sha256(f"compile {schema_prefix(settings.environment)}".encode())
    for file in files:
        digest.update(str(file.relative_to(DBT_PROJECT)).encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
