"""A mistyped selection or range never runs something else, with plain dagster or ours.

What Dagster itself does is played first, on a small graph: when a release of it mends a trap, a test here says so, and the
remedy may go.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._cli import cli as dagster_cli

from foundation.errors import AssayError
from foundation.settings import PROJECT, Settings
from orchestrator.cli.main import run
from orchestrator.cli.selecting import read_options, refuse_mistakes
from orchestrator.dbt_environment import environment_of

# Steps note what they make in a file: Dagster shows what they print through a process that may end before it is done.
GRAPH = """
from pathlib import Path

import dagster as dg
{imports}
DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-11")
RANGE = dg.BackfillPolicy.single_run()

def made(what):
    with Path("made.txt").open("a") as file:
        file.write(what + "\\n")

@dg.asset(partitions_def=DAYS, backfill_policy=RANGE)
def daily(context) -> None:
    made("daily " + str(list(context.partition_keys)))

@dg.asset
def whole() -> None:
    made("whole")

defs = dg.Definitions(assets=[daily, whole], executor={executor})
"""
STOCK = GRAPH.format(imports="", executor="dg.in_process_executor")
OURS = GRAPH.format(imports="from orchestrator.executor import in_process", executor="in_process")
DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-11")
Typed = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def materialize(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    """Plain `dagster asset materialize` on a graph: its exit code, what was made, and all that it said. In this process, as
    a new one spends 3 s on imports; the command is Dagster's own, from the first word on."""

    def typed(folder: Path, graph: str, *words: str) -> tuple[int, list[str], str]:
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (folder / "small_graph.py").write_text(graph)
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.syspath_prepend(folder)
            patch.setenv("DAGSTER_HOME", str(folder / "home"))
            patch.delitem(sys.modules, "small_graph", raising=False)
            done = CliRunner().invoke(dagster_cli, ["asset", "materialize", "-m", "small_graph", *words])
        file = folder / "made.txt"
        made = file.read_text().splitlines() if file.exists() else []
        return done.exit_code, made, done.output + "".join(traceback.format_exception(done.exception))

    yield typed
    sys.modules.pop("small_graph", None)


TYPO_OF_A_RANGE = ("--select", 'key:"dialy"', "--partition-range", "2013-01-02...2013-01-03")
BACKWARDS = ("--select", "daily", "--partition-range", "2013-01-05...2013-01-02")


def test_stock_dagster_takes_a_typo_for_the_whole_graph_and_a_backward_range_for_success(
    tmp_path: Path, materialize: Typed
) -> None:
    (tmp_path / "typo").mkdir()
    (tmp_path / "range").mkdir()
    code, made, _ = materialize(tmp_path / "typo", STOCK, *TYPO_OF_A_RANGE)
    assert (code, sorted(made)) == (0, ["daily ['2013-01-02', '2013-01-03']", "whole"])
    assert materialize(tmp_path / "range", STOCK, *BACKWARDS)[:2] == (0, ["daily []"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (TYPO_OF_A_RANGE, "The selection matched no asset"),
        (BACKWARDS, "ends before it begins"),
    ],
)
def test_plain_dagster_refuses_them_on_our_executor(
    tmp_path: Path, materialize: Typed, words: tuple[str, ...], said: str
) -> None:
    code, made, output = materialize(tmp_path, OURS, *words)
    assert (code, made) == (1, [])
    assert said in output


def test_plain_dagster_runs_what_is_meant_on_our_executor(tmp_path: Path, materialize: Typed) -> None:
    code, made, output = materialize(
        tmp_path, OURS, "--select", "daily", "--partition-range", "2013-01-02...2013-01-03"
    )
    assert (code, made) == (0, ["daily ['2013-01-02', '2013-01-03']"]), output


def test_the_graph_runs_on_the_executor_that_refuses(definitions: dg.Definitions) -> None:
    from orchestrator.executor import in_process

    assert definitions.executor is in_process


@pytest.fixture(scope="module")
def graph():
    """Two daily assets, a whole one and an external one."""

    @dg.asset(key=["silver", "orders"], partitions_def=DAYS, group_name="silver")
    def orders() -> None: ...

    @dg.asset(key=["gold", "orders"], partitions_def=DAYS, deps=[orders], group_name="gold")
    def facts() -> None: ...

    @dg.asset(key=["gold", "customers"], group_name="gold")
    def customers() -> None: ...

    return dg.Definitions(assets=[orders, facts, customers]).get_repository_def().asset_graph


@pytest.mark.parametrize(
    ("select", "partition", "days"),
    [
        ("silver/orders", "2013-01-10", ""),
        ("silver/orders, gold/orders", "", "2013-01-01...2013-01-10"),
        ('key:"silver/orders"+ and not group:silver', "2013-01-05", ""),
        ('key:"gold/*"', "2013-01-05", ""),
        ("gold/customers", "", ""),
        ("+gold/orders", "2013-01-01", ""),
    ],
)
def test_what_is_meant_passes(graph, select: str, partition: str, days: str) -> None:
    refuse_mistakes(graph, select, partition, days)


@pytest.mark.parametrize(
    ("select", "partition", "days", "what"),
    [
        ('key:"silver/ordres"', "", "", "matches no asset"),
        ("silver/ordres", "", "", "matches no asset"),
        # Dagster would make the others and say nothing.
        ('gold/customers,key:"silver/ordres"', "", "", 'key:"silver/ordres" matches no asset'),
        ('key:"gold/customers" or key:"silver/ordres"', "", "", 'key:"silver/ordres" matches no asset'),
        ("group:gould", "", "", "group:gould matches no asset"),
        ("silver/orders", "2013-01-11", "", "silver/orders has no partition '2013-01-11'"),
        ("silver/orders", "yesterday", "", "silver/orders has no partition 'yesterday'"),
        ("silver/orders", "", "2013-01-09...2013-02-01", "has no partition '2013-02-01'"),
        ("silver/orders", "", "2013-01-09...2013-01-01", "ends before it begins"),
        ("silver/orders", "", "2013-01-09...", "ends before it begins"),
        ("silver/orders", "", "2013-01-01..2013-01-09", "is no range"),
        ("silver/orders", "", "2013-01-01", "is no range"),
        ("silver/orders", "2013-01-01", "2013-01-01...2013-01-02", "both name partitions"),
        # Of these Dagster shows a traceback.
        ("silver/orders gold/orders", "", "", "is no selection"),
        ("(gold/orders", "", "", "is no selection"),
        ("code_location:assay", "", "", "is no selection"),
        ("column:amount", "", "", "is no selection"),
    ],
)
def test_each_mistake_is_refused_by_name(graph, select: str, partition: str, days: str, what: str) -> None:
    with pytest.raises(AssayError) as refused:
        refuse_mistakes(graph, select, partition, days)
    assert what in refused.value.what


def test_what_is_made_of_partitions_needs_one_and_a_list_does_not(graph) -> None:
    with pytest.raises(AssayError, match="gold/orders has partitions, and none is named") as refused:
        refuse_mistakes(graph, 'key:"gold/*"', makes=True)
    assert "--partition 2013-01-10" in refused.value.next_action
    refuse_mistakes(graph, "gold/customers", makes=True)
    refuse_mistakes(graph, 'key:"gold/*"')


def test_a_near_miss_is_told_what_was_meant(graph) -> None:
    with pytest.raises(AssayError) as refused:
        refuse_mistakes(graph, 'key:"silver/ordres"')
    assert "did you mean silver/orders" in refused.value.next_action


def test_options_are_read_in_both_spellings() -> None:
    assert read_options(["asset", "materialize", "--select", "a", "--partition=b"]) == {
        "--select": "a",
        "--partition": "b",
    }


def test_our_command_refuses_before_dagster_runs_and_else_is_dagster(
    set_up: Settings, definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def typed(*words: str) -> tuple[int, str, str]:
        """In this process, which has the graph; what the command sets and where it goes ends with it."""
        with monkeypatch.context() as patch, environment_of({"ASSAY_HOME": str(set_up.home)}):
            patch.chdir(PROJECT)
            patch.setattr(sys, "argv", ["./assay", "dagster", "asset", *words])
            try:
                code = run()
            except SystemExit as ended:
                code = int(ended.code or 0)
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    code, _, said = typed("materialize", "--select", 'maintenance/logs,key:"maintenance/logz"')
    assert code == 1
    assert "maintenance/logz" in said
    assert "did you mean maintenance/logs" in said
    assert "Traceback" not in said
    assert typed("list", "--select", "maintenance/logs")[1].split() == ["maintenance/logs"]
