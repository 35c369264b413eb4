"""The Iceberg tables that a contract declares: their columns, how they are made, and how they gain a column.

Belongs here: DDL from a contract, snapshot ids. Does not belong here: rows.
"""

from datetime import date
from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.contract_changes import widens
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
# What is written, judged and published as one: a day, or the whole table of a full feed (None).
Part = date | None


def part_name(part: Part) -> str:
    """A part in a message: a space and its day, or nothing."""
    return "" if part is None else f" {part}"


def bronze_columns(contract: Contract) -> Columns:
    """Name to (type, description): every received column as text, and where it came from."""
    text: Columns = {column.name: ("string", column.description) for column in contract.received}
    return {
        **text,
        CORRUPT: ("string", "The line as received, if it could not be read into the columns."),
        **SOURCE,
        **DAY,
    }


def silver_columns(contract: Contract) -> Columns:
    """Name to (type, description): every column of the contract as its own type, and where it came from."""
    return {**{column.name: (column.spark_type, column.description) for column in contract.columns}, **SOURCE}


def quarantine_columns(contract: Contract) -> Columns:
    """Name to (type, description): the row as received, and every reason why it is not in Silver."""
    return {
        **bronze_columns(contract),
        "reasons": ("array<string>", "Every reason, as rule:column; of a duplicate the row that won."),
        "fate": ("string", "quarantined, or duplicate."),
    }


def ensure_table(spark: "SparkSession", name: PhysicalName, columns: Columns, partition: str | None) -> None:
    """Makes the table if it is missing, with an empty first snapshot so that a branch has something to start from; adds the
    columns that the contract gained, widens types and renews descriptions. Old rows read null in a new column.

    Raises:
        AssayError: the contract would lose or narrow a column of the table.
    """
    if spark.catalog.tableExists(str(name)):
        _evolve(spark, name, columns)
        return
    spark.sql(f"create namespace if not exists {name.catalog}.{name.schema}")
    listed = ", ".join(f"`{column}` {kind} comment {_quoted(text)}" for column, (kind, text) in columns.items())
    by = f"partitioned by (`{partition}`)" if partition else ""
    # Format 2 is what all four engines read; version 3 is beyond ClickHouse's.
    spark.sql(f"create table if not exists {name} ({listed}) using iceberg {by} tblproperties ('format-version' = '2')")
    spark.table(str(name)).limit(0).writeTo(str(name)).append()


def _evolve(spark: "SparkSession", name: PhysicalName, columns: Columns) -> None:
    there = {field.name: field for field in spark.table(str(name)).schema.fields}
    lost = sorted(set(there) - set(columns))
    if lost:
        raise AssayError(
            f"{name} has {', '.join(lost)}, and its contract would lose that",
            "put it back into the contract, or give the feed a new name",
        )
    changes: list[str] = []
    for column, (kind, text) in columns.items():
        if column not in there:
            changes.append(f"add column `{column}` {kind} comment {_quoted(text)}")
            continue
        old = there[column].dataType.simpleString()
        if old != kind and not widens(old, kind):
            raise AssayError(
                f"{name} has {column} as {old}, and its contract would make it {kind}, which not every row fits",
                f"write physicalType: {old} again, or add a column of another name",
            )
        if old != kind:
            changes.append(f"alter column `{column}` type {kind}")
        if (there[column].metadata or {}).get("comment", "") != text:
            changes.append(f"alter column `{column}` comment {_quoted(text)}")
    for change in changes:
        spark.sql(f"alter table {name} {change}")


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
