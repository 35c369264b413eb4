"""`./assay dbt …`: plain dbt, in the person's own schemas, on the right engine by itself.

Belongs here: where a dbt command runs, with what it is told. Does not belong here: what dbt does, and Dagster, whose import
takes longer than building a mart.

dbt runs in this process, so that one import and one reading of the project serve the choice of the engine and the work.
"""

import difflib
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.names import schema_prefix
from foundation.settings import Settings
from orchestrator.cli.arguments import day_of
from orchestrator.cli.engines import AWAY
from orchestrator.dbt_environment import environment_of, own_environment, own_pins, pins_now, shared_environment
from orchestrator.dbt_errors import place, places, sent_statement, summary
from orchestrator.manifests import DBT_PROJECT, FEW_COLLECTIONS, TARGETS, build, manifest_dir
from orchestrator.selection import WORD, Graph, across

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

SELECTING, EXCLUDING = ("--select", "-s", "--models", "--model", "-m"), ("--exclude",)
# These run on-run-start or write by themselves: one at a time.
WRITING = ("build", "run", "test", "seed", "snapshot", "run-operation", "clone", "retry")
# These ask no engine, or nothing of the lake.
ASKING_NOTHING = ("ls", "list", "parse", "deps", "clean", "debug")
# What stands in a selection of these is a source or an exposure too.
LISTING = ("ls", "list", "source", "docs", "compile")
MADE = ("model", "seed", "snapshot", "test", "unit_test")
FOLDERS = {"gold": "trino", "warehouse": "clickhouse"}
# Libraries that tell of each attempt to connect, and Trino's of a package for OAuth2 that nobody needs; dbt says it once.
CHATTY = ("trino.auth", "trino.client", "urllib3.connectionpool", "clickhouse_connect.driver._backend.http_sync")
HELP = """\
./assay dbt COMMAND … is dbt in your own schemas, on the engine that the selected models are built by. Of its own it has:

  docs [--port N | --no-serve]   one site for both engines, served here or only written
  --days 2013-01-01..2013-01-31  daily models replace these days only
  --rows 10                      show so many rows of each table that was built
  --shared                       write the shared tables, which everybody reads, instead of your own

What follows is dbt's.
"""


def run_dbt(settings: Settings, console: Console, arguments: Sequence[str]) -> int:
    """Runs dbt on each engine that has a selected node, Trino first; returns the first exit code that is not 0."""
    if not arguments or set(arguments) & {"--help", "--version", "-h"}:
        console.print(HELP, markup=False)
        return subprocess.run([Path(sys.executable).parent / "dbt", *arguments]).returncode
    words, shared, days, rows = own_options(arguments)
    gc.set_threshold(*FEW_COLLECTIONS)
    call = DbtCall(settings, shared)
    os.environ.update(call.variables() | days)
    if words[0] == "docs":
        from orchestrator.cli.dbt_docs import docs

        return docs(call, console, words[1:])
    if not shared and call.writes != settings:
        prefix = schema_prefix(call.writes.environment)
        note = f"writes {prefix}gold and {prefix}warehouse; what is not built there is read from the shared tables"
        Console(stderr=True, highlight=False).print(note, style="dim", soft_wrap=True)
    try:
        plan = planned(call, words)
    except Unparsed as error:
        return error.code
    if not plan:
        console.print(escape(_unknown(call, words)), style="red", soft_wrap=True)
        console.print("Next: ./assay dbt ls shows what there is.")
        return 1
    for target, on_target in plan:
        if len(plan) > 1:
            console.print(f"— {target}", style="bold")
        code = call.run(target, on_target, rows)
        if code:
            return code
    return 0


def own_options(arguments: Sequence[str]) -> tuple[list[str], bool, dict[str, str], int]:
    """dbt's words, whether the shared tables are written, the range of days as variables, and how many rows to show.

    Raises:
        AssayError: the range is none.
    """
    words = [word for word in arguments if word != "--shared"]
    days: dict[str, str] = {}
    if value := _taken(words, "--days"):
        first, _, last = value.partition("..")
        start, end = day_of(first), day_of(last or first)
        if end < start:
            raise AssayError(f"--days {value} ends before it begins", "write it as 2013-01-01..2013-01-31")
        days = {"ASSAY_RANGE_START": str(start), "ASSAY_RANGE_END": str(end)}
    rows = _taken(words, "--rows") or "0"
    if not rows.isdigit():
        raise AssayError(f"--rows {rows} is no number", "write it as --rows 10")
    if not words:
        raise AssayError("No dbt command was given", "type ./assay dbt --help")
    return words, "--shared" in arguments, days, int(rows)


def _taken(words: list[str], option: str) -> str:
    """The value of an option, which is taken out of the words; empty if it is not there."""
    for number, word in enumerate(words):
        if word == option and words[number + 1 :]:
            value = words[number + 1]
            del words[number : number + 2]
            return value
        if word.startswith(f"{option}="):
            del words[number]
            return word.partition("=")[2]
    return ""


class Unparsed(Exception):
    """dbt could not read the project, and said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class DbtCall:
    """dbt in one environment: the shared one, or the person's own.

    Args:
        shared: write the tables of the settings' environment.
    """

    def __init__(self, settings: Settings, shared: bool) -> None:
        self.settings = settings
        self.shared = shared
        self.writes = settings if shared else settings.model_copy(update={"environment": settings.analyst})
        self._manifests: dict[str, Manifest] = {}
        self._selected: dict[tuple[str, str], list[str]] = {}

    def variables(self) -> dict[str, str]:
        """What dbt reads from its environment on both engines."""
        if self.shared or self.writes.environment == self.settings.environment:
            return shared_environment(self.settings)
        return own_environment(self.settings)

    def run(self, target: str, words: Sequence[str], rows: int = 0) -> int:
        """One dbt command on one engine; its exit code.

        Args:
            rows: how many rows of each built table to show afterwards.
        """
        with self._alone(target) if words[0] in WRITING else nullcontext():
            if words[0] not in ASKING_NOTHING:
                self.pin(target)
            if words[0] == "show" and target == "clickhouse":
                self._show_the_lake()
            done = self.invoke(target, words)
        if done.success and rows:
            self._show(target, done, rows)
        for line in mistakes(done, target, manifest_dir(self.writes, target)):
            Console(highlight=False).print(line, style="bold red", markup=False, soft_wrap=True)
        return exit_code(done)

    def invoke(self, target: str, words: Sequence[str], folder: Path | None = None) -> "dbtRunnerResult":
        """dbt in this process, with what it knows of the project already.

        Args:
            folder: where its artifacts go, if not to the environment's.
        """
        from dbt.cli.main import dbtRunner

        for name in CHATTY:
            logging.getLogger(name).disabled = True
        where = str(folder or manifest_dir(self.writes, target))
        os.environ["DBT_TARGET_PATH"] = os.environ["DBT_LOG_PATH"] = where
        at = [] if target_of(words) else ["--target", target]
        # Variables may change what the project is.
        known = None if any(word.startswith("--vars") for word in words) else self._manifests.get(target)
        return dbtRunner(manifest=known).invoke([*words, *at])

    def manifest(self, target: str) -> "Manifest":
        """What dbt knows of the project on an engine.

        Raises:
            Unparsed: the project is wrong; dbt has said where.
        """
        if target not in self._manifests:
            if self.shared:
                build(self.settings, target)
            parsed = self.invoke(target, ["--quiet", "parse"])
            if not parsed.success:
                for line in mistakes(parsed, target, manifest_dir(self.writes, target)):
                    Console(highlight=False).print(line, style="bold red", markup=False, soft_wrap=True)
                raise Unparsed(exit_code(parsed))
            self._manifests[target] = parsed.result  # pyright: ignore[reportArgumentType]
        return self._manifests[target]

    def selected(self, target: str, word: str) -> list[str]:
        """The nodes that one word of a selection names on an engine."""
        if (target, word) not in self._selected:
            self._selected[target, word] = self._listed(target, word)
        return self._selected[target, word]

    def _listed(self, target: str, word: str) -> list[str]:
        manifest = self.manifest(target)
        named = [node.unique_id for node in manifest.nodes.values() if node.name == word]
        if named:
            return named
        listing = ["--log-level", "none", "ls", "--select", word, "--output", "json", "--output-keys", "unique_id"]
        # Where nodes are read from is no part of what they are, and to read both engines' shared manifest takes 0.2 s.
        with environment_of({}, without=["DBT_DEFER_STATE"]):
            return [json.loads(line)["unique_id"] for line in self.invoke(target, listing).result or ()]  # pyright: ignore

    def _show(self, target: str, done: "dbtRunnerResult", rows: int) -> None:
        for result in getattr(done.result, "results", ()):
            if result.node.resource_type in ("model", "seed", "snapshot"):
                query = f"select * from {{{{ ref('{result.node.name}') }}}}"
                shown = self.invoke(target, ["--log-level", "none", "show", "--inline", query, "--limit", str(rows)])
                for answer in getattr(shown.result, "results", ()):
                    print(f"\n{result.node.relation_name}")
                    answer.agate_table.print_table(max_columns=None, max_rows=None)

    def _alone(self, target: str) -> Any:
        return writer_lock(self.settings, f"{schema_prefix(self.writes.environment)}dbt.{target}")

    def pin(self, target: str) -> None:
        """Lets dbt on an engine read the lake as it is now."""
        own = self.writes.environment != self.settings.environment
        os.environ.update(own_pins(self.settings, target) if own else pins_now(self.settings))

    def _show_the_lake(self) -> None:
        """The views on the lake as of now: `show` runs no on-run-start."""
        with self._alone("clickhouse"):
            self.invoke("clickhouse", ["--quiet", "run-operation", "pin_lake_views"])


def planned(call: DbtCall, words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Which engines run what, in the order of the data.

    Raises:
        Unparsed: the project is wrong; dbt has said where.
    """
    if target := target_of(words):
        return [(target, list(words))]
    rest, selected, excluded = split(words)
    if not selected and not excluded:
        return [(target, list(words)) for target in TARGETS]
    asked = [target for target in TARGETS if target in _engines_of([*selected, *excluded], bool(selected))]
    chosen, left_out = _continued(call, asked, selected), _continued(call, asked, excluded)
    counted = None if words[0] in LISTING else MADE
    plan: list[tuple[str, list[str]]] = []
    for target in asked:
        those = [word for word in chosen[target] if _is_something(call, target, word, counted)]
        without = [word for word in left_out[target] if _is_something(call, target, word, None)]
        if those or not selected:
            plan.append((target, [*rest, *_option("--select", those), *_option("--exclude", without)]))
    return plan


def split(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """A dbt command without its selection, what it selects and what it excludes."""
    rest: list[str] = []
    found: dict[str, list[str]] = {"select": [], "exclude": []}
    place = rest
    for word in words:
        if not word.startswith("-"):
            place += word.split() if place is not rest else [word]
            continue
        name, _, value = word.partition("=")
        place = found["select"] if name in SELECTING else found["exclude"] if name in EXCLUDING else rest
        if place is rest:
            rest.append(word)
        else:
            place += value.split()
    return rest, found["select"], found["exclude"]


def target_of(words: Sequence[str]) -> str | None:
    """The target that a person named themselves."""
    for number, word in enumerate(words):
        if word in ("--target", "-t") and words[number + 1 :]:
            return words[number + 1]
        if word.startswith("--target="):
            return word.partition("=")[2]
    return None


def exit_code(result: "dbtRunnerResult") -> int:
    """dbt's own exit code: 1 for what went wrong, 2 for what could not be tried."""
    if result.success:
        return 0
    if result.exception is None:
        return 1
    from dbt.cli.exceptions import DbtUsageException

    if isinstance(result.exception, DbtUsageException):  # dbt's command line would have printed it
        raise AssayError(f"dbt: {result.exception}", "type ./assay dbt COMMAND --help")
    return 2


def mistakes(done: "dbtRunnerResult", target: str, target_path: Path) -> list[str]:
    """File, line and complaint of each node that failed, after dbt's own account of it."""
    if done.exception is not None:
        if any(sign in str(done.exception) for sign in AWAY):
            return [f"{target} does not answer. Next: run ./assay up; ./assay logs {target} says why it went away."]
        return [f"{place}: correct it, then run this again" for place in places(str(done.exception))]
    failed = [result for result in getattr(done.result, "results", ()) if result.status in ("error", "runtime error")]
    return [
        f"{place(node.original_file_path, result.message, sent_statement(target_path, node.original_file_path))}: "
        f"{summary(result.message)}"
        for result in failed
        if (node := getattr(result, "node", None)) is not None and result.message
    ]


def _continued(call: DbtCall, asked: Sequence[str], words: Sequence[str]) -> dict[str, list[str]]:
    if len(asked) == 1 or not any((match := WORD.fullmatch(word)) and "+" in match[0] for word in words):
        return {target: list(words) for target in TARGETS}
    graphs = [_graph(call, target) for target in TARGETS]
    return dict(zip(TARGETS, across(words, *graphs), strict=True))


def _graph(call: DbtCall, target: str) -> Graph:
    manifest = call.manifest(target)
    parents = {unique_id: list(node.depends_on_nodes) for unique_id, node in manifest.nodes.items()}
    selected_by: Callable[[str], Iterable[str]] = lambda word: call.selected(target, word)  # noqa: E731
    return Graph(parents | {source: [] for source in manifest.sources}, selected_by)


def _engines_of(words: Sequence[str], narrows: bool) -> set[str]:
    """The engines that words may concern. A name with a file in one engine's folder spares reading the project for the
    other: 0.5 to 1 s."""
    if not narrows:
        return set(TARGETS)
    found: set[str] = set()
    for word in words:
        match = WORD.fullmatch(word)
        homes = [FOLDERS[folder] for folder in FOLDERS if match and _has_file(folder, match["core"])]
        if not match or len(homes) != 1:
            return set(TARGETS)
        found |= set(homes) | ({"clickhouse"} if match["after"] else set()) | ({"trino"} if match["before"] else set())
    return found


def _has_file(folder: str, name: str) -> bool:
    return name.isidentifier() and any((DBT_PROJECT / "models" / folder).rglob(f"{name}.sql"))


def _is_something(call: DbtCall, target: str, word: str, kinds: Sequence[str] | None) -> bool:
    manifest = call.manifest(target)
    match = WORD.fullmatch(word)
    if match and any(node.name == match["core"] for node in manifest.nodes.values()):
        return True  # spares asking dbt, 0.2 s
    for unique_id in call.selected(target, word):
        node = manifest.nodes.get(unique_id)
        # The tests of models that are the other engine's stay in the manifest; their models do not.
        if (
            node is not None
            and node.resource_type == "test"
            and getattr(node, "attached_node", None)
            not in (
                None,
                *manifest.nodes,
            )
        ):
            continue
        if kinds is None or unique_id.split(".")[0] in kinds:
            return True
    return False


def _option(name: str, values: Sequence[str]) -> list[str]:
    return [name, *values] if values else []


def _unknown(call: DbtCall, words: Sequence[str]) -> str:
    _, selected, _ = split(words)
    names = {node.name for target in TARGETS for node in call.manifest(target).nodes.values()}
    cores = [match["core"] for word in selected if (match := WORD.fullmatch(word))]
    near = [name for core in cores for name in difflib.get_close_matches(core, names, n=2, cutoff=0.6)]
    said = f"Nothing on either engine is called {' '.join(selected)}."
    return f"{said} Did you mean {' or '.join(near)}?" if near else said
