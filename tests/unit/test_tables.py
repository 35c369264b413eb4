"""What `./assay tables`, `partitions` and `late` print, and how a mistyped name is answered."""

import io
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.cli.tables import Graph, print_late, print_partitions, print_tables
from tests.unit.status_world import AFTER_ALL, DAYS, FACTS, SILVER, World, contract_of


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings.model_copy(update={"now": AFTER_ALL}), contract_of(tmp_path), instance)


class Said:
    """A console that remembers, and the graph to ask."""

    def __init__(self, world: World) -> None:
        self.graph = Graph(world.settings, world.instance, world.graph, world.contracts)
        self.console = Console(file=io.StringIO(), width=20, highlight=False)

    def lines(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        return [" ".join(line.split()) for line in self.console.file.getvalue().splitlines()]


def made_at(world: World, part: str) -> str:
    return f"{world.statuses()[SILVER][part].made_at:%Y-%m-%d %H:%M}"


def test_tables_has_a_line_an_asset_in_the_order_of_the_data(world: World) -> None:
    world.run({SILVER: DAYS[:2]})
    world.run({SILVER: DAYS[2:3]}, {}, dg.DagsterRunStatus.FAILURE)
    said = Said(world)
    print_tables(said.graph, said.console, None)
    lines = said.lines()
    layers = [line.split("/")[0] for line in lines[1:]]
    assert list(dict.fromkeys(layers)) == ["bronze", "silver", "gold", "marts", "models"]
    assert f"silver/events team:events 2/4 1 1 {made_at(world, DAYS[1])} {DAYS[1]} failed" in lines
    assert "gold/facts team:events 0/4 3 1 blocked" in lines
    assert "gold/dims team:events waiting" in lines


def test_tables_of_a_layer_are_that_layers(world: World) -> None:
    said = Said(world)
    print_tables(said.graph, said.console, "silver")
    assert [line.split()[0] for line in said.lines()] == ["asset", "silver/events"]
    with pytest.raises(AssayError) as error:
        print_tables(said.graph, said.console, "sliver")
    assert "name one of bronze, silver, gold, marts, models" in error.value.next_action


def test_partitions_that_are_alike_are_one_line(world: World) -> None:
    world.run({SILVER: DAYS[:1]})
    run_id = world.run({SILVER: DAYS[2:3]}, {}, dg.DagsterRunStatus.FAILURE)
    said = Said(world)
    print_partitions(said.graph, said.console, "silver/events", None, None)
    at = made_at(world, DAYS[0])
    since = f"{world.statuses()[SILVER][DAYS[2]].since:%Y-%m-%d %H:%M}"
    assert said.lines()[1:] == [
        f"2013-01-30 1 present {at}",
        "2013-01-31 1 late 2013-02-01 17:00 due 2013-02-01 17:00 UTC",
        f"2013-02-01 1 failed {since} run {run_id[:8]} failed",
        "2013-02-02 1 late 2013-02-03 17:00 due 2013-02-03 17:00 UTC",
    ]
    late = Said(world)
    print_partitions(late.graph, late.console, "bronze/events", "late", None)
    assert late.lines()[1:] == ["2013-01-30...2013-02-02 4 late 2013-01-31 17:00 due 2013-01-31 17:00 UTC, and so on"]
    none = Said(world)
    print_partitions(none.graph, none.console, "bronze/events", "failed", None)
    assert none.lines() == ["bronze/events has no", "partition that is", "failed."]


def test_one_day_shows_all_that_is_known_of_it(world: World) -> None:
    run_id = world.run({})
    world.event(run_id, dg.AssetMaterialization(SILVER, partition=DAYS[0], metadata={"accepted": 7, "files": ["a"]}))
    world.check(DAYS[0], passed=False)
    said = Said(world)
    print_partitions(said.graph, said.console, "silver/events", None, DAYS[0])
    lines = said.lines()
    for line in (
        "state failed",
        "why check keys_unique failed",
        "due 2013-01-31 17:00 UTC",
        "accepted 7",
        'files ["a"]',
        "check keys_unique failed as error",
    ):
        assert line in lines, line


@pytest.mark.parametrize(
    ("asset", "state", "day", "what", "next_action"),
    [
        ("silver/event", None, None, "There is no asset 'silver/event'", "use silver/events"),
        ("silver/events", "lat", None, "There is no state 'lat'", "use one of present, failed, blocked"),
        ("silver/events", None, "2013-02-09", "go from 2013-01-30 to 2013-02-02", "use 2013-0"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_there_is(
    world: World, asset: str, state: str | None, day: str | None, what: str, next_action: str
) -> None:
    said = Said(world)
    with pytest.raises(AssayError) as error:
        print_partitions(said.graph, said.console, asset, state, day)
    assert what in error.value.what
    assert next_action in error.value.next_action


def test_late_says_in_one_sentence_that_nothing_is(world: World) -> None:
    world.everything()
    said = Said(world)
    assert print_late(said.graph, said.console) is False
    assert said.lines() == ["Nothing is late, failed or blocked: 10 assets, at 2013-03-01 00:00 UTC."]


def test_late_names_a_cause_once_with_all_that_is_behind_it_and_what_to_type(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)
    said = Said(world)
    assert print_late(said.graph, said.console) is True
    since = f"{world.statuses()[SILVER][DAYS[1]].since:%Y-%m-%d %H:%M}"
    assert said.lines() == [
        f"silver/events 2013-01-31 failed since {since} UTC: check keys_unique failed (team:events)",
        "behind it: gold/facts 2013-01-31; gold/history 2013-01-31; models/training 2013-01-01",
        "Next: ./assay dagster asset materialize --select bronze/events,silver/events,quarantine/events "
        "--partition 2013-01-31",
    ]


def test_what_is_late_because_its_feed_is_stands_behind_the_feed(world: World) -> None:
    world.everything()
    with dg.DagsterInstance.ephemeral() as instance:
        empty = World(world.settings, next(iter(world.contracts.values())), instance)
        empty.run({FACTS: [DAYS[0]]})
        said = Said(empty)
        assert print_late(said.graph, said.console) is True
    causes = [line for line in said.lines() if not line.startswith(("behind", "Next"))]
    assert [line.split(" late ")[0] for line in causes] == [
        "bronze/events 2013-01-30...2013-02-02",
        "gold/history 2013-01-30",
    ]
