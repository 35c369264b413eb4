"""The catalog as static files: an index, a page for each asset, and a picture of its lineage on it.

Belongs here: what a page is called, where a box stands, and that a reader finds the old files or the new ones. Does not belong
here: what is said (catalog.py), how it looks (catalog_templates/). Jinja comes with dbt. It escapes every value: rows and
descriptions are the vendors' and everybody's.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from foundation.contract import Contract
from foundation.errors import AssayError
from orchestrator.catalog import Catalog, Table
from orchestrator.lineage import Node
from orchestrator.status_text import next_command

TEMPLATES = Path(__file__).with_name("catalog_templates")
# The first line of each file: what is not ours is neither replaced nor removed.
MARK = "<!doctype html><!-- assay catalog -->"
# More boxes are a carpet; then each way two steps are shown.
BOXES = 40
WIDTH, HEIGHT, ACROSS, BETWEEN = 200, 26, 36, 10
LONGEST_CELL = 60


@dataclass(frozen=True)
class Box:
    """An asset in a picture; `x` and `y` of its left upper corner, in pixels."""

    key: dg.AssetKey
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """Boxes and the lines between them, left to right; `whole` if every asset up and down the line is there."""

    boxes: Sequence[Box]
    lines: Sequence[tuple[float, float, float, float]]
    width: float
    height: float
    whole: bool


def write(catalog: Catalog, folder: Path, contracts: Mapping[str, Contract], dagster: str) -> Path:
    """Writes the catalog and returns its index. Each file is swapped in whole, the index last; pages of tables that are gone
    are removed after that.

    Args:
        folder: made if it is not there.
        dagster: the address of the Dagster UI, or nothing.

    Raises:
        AssayError: the folder holds something else.
    """
    index, pages = folder / "index.html", folder / "tables"
    if folder.exists() and not folder.is_dir():
        raise AssayError(f"{folder} is a file", "name a folder")
    if folder.exists() and any(folder.iterdir()) and not _is_ours(index):
        raise AssayError(f"{folder} holds something that is no catalog", "name a folder that is empty, or not there")
    pages.mkdir(parents=True, exist_ok=True)
    by_key = {table.key: table for table in catalog.tables}
    columns = {table.name: {column.name for column in table.columns} for table in catalog.tables}
    page_of = {table.name: page_name(table.key) for table in catalog.tables}
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def link(node: Node) -> str:
        """The anchor of a column, the page of a table; nothing where there is none."""
        page = page_of.get(node.asset, "")
        anchor = f"#c-{node.column}" if node.column in columns.get(node.asset, ()) else ""
        return quote(page) + anchor if page else ""

    jinja.filters |= {"moment": _moment, "cell": _cell, "link": link, "page": lambda key: quote(page_name(key))}
    jinja.globals |= {
        "mark": MARK,
        "catalog": catalog,
        "by_key": by_key,
        "columns": columns,
        "dagster": dagster,
        "zip": zip,
        "next_command": lambda span: next_command(span, contracts),
        "box": {"width": WIDTH, "height": HEIGHT},
    }
    if not _is_ours(index):
        _replace(index, f"{MARK}\n")  # killed from here on, the folder is known to be ours
    page = jinja.get_template("table.html")
    for table in catalog.tables:
        drawn = picture(table.key, by_key, catalog.order)
        _replace(pages / page_name(table.key), page.render(table=table, picture=drawn, root="../"))
    _replace(index, jinja.get_template("index.html").render(root=""))
    for file in pages.glob("*.html"):
        if file.name not in page_of.values() and _is_ours(file):
            file.unlink()
    return index


def page_name(key: dg.AssetKey) -> str:
    """The file of an asset's page."""
    return f"{'.'.join(key.path)}.html"


def picture(key: dg.AssetKey, tables: Mapping[dg.AssetKey, Table], order: Sequence[dg.AssetKey]) -> Picture:
    """What an asset is made of to its left, what is made of it to its right, each as far away as its longest way is long.

    Args:
        order: all assets, upstream first.
    """
    up = {one: table.upstream for one, table in tables.items()}
    down = {one: table.downstream for one, table in tables.items()}
    sides = [_around(key, up), _around(key, down)]
    whole = sum(map(len, sides)) - 1 <= BOXES
    if not whole:
        sides = [_around(key, up, 2), _around(key, down, 2)]
    column = {key: 0}
    for shown, neighbours, away, ordered in ((sides[0], down, -1, order[::-1]), (sides[1], up, 1, order)):
        for one in ordered:
            if one in shown and one != key:
                column[one] = away + away * max(away * column[near] for near in neighbours[one] if near in shown)
    first, last = min(column.values()), max(column.values())
    rows: dict[int, list[dg.AssetKey]] = {at: [] for at in range(first, last + 1)}
    for one in sorted(column):
        rows[column[one]].append(one)
    tallest = max(map(len, rows.values()))
    height = tallest * (HEIGHT + BETWEEN)
    middle: dict[dg.AssetKey, float] = {}
    # From the middle outwards: each box near those that it is joined to.
    for at in sorted(rows, key=abs):
        beside = {one: [middle[near] for near in (*up[one], *down[one]) if near in middle] for one in rows[at]}
        ordered = sorted(rows[at], key=lambda one: (sum(beside[one]) / len(beside[one]) if beside[one] else 0, one))
        free = (height - len(ordered) * (HEIGHT + BETWEEN)) / 2
        middle |= {one: free + (number + 0.5) * (HEIGHT + BETWEEN) for number, one in enumerate(ordered)}
    left = {one: (column[one] - first) * (WIDTH + ACROSS) for one in column}
    lines = [
        (left[parent] + WIDTH, middle[parent], left[one], middle[one])
        for one in sorted(column)
        for parent in up[one]
        if parent in column and column[parent] < column[one]
    ]
    boxes = [Box(one, left[one], middle[one] - HEIGHT / 2) for one in sorted(column)]
    return Picture(boxes, lines, (last - first + 1) * (WIDTH + ACROSS) - ACROSS, height, whole)


def _around(
    key: dg.AssetKey, neighbours: Mapping[dg.AssetKey, Iterable[dg.AssetKey]], steps: int | None = None
) -> set[dg.AssetKey]:
    """An asset and what can be reached from it, in so many steps if that is limited."""
    found, fresh = {key}, {key}
    while fresh and steps != 0:
        fresh = {near for one in fresh for near in neighbours[one]} - found
        found |= fresh
        steps = None if steps is None else steps - 1
    return found


def _replace(file: Path, text: str) -> None:
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def _is_ours(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(len(MARK)) == MARK


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _cell(value: Any) -> str:
    """A value of a row on one line."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
