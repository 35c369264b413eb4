"""What a change touches: the difference between two descriptions, and all that is made of it, column by column.

Belongs here: comparing descriptions and walking both column graphs. Does not belong here: descriptions (describe, trees),
which contract changes may land (foundation/contract_changes), printing (cli/impact).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foundation.contract_changes import GONE, NEW, Judgement, judge
from foundation.errors import AssayError
from orchestrator.lineage import Graph, Made, Node, reached

OF_FEED = ("landing", "bronze", "quarantine", "silver")
# What a rule of a column says is judged after Bronze.
SILVER = ("silver", "quarantine")
# Nothing makes them.
NOT_MADE = ("landing", "exposures")
LAYERS = (*OF_FEED, "gold", "features", "models", "predictions", "monitoring", "warehouse", "exposures")
# What a contract says and no row shows; of the moments, the SQL that they stand in does.
ONLY_SAID = (
    "due",
    "available",
    "row_available",
    "starts",
    "ends",
    "max_quarantined",
    "owner",
    "classification",
    "made_of",
)
# What is of the vendor's file, and so of every table of the feed. All else is a rule by which Silver takes a row or not.
OF_FILE = (NEW, GONE, "derived", "load", "format", "day")


@dataclass
class Touched:
    """An asset. `why` is what was changed of it, nothing if only what it is made of was; `columns` those that are concerned,
    None if all are; `rows` says that it may have other rows, too, as well as other values. `said` is what changed of what is
    told of it: no row is another by that."""

    asset: str
    why: list[str] = field(default_factory=list)
    columns: list[str] | None = None
    rows: bool = False
    said: list[str] = field(default_factory=list)
    gone: bool = False


@dataclass(frozen=True)
class Impact:
    """`direct` are the assets that were changed, `downstream` those that are made of them, in the order of the data;
    `contracts` the judgement of each feed's that was changed, `other` the changed files that make no table."""

    commit: str
    contracts: Mapping[str, Judgement]
    direct: Sequence[Touched]
    downstream: Sequence[Touched]
    other: Sequence[str]

    @property
    def refused(self) -> list[Judgement]:
        """The contracts that may not change so."""
        return [one for one in self.contracts.values() if one.refused]

    @property
    def changed(self) -> list[str]:
        """The assets whose rows were changed and that a run can make."""
        return [one.asset for one in self.direct if one.why and not one.gone and not one.asset.startswith(NOT_MADE)]

    @property
    def affected(self) -> list[str]:
        """The same, and all that is made of them."""
        return [*self.changed, *(one.asset for one in self.downstream if not one.asset.startswith(NOT_MADE))]


def impact(commit: str, old: Mapping[str, Any], new: Mapping[str, Any], files: Iterable[str] = ()) -> Impact:
    """What differs between two descriptions, and what follows from it.

    Args:
        commit: the older one's.
        files: the paths that differ.

    Raises:
        AssayError: the older one was written by code that said other things; or a model of the newer one cannot be rendered,
            so that the SQL of its engine is not known.
    """
    if old["format"] != new["format"]:
        raise AssayError(f"{commit[:12]} says what it declares in another form", "compare with a newer commit")
    for target, why in new.get("unrendered", {}).items():
        if target not in old.get("unrendered", {}):  # else both are compared as they are written
            raise AssayError(f"The models of the working tree cannot be compared: {why}", "correct what dbt names")
    graphs = [graph_of(one) for one in (old, new)]
    feeds = {**old["contracts"], **new["contracts"]}
    contracts = {
        feed: judge(old["contracts"].get(feed), new["contracts"].get(feed))
        for feed in feeds
        if old["contracts"].get(feed) != new["contracts"].get(feed)
    }
    found: dict[str, Touched] = {}
    starts: list[set[Node]] = [set(), set()]
    for feed, judgement in contracts.items():
        _of_contract(feed, judgement, (old, new), found)
    for asset in {**old["assets"], **new["assets"]}:
        one = _difference(asset, old["assets"].get(asset), new["assets"].get(asset), found.get(asset))
        if one is None:
            continue
        found[asset] = one
        if one.why:
            for graph, nodes in zip(graphs, starts, strict=True):
                nodes |= _nodes(graph, one)
    both = list(zip(graphs, starts, strict=True))
    named = set[Node]().union(*(reached(nodes, graph.children) for graph, nodes in both))
    below = set[Node]().union(*(_reached(graph, nodes) for graph, nodes in both))
    direct = {asset for asset, one in found.items() if one.why}
    downstream = [_below(asset, graphs, named, below) for asset in {node.asset for node in below} - direct]
    return Impact(
        commit,
        contracts,
        sorted(found.values(), key=lambda one: _place(one.asset)),
        sorted(downstream, key=lambda one: _place(one.asset)),
        [file for file in files if not _accounted(file, [old, new], contracts)],
    )


def graph_of(description: Mapping[str, Any]) -> Graph:
    """The column graph of a description."""
    return Graph(
        {
            asset: Made(
                asset,
                one["how"],
                {column: [Node(*of) for of in parents] for column, parents in one["columns"].items()},
                [Node(*of) for of in one["rows"]],
            )
            for asset, one in description["assets"].items()
        }
    )


def _of_contract(
    feed: str,
    judgement: Judgement,
    descriptions: Sequence[Mapping[str, Any]],
    found: dict[str, Touched],
) -> None:
    """A column is the same in all four tables of a feed; what is not of the file is judged after Bronze."""
    for change in judgement.changes:
        for layer in OF_FEED if change.rule in OF_FILE else SILVER:
            asset = f"{layer}/{feed}"
            known = [one["assets"][asset]["columns"] for one in descriptions if asset in one["assets"]]
            if change.column is not None and not any(change.column in columns for columns in known):
                continue  # a derived column is in no file
            one = found.setdefault(asset, Touched(asset, columns=[]))
            if change.rule in ONLY_SAID:
                one.said.append(f"contract: {change.rule}")
                continue
            one.why.append("contract")
            one.rows = one.rows or change.column is None or change.rule not in OF_FILE
            if change.column is None:
                one.columns = None
            elif one.columns is not None:
                one.columns.append(change.column)


def _difference(
    asset: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, known: Touched | None
) -> Touched | None:
    """What was changed of an asset itself; None if nothing."""
    if old is None or new is None:
        one = known or Touched(asset, ["is new" if old is None else "is gone"])
        one.columns, one.rows, one.gone = None, True, new is None
        return one
    one = known or Touched(asset, columns=[])
    if known is None:
        lost = [name for name in old["columns"] if name not in new["columns"]]
        gained = [name for name in new["columns"] if name not in old["columns"]]
        retyped = [name for name, kind in new["types"].items() if name in old["types"] and old["types"][name] != kind]
        for names, what in ((lost, "lost"), (gained, "gained"), (retyped, "has another type of")):
            if names:
                one.why.append(f"{what} {', '.join(names)}")
                one.columns = [*(one.columns or []), *names]
    for name in dict.fromkeys([*old["makes"], *new["makes"]]):
        before, after = old["makes"].get(name), new["makes"].get(name)
        if before == after:
            continue
        columns = _of_sql(before, after) if isinstance(before, Mapping) and isinstance(after, Mapping) else None
        if columns == []:
            continue
        one.why.append(name)
        if columns is None or one.columns is None:
            one.columns, one.rows = None, True
        else:
            one.columns = [*dict.fromkeys([*one.columns, *columns])]
    for name in dict.fromkeys([*old["says"], *new["says"]]):
        if old["says"].get(name) != new["says"].get(name):
            one.said.append(name)
    return one if one.why or one.said else None


def _of_sql(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str] | None:
    """The columns that a changed query makes otherwise; None if it may be all."""
    if old["whole"] == new["whole"]:
        return []
    if old["rest"] != new["rest"]:
        return None
    return [name for name in new["columns"] if old["columns"].get(name) != new["columns"][name]] or None


def _nodes(graph: Graph, one: Touched) -> set[Node]:
    made = graph.made.get(one.asset)
    if made is None:
        return set()
    columns = made.columns if one.columns is None else one.columns
    return {Node(one.asset, name) for name in (*columns, *([None] if one.rows else []))}


def _reached(graph: Graph, starts: Iterable[Node]) -> set[Node]:
    """All that may be another. Lineage leaves out that a column stands on its table's rows, or everything would be made of
    everything; but where rows come or go, what is counted or summed of them is another."""

    def children(node: Node) -> list[Node]:
        made = graph.made.get(node.asset)
        whole = made.nodes if made is not None and node.column is None else [node]
        return [*whole, *(child for one in whole for child in graph.children(one))]

    return reached(starts, children) - set(starts)


def _below(asset: str, graphs: Sequence[Graph], named: set[Node], below: set[Node]) -> Touched:
    """What is touched of an asset: the columns that are made of changed ones, and whether rows may come or go."""
    made = graphs[1].made.get(asset) or graphs[0].made[asset]
    columns = [name for name in made.columns if Node(asset, name) in named]
    whole = len(columns) == len(made.columns)
    return Touched(
        asset, [], None if whole else columns, rows=Node(asset, None) in below, gone=asset not in graphs[1].made
    )


def _accounted(file: str, descriptions: Sequence[Mapping[str, Any]], contracts: Iterable[str]) -> bool:
    """Whether a file's change was looked at: its meaning changed something that is named, or nothing."""
    if file.startswith(("contracts/", "dbt_project/", "tests/", "docs/", "bench/")) or file.endswith(".md"):
        return True
    return any(file in one["makes"] for said in descriptions for one in said["assets"].values())


def _place(asset: str) -> tuple[int, str]:
    layer = asset.partition("/")[0]
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS), asset
