"""How a table is called in each environment: the one function that Spark, dbt, Feast, MLflow and ClickHouse ask.

Belongs here: the spelling of catalogs, schemas and tables. Does not belong here: which tables exist.
"""

import re
from dataclasses import dataclass

from foundation.errors import AssayError

CATALOG = "lake"
# These two are never built at the same address, so both may use the plain names.
UNPREFIXED = ("production", "local")
LAYERS = (
    "bronze",
    "silver",
    "quarantine",
    "gold",
    "warehouse",
    "features",
    "models",
    "predictions",
    "monitoring",
    "lake",
)


@dataclass(frozen=True)
class PhysicalName:
    """A table's address: `catalog.schema.table`; ClickHouse, which has no catalogs, uses `schema.table`."""

    catalog: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.table}"

    @property
    def in_catalog(self) -> str:
        """`schema.table`, as PyIceberg, Iceberg procedures and ClickHouse want it."""
        return f"{self.schema}.{self.table}"


def schema_prefix(environment: str) -> str:
    """The prefix of every schema of an environment: empty for `production` and `local`, else `<slug>__`.

    Raises:
        AssayError: the environment's name has no letter or digit to make a schema of.
    """
    if environment in UNPREFIXED:
        return ""
    name = slug(environment)
    if not name:
        raise AssayError(
            f"ASSAY_ENV={environment!r} has no letter or digit", "name the environment, such as pr-42 or dev_ana"
        )
    # An identifier may not start with a digit in Trino. No other environment gets this prefix, as no slug starts with _.
    return f"_{name}__" if name[0].isdigit() else f"{name}__"


def slug(environment: str) -> str:
    """The letters and digits of an environment's name, with `_` between them; empty if it has none."""
    return re.sub(r"[^a-z0-9]+", "_", environment.lower()).strip("_")


def branch_catalog(branch: str) -> str:
    """The Iceberg catalog of a branch environment, so that a name without it can never be one of its tables."""
    return f"{CATALOG}_{slug(branch)}"


def physical_name(environment: str, layer: str, table: str) -> PhysicalName:
    """The address of an asset's table in an environment.

    Args:
        environment: `production`, `local`, or a branch's or person's name such as `pr-42`.
        layer: one of `LAYERS`, the first part of the asset key.
        table: the second part of the asset key.

    Raises:
        AssayError: the layer is unknown.
    """
    if layer not in LAYERS:
        raise AssayError(f"There is no layer {layer!r}", f"use one of {', '.join(LAYERS)}")
    return PhysicalName(CATALOG, f"{schema_prefix(environment)}{layer}", table)


# Words that no column or table can have without quotes on each engine.
_SQL = """
alter and as asc between by case cast constraint create cross cube current_date current_time current_timestamp current_user
deallocate delete desc describe distinct drop else end escape except execute exists extract false for from full group grouping
having in inner insert intersect into is join left like limit localtime localtimestamp natural normalize not null on or order
outer prepare prewhere recursive right rollup select skip table then trim true uescape union unnest using values when where with
"""
SQL_WORDS = frozenset(_SQL.split())


def is_sql_word(name: str) -> bool:
    """Whether a name could not stand in a statement without quotes."""
    return name.lower() in SQL_WORDS
