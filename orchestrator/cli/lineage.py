"""`./assay lineage`: what a column is made of, to the file, and what is made of it, to the last who uses it.

Belongs here: finding what a person names, and the trees. Does not belong here: the graph (orchestrator/lineage).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console

from foundation.settings import Settings
from orchestrator.domain_lineage import domain_columns
from orchestrator.lineage import Graph, Node, column_graph, find, reached
from orchestrator.manifests import TARGETS, is_current

# Of a table's columns; --json has all.
NAMED_COLUMNS = 3
SEE_ABOVE = "see above: "
Line = tuple[str, str]


def print_lineage(settings: Settings, console: Console, name: str, up: bool, down: bool, as_json: bool) -> None:
    """The trees of a column, `gold.orders.amount`, or of a table, `gold.orders`.

    Args:
        up: what it is made of.
        down: what is made of it.
        as_json: the same as one object, whose edges go from what is read to what is made of it.

    Raises:
        AssayError: there is no such table or column, or the project was never set up.
    """
    graph = column_graph(settings, domain_columns())
    asset, column = find(graph, name)
    starts = [Node(asset, column)] if column else graph.made[asset].nodes
    directions = [*(["up"] if up else []), *(["down"] if down else [])]
    if as_json:
        edges = {one: _edges(graph, starts, one) for one in directions}
        print(json.dumps({"asset": asset, "column": column, **edges}, indent=1))
        return
    lines: list[Line] = [(str(Node(asset, column)), "")]
    for one in directions:
        tree = list(_columns(graph, starts[0], one) if column else _tables(graph, asset, starts, one))
        heading = {"up": "is made of", "down": "is in"}[one]
        lines += [(f"  {heading}", ""), *tree] if tree else [(f"  {heading} nothing else", "")]
    # What has nothing beside it may be longer.
    width = max((len(text) for text, how in lines if how), default=0)
    for text, how in lines:
        console.print(f"{text.ljust(width)}  {how}".rstrip(), markup=False, soft_wrap=True)
    if stale := [target for target in TARGETS if not is_current(settings, target)]:
        console.print(f"dbt_project changed since this was read ({', '.join(stale)}). Next: ./assay up", soft_wrap=True)


def _columns(graph: Graph, start: Node, direction: str) -> Iterator[Line]:
    """Node by node, each once with what lies behind it; what was named before, in one line at the end."""
    neighbours, seen = _neighbours(graph, direction), {start}

    def below(node: Node, depth: int) -> Iterator[Line]:
        before = [one for one in neighbours(node) if one in seen]
        for one in neighbours(node):
            if one in seen:
                continue
            seen.add(one)
            yield f"{'  ' * depth}{_name(graph, one)}", _how(graph, node, one, direction)
            yield from below(one, depth + 1)
        if before:
            yield f"{'  ' * depth}{SEE_ABOVE}{_by_table(graph, before)}", ""

    return below(start, 2)


def _tables(graph: Graph, asset: str, starts: Sequence[Node], direction: str) -> Iterator[Line]:
    """Table by table, each once, with the columns that are concerned."""
    neighbours, seen = _neighbours(graph, direction), {asset}
    concerned: dict[str, list[Node]] = {}
    for node in sorted({*starts, *reached(starts, neighbours)}, key=lambda one: (one.asset, one.column or "")):
        concerned.setdefault(node.asset, []).append(node)

    def below(table: str, depth: int) -> Iterator[Line]:
        found = dict.fromkeys(node.asset for own in concerned[table] for node in neighbours(own))
        before = [one for one in found if one in seen and one != table]
        for one in found:
            if one in seen:
                continue
            seen.add(one)
            how = graph.made[one if direction == "down" else table].how
            yield f"{'  ' * depth}{one}{_listed(graph, one, concerned[one])}", how
            yield from below(one, depth + 1)
        if before:
            yield f"{'  ' * depth}{SEE_ABOVE}{', '.join(before)}", ""

    return below(asset, 2)


def _by_table(graph: Graph, nodes: Iterable[Node]) -> str:
    """Several nodes in one line: `layer/table.a, .b`."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        found.setdefault(node.asset, []).append(_name(graph, node).removeprefix(node.asset))
    return ", ".join(asset + ", ".join(columns).replace(",  ", ", ") for asset, columns in found.items())


def _listed(graph: Graph, asset: str, nodes: Iterable[Node]) -> str:
    known = graph.made[asset].columns
    columns = [node.column for node in nodes if node.column]
    if not known:
        return ""
    if len(columns) == len(known):
        return f": all {len(known)} columns"
    few = f": {', '.join(columns)}" if columns else " (rows)"
    return few if len(columns) <= NAMED_COLUMNS else f": {len(columns)} of {len(known)} columns"


def _edges(graph: Graph, starts: Sequence[Node], direction: str) -> list[dict[str, str]]:
    neighbours = _neighbours(graph, direction)
    found: list[dict[str, str]] = []
    for node in dict.fromkeys([*starts, *sorted(reached(starts, neighbours), key=str)]):
        for one in neighbours(node):
            read, made = (node, one) if direction == "down" else (one, node)
            found.append({"from": str(read), "to": str(made), "how": _how(graph, node, one, direction)})
    return found


def _neighbours(graph: Graph, direction: str) -> Callable[[Node], Sequence[Node]]:
    return graph.children if direction == "down" else graph.parents


def _name(graph: Graph, node: Node) -> str:
    # An exposure has no columns to tell its rows from.
    return f"{node} (rows)" if node.column is None and graph.made[node.asset].columns else str(node)


def _how(graph: Graph, node: Node, neighbour: Node, direction: str) -> str:
    """Where it is written that one is made of the other."""
    made = neighbour if direction == "down" else node
    only_read = made.column is None and graph.made[made.asset].columns
    return graph.made[made.asset].how + (" (filter, join or group)" if only_read else "")
