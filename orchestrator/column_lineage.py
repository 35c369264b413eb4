"""Which columns a dbt model's columns are made of, from its compiled SQL.

Belongs here: one model's columns, its parents' columns. Does not belong here: Silver's columns, which contracts declare
(assets/lake). dagster-dbt has the like, which asks the database for every column and reads the SQL anew for each: seconds a
model. Contracts are enforced, so that the YAML knows all columns.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

Key = Callable[[Mapping[str, Any]], dg.AssetKey]


def column_lineage(manifest: Mapping[str, Any], unique_id: str, target_path: Path, key_of: Key) -> dict[str, Any]:
    """The metadata entry `dagster/column_lineage` of a model; nothing if it has no SQL (a seed).

    Args:
        target_path: where dbt put the compiled SQL.
        key_of: the asset of a node.
    """
    props = manifest["nodes"][unique_id]
    file = target_path / "compiled" / props["package_name"] / props["original_file_path"]
    if props["resource_type"] != "model" or not file.exists():
        return {}
    parents = {
        _name(parent["relation_name"]): parent
        for parent in (
            manifest["sources" if node.startswith("source") else "nodes"][node] for node in props["depends_on"]["nodes"]
        )
    }
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


def columns_made_of(sql: str, dialect: str, tables: Mapping[str, list[str]]) -> dict[str, set[tuple[str, str]]]:
    """The (table, column) pairs that each column of a query is made of.

    Args:
        tables: the columns of each table that the query reads, by its name in the query without quotes.
    """
    from sqlglot import exp, parse_one
    from sqlglot.lineage import lineage
    from sqlglot.optimizer import qualify
    from sqlglot.optimizer.scope import build_scope
    from sqlglot.schema import MappingSchema

    schema = MappingSchema(dialect=dialect)
    for name, columns in tables.items():
        schema.add_table(exp.to_table(name), dict.fromkeys(columns, "text"), dialect=dialect)
    query = qualify.qualify(
        parse_one(sql, dialect=dialect), schema=schema, dialect=dialect, validate_qualify_columns=False
    )
    scope = build_scope(query)  # once: from text, each column would cost the whole analysis
    if not isinstance(query, exp.Query) or scope is None:
        return {}
    found: dict[str, set[tuple[str, str]]] = {}
    for column in query.named_selects:
        leaves = [
            node
            for node in lineage(column, query, schema=schema, scope=scope, dialect=dialect).walk()
            if not node.downstream
        ]
        found[column] = {
            (_name_of(table), exp.to_column(leaf.name).name)
            for leaf in leaves
            if isinstance(table := leaf.expression, exp.Table) and _name_of(table) in tables
        }
    return found


def _name(relation: str) -> str:
    return relation.replace('"', "").replace("`", "")


def _name_of(table: Any) -> str:
    return ".".join(part.name for part in table.parts)
