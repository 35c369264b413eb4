"""Which columns a dbt model's columns are made of, from its compiled SQL.

Belongs here: one model's columns, its parents' columns. Does not belong here: Silver's columns, which contracts declare, and
the graph of all tables (lineage). dagster-dbt has the like, which asks the database for every column and reads the SQL anew
for each: seconds a model. Contracts are enforced, so that the YAML knows all columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import AssayError

if TYPE_CHECKING:
    import dagster as dg
    from sqlglot import exp
    from sqlglot.lineage import Node
    from sqlglot.optimizer.scope import Scope

Sources = set[tuple[str, str]]


@dataclass(frozen=True)
class Reads:
    """What a query reads, as (table, column) pairs.

    Args:
        columns: what each of its columns is made of.
        rows: what chooses, joins, groups or orders its rows, and what it names without any use.
        counts: the columns that count rows, or number them, and hold no column's value.
    """

    columns: Mapping[str, Sources]
    rows: Sources
    counts: set[str]

    def as_json(self) -> dict[str, Any]:
        """The same, as JSON can hold it."""
        return {
            "columns": {column: sorted(found) for column, found in self.columns.items()},
            "rows": sorted(self.rows),
            "counts": sorted(self.counts),
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Reads":
        """Back again."""
        columns = {column: {(table, name) for table, name in pairs} for column, pairs in found["columns"].items()}
        return cls(columns, {(table, name) for table, name in found["rows"]}, set(found["counts"]))


def column_lineage(
    manifest: Mapping[str, Any], unique_id: str, target_path: Path, key_of: "Callable[[Mapping[str, Any]], dg.AssetKey]"
) -> dict[str, Any]:
    """The metadata entry `dagster/column_lineage` of a model; nothing if it has no SQL (a seed).

    Args:
        target_path: where dbt put the compiled SQL.
        key_of: the asset of a node.
    """
    import dagster as dg

    props = manifest["nodes"][unique_id]
    file = target_path / "compiled" / props["package_name"] / props["original_file_path"]
    if props["resource_type"] != "model" or not file.exists():
        return {}
    parents = {plain_name(parent["relation_name"]): parent for parent in parents_of(manifest, props)}
    made_of = columns_made_of(
        file.read_text(encoding="utf-8"),
        manifest["metadata"]["adapter_type"],
        {name: list(parent["columns"]) for name, parent in parents.items()},
    )
    deps = {
        column: [dg.TableColumnDep(key_of(parents[name]), parent_column) for name, parent_column in sorted(found)]
        for column, found in made_of.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


def parents_of(manifest: Mapping[str, Any], props: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tables that a node of the manifest reads."""
    return [
        manifest["sources" if node.startswith("source") else "nodes"][node] for node in props["depends_on"]["nodes"]
    ]


def plain_name(relation: str) -> str:
    """A table's name in SQL, without quotes."""
    return relation.replace('"', "").replace("`", "")


def columns_made_of(sql: str, dialect: str, tables: Mapping[str, list[str]]) -> dict[str, Sources]:
    """The (table, column) pairs that each column of a query is made of.

    Args:
        tables: the columns of each table that the query reads, by its name in the query without quotes.
    """
    query = _Query(sql, dialect, tables)
    return {column: query.leaves(node) for column, node in query.lineage(query.scope).items()}


def reads_of(sql: str, dialect: str, tables: Mapping[str, list[str]]) -> Reads:
    """All that a query reads, also what is part of none of its columns.

    Args:
        tables: as above.
    """
    from sqlglot import exp, parse_one

    query = _Query(sql, dialect, tables)
    found = query.lineage(query.scope)
    columns = {column: query.leaves(node) for column, node in found.items()}
    # `select *` reads every column, and uses those that are named somewhere.
    named = {column.name for column in parse_one(sql, dialect=dialect).find_all(exp.Column)}
    rows: Sources = set()
    mentioned: Sources = set()
    for scope in query.scope.traverse():
        # What a subquery in a condition selects is part of no column.
        outer = scope.parent if scope.is_subquery else None
        of_condition = outer is not None and not _is_projected(scope.expression, outer.expression)
        for column in scope.columns:
            sources = query.behind(column, scope)
            if of_condition or not _is_projected(column, scope.expression):
                rows |= sources
            elif column.name in named and isinstance(scope.sources.get(column.table), exp.Table):
                mentioned |= sources
    used = rows.union(*columns.values())
    counts = {
        column
        for column, node in found.items()
        if not columns[column] and any(part.expression.find(exp.AggFunc, exp.Window) for part in node.walk())
    }
    return Reads(columns, rows | (mentioned - used), counts)


class _Query:
    """A query with every column's table found; analysed once, as that is what takes the time."""

    def __init__(self, sql: str, dialect: str, tables: Mapping[str, list[str]]) -> None:
        from sqlglot import exp, parse_one
        from sqlglot.errors import SqlglotError
        from sqlglot.optimizer import qualify
        from sqlglot.optimizer.scope import build_scope
        from sqlglot.schema import MappingSchema

        self.dialect, self.tables = dialect, tables
        self.schema: MappingSchema = MappingSchema(dialect=dialect)
        for name, columns in tables.items():
            self.schema.add_table(exp.to_table(name), dict.fromkeys(columns, "text"), dialect=dialect)
        try:
            query = parse_one(sql, dialect=dialect)
            query = qualify.qualify(query, schema=self.schema, dialect=dialect, validate_qualify_columns=False)
        except SqlglotError as error:
            raise AssayError(f"SQL that sqlglot cannot read: {error}", "write it in another way") from error
        scope = build_scope(query)
        if scope is None:
            raise AssayError(f"What begins with {sql[:80]!r} is no query", "write a select")
        self.scope: Scope = scope
        self._lineage: dict[int, dict[str, Node]] = {}

    def lineage(self, scope: "Scope") -> "dict[str, Node]":
        """sqlglot's lineage of each column of a part of the query."""
        from sqlglot.lineage import lineage

        if id(scope) not in self._lineage:
            # Trimmed for display, its parts would be taken out of the query.
            self._lineage[id(scope)] = lineage(
                None,
                scope.expression,
                schema=self.schema,
                scope=scope,
                dialect=self.dialect,
                copy=False,
                trim_selects=False,
            )
        return self._lineage[id(scope)]

    def leaves(self, node: "Node") -> Sources:
        """The tables' columns at the end of a lineage."""
        from sqlglot import exp

        ends = [one for one in node.walk() if not one.downstream]
        return {
            (_name_of(end.expression), exp.to_column(end.name).name)
            for end in ends
            if isinstance(end.expression, exp.Table) and _name_of(end.expression) in self.tables
        }

    def behind(self, column: "exp.Column", scope: "Scope") -> Sources:
        """The tables' columns behind one that some clause names."""
        from sqlglot import exp

        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            return {(_name_of(source), column.name)} if _name_of(source) in self.tables else set()
        node = self.lineage(source).get(column.name) if source else None
        return self.leaves(node) if node else set()


def _is_projected(inner: "exp.Expr", query: "exp.Expr") -> bool:
    """Whether it stands in the list after `select`, of which the query's columns are made."""
    part: Any = inner
    while part.parent is not None and part.parent is not query:
        part = part.parent
    return part.arg_key == "expressions"


def _name_of(table: "exp.Table") -> str:
    parts: Sequence[Any] = table.parts
    return ".".join(part.name for part in parts)
