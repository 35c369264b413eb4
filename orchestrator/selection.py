"""A dbt selection that goes on where the other engine begins.

Belongs here: translating `+` across the source `lake`, which is Gold to ClickHouse. Does not belong here: what a selection
means on one engine; that is dbt's to say.

Gold's `orders` is a model on Trino and the source `lake.gold_orders` on ClickHouse: one node of the data, two of dbt's.
`orders+` therefore becomes `source:lake.gold_orders+` on ClickHouse, `+fct_orders` becomes `+orders` on Trino, and a
number of steps counts that node once. Translated are words with `+` in front or behind; words with a comma or `@` mean on
each engine what dbt says.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

LAKE = "lake"
WORD = re.compile(r"(?P<before>\d*\+)?(?P<core>[^+@,\s]+?)(?P<after>\+\d*)?")


@dataclass(frozen=True)
class Graph:
    """What dbt knows on one engine: who reads whom, and what a word selects."""

    parents: Mapping[str, Sequence[str]]
    selected_by: Callable[[str], Iterable[str]]

    @property
    def children(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for node, parents in self.parents.items():
            for parent in parents:
                found.setdefault(parent, []).append(node)
        return found


def across(words: Sequence[str], trino: Graph, clickhouse: Graph) -> tuple[list[str], list[str]]:
    """The words for each engine: those that were given, and those that continue them from the other engine."""
    for_trino, for_clickhouse = list(words), list(words)
    for match in filter(None, map(WORD.fullmatch, words)):
        core, before, after = match["core"], match["before"], match["after"]
        if after:
            for node, left in _reached(trino.selected_by(core), trino.children, _steps(after)).items():
                source = _source_of(node)
                if source in clickhouse.parents and left != 0:
                    for_clickhouse.append(f"source:{LAKE}.{source.rsplit('.', 1)[1]}+{left or ''}")
        if before:
            for node, left in _reached(clickhouse.selected_by(core), clickhouse.parents, _steps(before)).items():
                model = _model_of(node, trino)
                if model:
                    for_trino.append(f"{'' if left == 0 else f'{left or str()}+'}{model}")
    return list(dict.fromkeys(for_trino)), list(dict.fromkeys(for_clickhouse))


def _steps(operator: str) -> int | None:
    """How far `+`, `2+` or `+2` goes; None is to the end."""
    return int(operator.strip("+")) if operator.strip("+") else None


def _reached(
    starts: Iterable[str], neighbours: Mapping[str, Sequence[str]], steps: int | None
) -> dict[str, int | None]:
    """Every node within so many steps, and how many are left there (None: any number)."""
    found: dict[str, int | None] = dict.fromkeys(starts, steps)
    edge = list(found)
    while edge and steps != 0:
        steps = None if steps is None else steps - 1
        edge = [node for start in edge for node in neighbours.get(start, ()) if node not in found]
        found |= dict.fromkeys(edge, steps)
    return found


def _source_of(node: str) -> str:
    """The id on ClickHouse of a Gold model: model.assay.orders is source.assay.lake.gold_orders there."""
    kind, project, name = node.split(".")[:3]
    return f"source.{project}.{LAKE}.gold_{name}" if kind in ("model", "seed", "snapshot") else ""


def _model_of(node: str, trino: Graph) -> str:
    """The name of the Gold model that a source of ClickHouse shows; empty if it is none of Gold's."""
    kind, _, *rest = node.split(".")
    if kind != "source" or rest[0] != LAKE:
        return ""
    name = rest[1].removeprefix("gold_")
    return name if any(known.split(".")[2] == name and _source_of(known) for known in trino.parents) else ""
