"""`./assay dbt …`: plain dbt, on the right engine by itself.

Belongs here: choosing the target of a dbt command. Does not belong here: what dbt does.
"""

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.assets.warehouse import dbt_environment
from orchestrator.manifests import DBT_PROJECT, TARGETS, build, manifest_dir, manifest_file

SELECTING = ("--select", "-s", "--models", "-m")
PLAIN = re.compile(r"\d*\+?[\w.]+\+?\d*")
WRITING = ("build", "run", "seed", "snapshot", "run-operation", "clone")


def run_dbt(settings: Settings, console: Console, arguments: Sequence[str]) -> int:
    """Runs dbt on each engine that has a selected node, Trino first; returns the first exit code that is not 0."""
    if not arguments or "--help" in arguments or "--version" in arguments or "-h" in arguments:
        return subprocess.run([_dbt(), *arguments]).returncode
    for target in TARGETS:
        build(settings, target)
    targets = targets_of(settings, arguments)
    if not targets:
        console.print("No model, seed, snapshot, test or source of either engine is called that.", style="red")
        console.print("Next: ./assay dbt ls shows what there is.")
        return 1
    for target in targets:
        if len(targets) > 1:
            console.print(f"— {target}", style="bold")
        code = _call(settings, target, arguments)
        if code:
            return code
    return 0


def targets_of(settings: Settings, arguments: Sequence[str]) -> list[str]:
    """The targets on which a dbt command has something to do, in the order of the data."""
    if "--target" in arguments or "-t" in arguments or any(argument.startswith("--target=") for argument in arguments):
        flag = next(
            argument for argument in arguments if argument in ("--target", "-t") or argument.startswith("--target=")
        )
        return [flag.partition("=")[2] or arguments[list(arguments).index(flag) + 1]]
    wanted = _selected(arguments)
    found = [target for target in TARGETS if any(fnmatch.filter(_names(settings, target), word) for word in wanted)]
    # dbt knows more ways to select (state:, config., …) than names: what is not a plain name is for dbt to judge.
    plain = all(PLAIN.fullmatch(word) for word in _selection(arguments))
    return found or ([] if wanted and plain else list(TARGETS))


def _selected(arguments: Sequence[str]) -> set[str]:
    """The words of a selection, wildcards included: `+gold.x+,tag:y*` has gold, x, tag, y*."""
    return {word for selected in _selection(arguments) for word in re.findall(r"[\w*?]+", selected)}


def _selection(arguments: Sequence[str]) -> list[str]:
    """What stands behind --select and its other names."""
    words: list[str] = []
    selecting = False
    for argument in arguments:
        if argument.startswith("-"):
            name, _, value = argument.partition("=")
            selecting = name in SELECTING and not value
            if name in SELECTING and value:
                words.append(value)
        elif selecting:
            words.append(argument)
    return words


def _names(settings: Settings, target: str) -> set[str]:
    """Whatever a selection may call a node of a target: its name, tags, folders, source."""
    manifest = json.loads(manifest_file(settings, target).read_text())
    names: set[str] = set()
    nodes = manifest["nodes"]
    for node in [*nodes.values(), *manifest["exposures"].values()]:
        # The tests of models that are the other engine's stay in the manifest; their models do not.
        if node["resource_type"] == "test" and node.get("attached_node") not in nodes:
            continue
        names |= {node["name"], *node["fqn"], *node.get("tags", []), *Path(node["path"]).with_suffix("").parts}
    # Both manifests declare every source; one belongs where something is made of it.
    read = {parent for parents in manifest["parent_map"].values() for parent in parents}
    for unique_id in read & set(manifest["sources"]):
        names |= {manifest["sources"][unique_id]["source_name"], manifest["sources"][unique_id]["name"]}
    return names - {manifest["metadata"]["project_name"]}


def _call(settings: Settings, target: str, arguments: Sequence[str]) -> int:
    environment = {**os.environ, **dbt_environment(settings), "DBT_TARGET": target}
    environment["DBT_TARGET_PATH"] = environment["DBT_LOG_PATH"] = str(manifest_dir(settings, target))
    if arguments[0] not in WRITING:
        return subprocess.run([_dbt(), *arguments], env=environment, cwd=DBT_PROJECT).returncode
    with writer_lock(settings, f"dbt.{target}"):
        return subprocess.run([_dbt(), *arguments], env=environment, cwd=DBT_PROJECT).returncode


def _dbt() -> Path:
    return Path(sys.executable).parent / "dbt"
