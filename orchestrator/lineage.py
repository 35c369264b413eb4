"""The whole column graph, from a file's column to whoever uses it, put together from declarations alone: no service is
asked, no asset need have been made.

Belongs here: what contracts and dbt's manifests declare, and walking the graph. Does not belong here: reading SQL
(column_lineage), what the domain's own assets are made of (domain_lineage), printing (cli/lineage), Dagster, which takes
longer to import than the graph to build.

A table has columns, and it has rows: a column that only chooses them (a filter, a join, a group) is in no other column, and
yet whoever renames it touches the table. So a table's rows are a node beside its columns. Every column stands on its table's
rows, but only one that counts them is shown as made of them; else everything would be made of everything.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from foundation.contract import Contract, load_contracts
from foundation.errors import AssayError
from foundation.names import schema_prefix
from foundation.settings import Settings
from orchestrator import column_lineage
from orchestrator.column_lineage import Reads, parents_of, plain_name, reads_of
from orchestrator.manifests import TARGETS, asset_path, read_manifest
from spark_assets.tables import bronze_columns, quarantine_columns, silver_columns

NEAR = 5


class Node(NamedTuple):
    """A column of an asset (`layer/table`), or with None its rows."""

    asset: str
    column: str | None

    def __str__(self) -> str:
        return f"{self.asset}.{self.column}" if self.column else self.asset


@dataclass(frozen=True)
class Made:
    """An asset's columns, in their order, and what each is made of.

    Args:
        how: what makes it so: the file that declares it.
        columns: nothing for one that is constant, or made by the platform.
        rows: what chooses its rows, and what is read otherwise without being part of a column.
        code: the Python files that make it; whoever changes one changes it. Contracts' and dbt's tables need none.
        recipe: what else it is made by, such as values that other files hold.
        keys: of a table, the columns that name a row.
        day: of a table, the column that says of which day a row is.
    """

    asset: str
    how: str
    columns: Mapping[str, Sequence[Node]]
    rows: Sequence[Node] = ()
    code: Sequence[str] = ()
    recipe: Mapping[str, object] = field(default_factory=dict)
    keys: Sequence[str] = ()
    day: str | None = None

    @property
    def nodes(self) -> list[Node]:
        """Its columns and its rows."""
        return [*(Node(self.asset, column) for column in self.columns), Node(self.asset, None)]


@dataclass(frozen=True)
class Graph:
    """All that is made, by asset."""

    made: Mapping[str, Made]

    def parents(self, node: Node) -> Sequence[Node]:
        """What a node is made of."""
        made = self.made.get(node.asset)
        if made is None:
            return ()
        return made.rows if node.column is None else made.columns.get(node.column, ())

    def children(self, node: Node) -> Sequence[Node]:
        """What is made of a node."""
        return self._children.get(node, ())

    @cached_property
    def _children(self) -> dict[Node, list[Node]]:
        found: dict[Node, list[Node]] = {}
        for made in self.made.values():
            for node in made.nodes:
                for parent in self.parents(node):
                    found.setdefault(parent, []).append(node)
        return found


def touched(graph: Graph, asset: str, column: str | None = None) -> set[Node]:
    """Everything that a change of a column touches, at any distance, itself not included; without a column, what a change of
    any column or of the rows of the table touches."""
    starts = [Node(asset, column)] if column else graph.made[asset].nodes
    return reached(starts, graph.children)


def reached(starts: Iterable[Node], neighbours: Any) -> set[Node]:
    """The nodes at any distance of some, in the direction of `graph.parents` or `graph.children`."""
    found: set[Node] = set()
    todo = list(starts)
    while todo:
        fresh = [node for node in neighbours(todo.pop()) if node not in found]
        found.update(fresh)
        todo += fresh
    return found


def find(graph: Graph, text: str) -> tuple[str, str | None]:
    """The asset, and the column if one is named, of what a person types: `gold.orders.amount`, `gold/orders.amount`,
    `gold/orders`.

    Raises:
        AssayError: there is no such table or column; it names those that are spelt like it.
    """
    layer, _, rest = text.replace("/", ".").partition(".")
    table, _, column = rest.partition(".")
    asset = f"{layer}/{table}"
    if asset not in graph.made:
        # By the table's name too: who takes the wrong layer is nearer than who takes the wrong letters.
        near = [one for one in graph.made if one.partition("/")[2] == (table or layer)]
        near = near or get_close_matches(asset, list(graph.made), n=NEAR)
        named = text.removesuffix(f".{column}") if column else text
        layers = sorted({one.partition("/")[0] for one in graph.made})
        if near:
            then = f"use {_or(near)}"
        else:
            then = (
                f"write layer.table or layer.table.column; the layers are {_or(layers)}"
                if layers
                else "write a contract"
            )
        raise AssayError(f"There is no table {named}", then)
    columns = graph.made[asset].columns
    if column and column not in columns:
        near = get_close_matches(column, columns, n=NEAR) or list(columns)
        raise AssayError(f"{asset} has no column {column}", f"use {_or(near)}" if near else f"ask for {asset} alone")
    return asset, column or None


def column_graph(settings: Settings, domain: Iterable[Made]) -> Graph:
    """The graph of this project's contracts, of dbt's manifests of this home, and of the domain's own assets.

    Args:
        domain: what `domain_columns()` of domain_lineage declares.

    Raises:
        AssayError: a manifest was never built.
    """
    contracts = load_contracts()
    manifests = {target: read_manifest(settings, target) for target in TARGETS}
    known = {made.asset: made for contract in contracts.values() for made in of_contract(contract, contracts)}
    known |= {made.asset: made for made in domain}
    with _Memory(settings.dbt_target / f"{schema_prefix(settings.environment)}lineage.json") as memory:
        return Graph(known | {made.asset: made for made in of_dbt(manifests, known, memory.reads)})


def of_contract(contract: Contract, contracts: Mapping[str, Contract]) -> list[Made]:
    """Landing, Bronze, quarantine and Silver of a feed.

    Args:
        contracts: all, as a feed may look into others: whose rows it finds by their keys.
    """
    how = f"contracts/{contract.file.name}"
    looked_up = [Node(f"silver/{ref}", key) for ref in contract.refs for key in contracts[ref].keys]
    return [
        Made(f"landing/{contract.feed}", "the vendor's file", {column.name: () for column in contract.received}),
        *(
            Made(f"{layer}/{contract.feed}", how, columns_of(contract, layer), looked_up if layer == "silver" else ())
            for layer in ("bronze", "quarantine", "silver")
        ),
    ]


def columns_of(contract: Contract, layer: str) -> dict[str, Sequence[Node]]:
    """What a feed's columns are made of in `bronze`, `quarantine` or `silver`; nothing for those that the platform adds."""
    if layer == "bronze":
        received = {column.name for column in contract.received}
        return {
            name: [Node(f"landing/{contract.feed}", name)] if name in received else ()
            for name in bronze_columns(contract)
        }
    bronze = {name: [Node(f"bronze/{contract.feed}", name)] for name in bronze_columns(contract)}
    if layer == "quarantine":
        return {name: bronze.get(name, ()) for name in quarantine_columns(contract)}
    derived = {
        one.name: [_source(contract, source) for source in one.made_of] for one in contract.columns if one.derived
    }
    return {name: derived[name] if name in derived else bronze[name] for name in silver_columns(contract)}


def of_dbt(manifests: Mapping[str, Mapping[str, Any]], known: Mapping[str, Made], reads: Any) -> list[Made]:
    """Models, seeds, snapshots and exposures of all targets.

    Args:
        known: the tables that dbt reads and does not make.
        reads: `reads_of`, or one that remembers.
    """
    nodes = [
        (manifest, node)
        for manifest in manifests.values()
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "seed", "snapshot")
    ]
    columns = {asset: list(made.columns) for asset, made in known.items()}
    columns |= {_asset(node): list(node["columns"]) for _, node in nodes}
    found = [_of_node(manifest, node, columns, reads) for manifest, node in nodes]
    for manifest in manifests.values():
        for exposure in manifest.get("exposures", {}).values():
            used = [_asset(parent) for parent in parents_of(manifest, exposure)]
            found.append(
                Made(
                    f"exposures/{exposure['name']}",
                    f"dbt_project/{exposure['original_file_path']}",
                    {},
                    [Node(asset, column) for asset in used for column in (*columns.get(asset, ()), None)],
                )
            )
    return found


def _of_node(
    manifest: Mapping[str, Any], node: Mapping[str, Any], columns: Mapping[str, list[str]], reads: Any
) -> Made:
    asset, how = _asset(node), f"dbt_project/{node['original_file_path']}"
    if node["resource_type"] == "seed":
        return Made(asset, how, dict.fromkeys(node["columns"], ()))
    parents = {plain_name(parent["relation_name"]): _asset(parent) for parent in parents_of(manifest, node)}
    tables = {name: columns.get(parent, []) for name, parent in parents.items()}
    try:
        found: Reads = reads(node.get("compiled_code", ""), manifest["metadata"]["adapter_type"], tables)
    except AssayError:
        # Nothing is known but whom it reads, so every column may be in every other.
        everything = [Node(parent, column) for parent in parents.values() for column in columns.get(parent, ())]
        return Made(
            asset, f"{how}, of which no SQL could be read", dict.fromkeys(columns[asset], everything), everything
        )

    def nodes(of: Iterable[tuple[str, str]]) -> list[Node]:
        return [Node(parents[table], column) for table, column in sorted(of)]

    return Made(
        asset,
        how,
        {
            column: [Node(asset, None)] if column in found.counts else nodes(found.columns.get(column, ()))
            for column in columns[asset]
        },
        nodes(found.rows),
    )


class _Memory:
    """What was found in a model's SQL, kept in a file: to read all of them takes 4 s (28 models), the file 0.01 s. It is
    kept by what it depends on: the SQL, the columns of the tables, and the code that reads it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.code = version("sqlglot") + hashlib.sha256(Path(column_lineage.__file__).read_bytes()).hexdigest()
        self.kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self.asked: dict[str, Any] = {}

    def __enter__(self) -> "_Memory":
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if not failed and self.asked != self.kept:
            fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            fresh.write_text(json.dumps(self.asked))
            fresh.replace(self.file)

    def reads(self, sql: str, dialect: str, tables: Mapping[str, list[str]]) -> Reads:
        key = hashlib.sha256(json.dumps([self.code, sql, dialect, tables]).encode()).hexdigest()
        self.asked[key] = self.kept.get(key) or reads_of(sql, dialect, tables).as_json()
        return Reads.of_json(self.asked[key])


def _source(contract: Contract, source: str) -> Node:
    feed, _, column = source.rpartition(".")
    return Node(f"silver/{feed}" if feed else f"bronze/{contract.feed}", column)


def _asset(node: Mapping[str, Any]) -> str:
    return "/".join(asset_path(node))


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
