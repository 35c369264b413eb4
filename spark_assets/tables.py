"""The Iceberg tables that a contract declares: their columns, and how they are made and read.

Belongs here: DDL from a contract, snapshot ids. Does not belong here: rows.
"""

from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.names import PhysicalName

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Where a row came from. Iceberg keeps `_file` and `_pos` for itself: a table with its own `_file` cannot be read.
SOURCE = {
    "source_file": ("string", "Path of the vendor's file below landing."),
    "source_sequence": ("bigint", "Order in which that version of the file arrived; a higher one is newer."),
    "source_row": ("bigint", "Row in that file, the first after the header is 1."),
}
DAY = {"ds": ("date", "The day of the file's path: its partition.")}
CORRUPT = "corrupt_record"

Columns = dict[str, tuple[str, str]]


def bronze_columns(contract: Contract) -> Columns:
    """Name to (type, description): every received column as text, and where it came from."""
    text: Columns = {column.name: ("string", column.description) for column in contract.received}
    return {**text, CORRUPT: ("string", "The line as received, if it has too many or too few fields."), **SOURCE, **DAY}


def silver_columns(contract: Contract) -> Columns:
    """Name to (type, description): every column of the contract as its own type, and where it came from."""
    return {**{column.name: (column.spark_type, column.description) for column in contract.columns}, **SOURCE}


def quarantine_columns(contract: Contract) -> Columns:
    """Name to (type, description): the row as received, and every reason why it is not in Silver."""
    return {**bronze_columns(contract), "reasons": ("array<string>", "Every reason, as rule:column.")}


def ensure_table(spark: "SparkSession", name: PhysicalName, columns: Columns, partition: str | None) -> None:
    """Makes the table if it is missing, with an empty first snapshot so that a branch has something to start from.

    Raises:
        AssayError: the table exists with other columns than the contract says.
    """
    if spark.catalog.tableExists(str(name)):
        existing = {field.name: field.dataType.simpleString() for field in spark.table(str(name)).schema.fields}
        wanted = {column: kind for column, (kind, _) in columns.items()}
        if existing != wanted:
            differing = sorted(set(existing.items()) ^ set(wanted.items()))
            raise AssayError(
                f"{name} differs from its contract in {', '.join(sorted({column for column, _ in differing}))}",
                "give the contract the table's columns again: tables do not evolve yet",
            )
        return
    spark.sql(f"create namespace if not exists {name.catalog}.{name.schema}")
    listed = ", ".join(f"`{column}` {kind} comment {_quoted(text)}" for column, (kind, text) in columns.items())
    by = f"partitioned by (`{partition}`)" if partition else ""
    # Format 2 is what all four engines read; version 3 is beyond ClickHouse's.
    spark.sql(f"create table if not exists {name} ({listed}) using iceberg {by} tblproperties ('format-version' = '2')")
    spark.table(str(name)).limit(0).writeTo(str(name)).append()


def snapshot_id(spark: "SparkSession", name: PhysicalName, ref: str = "main") -> int:
    """The snapshot that a branch or tag of a table points to.

    Raises:
        AssayError: the table has no such branch or tag.
    """
    rows = spark.sql(f"select snapshot_id from {name}.refs where name = {_quoted(ref)}").collect()
    if not rows:
        raise AssayError(f"{name} has no branch {ref}", "materialize it first")
    return int(rows[0][0])


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
