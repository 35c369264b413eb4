"""The catalog: every link leads somewhere, it says what the statuses say, and shows nobody's secrets."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import dagster as dg
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from rich.console import Console

from foundation.contract import Contract, load_contract
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.catalog import Catalog, Rows, classified, collect
from orchestrator.catalog_pages import BOXES, page_name, picture, write
from orchestrator.cli import engines
from orchestrator.cli.catalog import last_rows, write_catalog
from orchestrator.domain_lineage import domain_columns
from orchestrator.lineage import Graph, Made, Node, column_graph, of_contract
from orchestrator.status import State
from orchestrator.status_text import word
from tests.unit.feeds import document, written
from tests.unit.status_world import AFTER_ALL, BRONZE, DAYS, DIMS, FACTS, SILVER, VIEW, World

SECRET, SCRIPT = "ada@example.org", "<script>alert(1)</script>"
FAILURE = dg.DagsterRunStatus.FAILURE


@dataclass
class Page(HTMLParser):
    """What stands in a file: where links lead, anchors, elements by name, text by class."""

    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    elements: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    _in_state: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.elements.append(tag)
        self.links += [value for name in ("href", "src") if (value := known.get(name))]
        if anchor := known.get("id"):
            self.anchors.add(anchor)
        self._in_state = "state" in (known.get("class") or "").split()

    def handle_data(self, data: str) -> None:
        if self._in_state and data.strip():
            self.states.append(data.strip())
        self._in_state = False


def read(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def dead_links(folder: Path) -> list[tuple[str, str]]:
    pages = {file: read(file) for file in folder.rglob("*.html")}
    dead: list[tuple[str, str]] = []
    for file, page in pages.items():
        for link in page.links:
            if link.startswith("http"):
                continue
            path, _, anchor = link.partition("#")
            target = (file.parent / unquote(path)).resolve() if path else file
            if target not in pages or (anchor and unquote(anchor) not in pages[target].anchors):
                dead.append((file.name, link))
    return dead


def no_rows(*_: object) -> Rows:
    return Rows()


@pytest.fixture
def private(tmp_path: Path) -> Contract:
    """A feed with a secret, what is made of it, and what may be."""
    content = document()
    for item in content["customProperties"]:
        item["value"] = {"starts": DAYS[0], "ends": DAYS[-1]}.get(item["property"], item["value"])
    content["description"] = {"limitations": f"Rows may be {SCRIPT}."}
    content["schema"][0]["properties"] += [
        {"name": "mail", "physicalType": "string", "classification": "confidential"},
        {
            "name": "mail_domain",
            "physicalType": "string",
            "transformLogic": "behind the @",
            "transformSourceObjects": ["mail"],
        },
    ]
    return load_contract(written(tmp_path, content))


@pytest.fixture
def world(settings: Settings, private: Contract) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings.model_copy(update={"now": AFTER_ALL}), private, instance)


def columns_of(contract: Contract) -> Graph:
    """The feed's, and a table of Gold: a column of the secret, one chosen by it, one of neither, one that counts rows."""
    mail = Node("silver/events", "mail_domain")
    facts = {"mail_domain": [mail], "code": [Node("silver/events", "code")], "count": [Node("gold/facts", None)]}
    made = [*of_contract(contract, {contract.feed: contract}), Made("gold/facts", "sql", facts, [mail])]
    return Graph({one.asset: one for one in made})


def collected(world: World, rows: Any = no_rows) -> Catalog:
    lineage = columns_of(world.contracts["events"])
    return collect(world.settings, world.instance, world.graph, world.contracts, lineage, rows)


def make_table(settings: Settings, layer: str, table: str, rows: Sequence[Mapping[str, Any]], day: str) -> None:
    settings.home.mkdir(exist_ok=True)
    catalog = load_catalog("lake", **settings.iceberg_catalog_properties())
    catalog.create_namespace_if_not_exists(layer)
    data = pa.Table.from_pylist([dict(row) for row in rows])
    made = catalog.create_table(f"{layer}.{table}", data.schema)
    with made.update_spec() as update:
        update.add_identity(day)
    made.append(data)


# --- links


def test_no_link_is_dead_and_every_asset_has_a_page(
    set_up: Settings, definitions: dg.Definitions, tmp_path: Path
) -> None:
    from foundation.contract import load_contracts

    graph, contracts = definitions.resolve_asset_graph(), load_contracts()
    with dg.DagsterInstance.ephemeral() as instance:
        lineage = column_graph(set_up, domain_columns())
        found = collect(set_up, instance, graph, contracts, lineage, no_rows)
    write(found, tmp_path / "to", contracts, "http://127.0.0.1:1")
    assert dead_links(tmp_path / "to") == []
    names = {file.name for file in (tmp_path / "to" / "tables").iterdir()}
    assert names == {page_name(key) for key in graph.get_all_asset_keys()}
    linked = {Path(link).name for link in read(tmp_path / "to" / "index.html").links}
    assert linked == names
    assert "Nothing was made yet" in (tmp_path / "to" / "index.html").read_text()


def test_what_is_wrong_links_to_its_page(world: World, tmp_path: Path) -> None:
    world.run({SILVER: DAYS[:1]}, {}, FAILURE)
    write(collected(world), tmp_path / "to", world.contracts, "")
    assert dead_links(tmp_path / "to") == []
    assert "--select bronze/events,silver/events,quarantine/events" in (tmp_path / "to" / "index.html").read_text()


# --- states


def test_the_states_shown_are_those_of_the_statuses(world: World, tmp_path: Path) -> None:
    world.everything()
    world.run({SILVER: DAYS[1:2]}, {}, FAILURE)
    world.check(DAYS[3], passed=False)
    catalog = collected(world)
    write(catalog, tmp_path / "to", world.contracts, "")
    statuses = world.statuses(AFTER_ALL)
    for table in catalog.tables:
        page = read(tmp_path / "to" / "tables" / page_name(table.key))
        expected = word(statuses[table.key].values(), AFTER_ALL)
        assert page.states[0] == expected
        shown = [] if None in table.parts else [span.first.state for span in table.partitions]
        assert page.states[1:] == shown
        days = [part.partition for span in table.partitions for part in span.parts]
        assert days == ([] if None in table.parts else list(statuses[table.key]))
    assert {State.FAILED, State.BLOCKED, State.PRESENT} <= {table.state for table in catalog.tables}
    silver = next(table for table in catalog.tables if table.key == SILVER)
    assert (silver.there, [check.failing for check in silver.checks if check.failing]) == ("2/4", [[DAYS[3]]])


# --- rows, and what nobody may see


def test_who_descends_from_a_secret_is_one_and_who_is_only_chosen_by_it_is_not(private: Contract) -> None:
    found = classified({"events": private}, columns_of(private))
    secret = {str(node) for node in found}
    assert secret >= {f"{layer}/events.mail" for layer in ("landing", "bronze", "silver", "quarantine")}
    assert secret >= {"silver/events.mail_domain", "gold/facts.mail_domain"}
    # A line that could not be read has all columns in it, and nothing says what double_amount is made of.
    assert secret >= {"bronze/events.corrupt_record", "quarantine/events.corrupt_record", "silver/events.double_amount"}
    assert not secret & {"gold/facts.code", "gold/facts.count", "silver/events.code", "silver/events.amount"}
    assert set(found.values()) == {("confidential",)}


def test_last_rows_are_of_the_newest_partition_without_secrets_and_run_no_script(world: World, tmp_path: Path) -> None:
    def row(day: str, code: str) -> dict[str, Any]:
        return {
            "day": date.fromisoformat(day),
            "code": code,
            "mail": SECRET,
            "mail_domain": SECRET,
            "forgotten": SECRET,
        }

    make_table(world.settings, "silver", "events", [row(DAYS[0], "old"), row(DAYS[1], SCRIPT)], "day")
    make_table(world.settings, "gold", "facts", [{**row(DAYS[1], f"seen{n}"), "count": 1} for n in range(9)], "day")
    world.run({SILVER: DAYS[:2], FACTS: DAYS[:2]})
    catalog = collected(world, last_rows(world.settings))
    write(catalog, tmp_path / "to", world.contracts, "")
    texts = {file.name: file.read_text() for file in (tmp_path / "to").rglob("*.html")}
    assert not [name for name, text in texts.items() if SECRET in text or SCRIPT in text]
    silver, facts = texts["silver.events.html"], texts["gold.facts.html"]
    assert "&lt;script&gt;alert(1)" in silver and "Rows may be &lt;script&gt;" in silver and ">old<" not in silver
    assert (facts.count(">•••<"), len(re.findall(r">seen\d<", facts))) == (5, 5)
    assert silver.count('class="class">confidential') == 3


def test_a_table_that_is_not_there_is_said_not_to_be(world: World) -> None:
    world.run({SILVER: DAYS[:1], FACTS: DAYS[:1]})
    world.settings.home.mkdir()
    found = {table.key: table.rows for table in collected(world, last_rows(world.settings)).tables}
    assert "silver.events" in found[SILVER].note
    assert found[BRONZE].note == "Nothing was made yet."


def test_the_warehouse_is_asked_only_if_it_listens(set_up: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    key = dg.AssetKey(["warehouse", "totals"])
    assert "did not answer" in last_rows(set_up)(key, None, ["a"], None).note
    asked: list[str] = []

    def answer(_: Settings, statement: str) -> engines.Answer:
        asked.append(statement)
        return engines.Answer(("a",), [(1,)], 0.0)

    monkeypatch.setattr("orchestrator.cli.catalog._warehouse_is_down", lambda _: "")
    monkeypatch.setattr(engines, "ask_warehouse", answer)
    assert last_rows(set_up)(key, "2013-01-01", ["a"], "month").values == [(1,)]
    assert asked == ["select `a` from warehouse.totals order by `month` desc, `a` limit 5"]


# --- files


def test_written_twice_it_is_the_same_and_the_page_of_a_table_that_is_gone_goes(world: World, tmp_path: Path) -> None:
    world.run({SILVER: DAYS[:2]})
    catalog, folder = collected(world), tmp_path / "to"

    def files() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in folder.rglob("*.*")}

    write(catalog, folder, world.contracts, "")
    before = files()
    write(collected(world), folder, world.contracts, "")
    assert files() == before
    (folder / "tables" / "mine.html").write_text("mine")
    fewer = [
        table for table in catalog.tables if table.key != VIEW and VIEW not in (*table.upstream, *table.downstream)
    ]
    kept = {table.key for table in fewer}
    fewer = [
        replace(
            table,
            upstream=[one for one in table.upstream if one in kept],
            downstream=[one for one in table.downstream if one in kept],
        )
        for table in fewer
    ]
    write(Catalog(catalog.moment, fewer, [], catalog.order), folder, world.contracts, "")
    assert {file.name for file in (folder / "tables").iterdir()} == {page_name(key) for key in kept} | {"mine.html"}
    assert dead_links(folder) == []


def test_a_folder_that_holds_something_else_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "index.html").write_text("<!doctype html>Dear Ada")
    with pytest.raises(AssayError, match="no catalog"):
        write(collected(world), tmp_path / "letters", world.contracts, "")
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["index.html"]


def test_the_command_says_what_to_open_while_nothing_listens(
    set_up: Settings, definitions: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(set_up.home))
    (set_up.home / "dagster").mkdir(exist_ok=True)
    said = Console(file=io.StringIO(), width=20, highlight=False)
    write_catalog(set_up, said, tmp_path / "to")
    text = said.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert (tmp_path / "to" / "index.html").as_uri() in text
    assert "Nothing was made yet" in text


# --- the picture


def test_every_line_of_the_picture_goes_right_and_no_boxes_overlap(world: World) -> None:
    catalog = collected(world)
    tables = {table.key: table for table in catalog.tables}
    for key in tables:
        drawn = picture(key, tables, catalog.order)
        assert drawn.whole
        assert all(x1 < x2 for x1, _, x2, _ in drawn.lines)
        assert len({(box.x, box.y) for box in drawn.boxes}) == len(drawn.boxes)
    assert {box.key for box in picture(DIMS, tables, catalog.order).boxes} > {DIMS, FACTS, VIEW}


def test_of_a_long_line_two_steps_each_way_are_shown(world: World) -> None:
    catalog = collected(world)
    one = catalog.tables[0]
    keys = [dg.AssetKey([f"t{number:03}"]) for number in range(BOXES + 5)]
    line = {
        key: replace(one, key=key, upstream=keys[max(n - 1, 0) : n], downstream=keys[n + 1 : n + 2])
        for n, key in enumerate(keys)
    }
    drawn = picture(keys[20], line, keys)
    assert ([box.key for box in drawn.boxes], drawn.whole) == (keys[18:23], False)
