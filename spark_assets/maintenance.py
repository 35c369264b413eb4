"""Upkeep of an Iceberg table: small files, old snapshots, old metadata files, files that nobody knows.

Belongs here: what may go and how it goes, one table at a time. Does not belong here: which snapshots somebody outside of
the table names (pins.py, ml/pins.py), when this runs, or the lock: the caller is the table's one writer.

Each function may be killed and run again: what Iceberg forgot but did not delete is found as an orphan some days later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.lake import local_path
from foundation.names import PhysicalName

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyspark.sql import SparkSession

# Five files, or five files of deleted rows on one: Gold gets one of each a day, so a month is rewritten every fifth day.
REWRITE = {"min-input-files": "5", "delete-file-threshold": "5", "remove-dangling-deletes": "true"}
# Every metadata file lists the ones before it, 200 bytes each, deleted or not; Iceberg's default is 100.
PROPERTIES = {"write.metadata.previous-versions-max": "20"}


@dataclass(frozen=True)
class Compaction:
    """Files that were replaced, files that replaced them, files of deleted rows that are not needed any more."""

    rewritten: int
    added: int
    deletes_removed: int


def compact(spark: "SparkSession", name: PhysicalName) -> Compaction:
    """Rewrites small files of a partition as one, and applies deleted rows: one commit with the same rows."""
    options = ", ".join(f"'{option}', '{value}'" for option, value in REWRITE.items())
    row = spark.sql(
        f"call {name.catalog}.system.rewrite_data_files(table => '{name.in_catalog}', options => map({options}))"
    ).collect()[0]
    return Compaction(
        row["rewritten_data_files_count"], row["added_data_files_count"], row["removed_delete_files_count"]
    )


def settle_properties(spark: "SparkSession", name: PhysicalName, table: "Table") -> None:
    """Sets what upkeep wants of a table and its maker (Spark, Trino, PyIceberg) did not say; one commit, once a table."""
    lacking = {key: value for key, value in PROPERTIES.items() if table.properties.get(key) != value}
    if lacking:
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in lacking.items())
        spark.sql(f"alter table {name} set tblproperties ({listed})")


def is_clone(table: "Table") -> bool:
    """Whether files of it are another table's, as a branch's clone has them (clone.py): Iceberg refuses to delete any."""
    return table.properties.get("gc.enabled") == "false"


def expirable(table: "Table", pinned: Collection[int], before: datetime, keep_last: int) -> list[int]:
    """The snapshots that may go: older than `before`, not among the last `keep_last` that readers of `main` saw, and named
    by nobody: no branch, no tag, no pin."""
    metadata = table.metadata
    if is_clone(table):
        return []
    seen = list(dict.fromkeys(entry.snapshot_id for entry in reversed(metadata.snapshot_log)))
    kept = {ref.snapshot_id for ref in metadata.refs.values()} | set(seen[:keep_last]) | set(pinned)
    cutoff = before.timestamp() * 1000
    return sorted(
        (s.snapshot_id for s in metadata.snapshots if s.timestamp_ms < cutoff and s.snapshot_id not in kept),
    )


def expire(spark: "SparkSession", name: PhysicalName, snapshots: Collection[int]) -> None:
    """Removes snapshots, and the files that only they need. A tag that was set meanwhile makes it fail, and nothing is
    removed."""
    if not snapshots:
        return
    listed = ", ".join(str(snapshot) for snapshot in snapshots)
    # Without older_than, everything older than five days would go as well, pinned or not.
    spark.sql(
        f"call {name.catalog}.system.expire_snapshots(table => '{name.in_catalog}', "
        f"older_than => timestamp '1970-01-02 00:00:00', snapshot_ids => array({listed}), clean_expired_metadata => true)"
    ).collect()


def prune_metadata(table: "Table", pinned: Collection[str], before: datetime, keep_last: int) -> list[str]:
    """Deletes old metadata files: each commit leaves one, with the whole history in it.

    Not by the table's own `write.metadata.delete-after-commit.enabled`: that counts commits, and would delete the file
    that a view of ClickHouse names as soon as a hundred commits came after it.

    Args:
        pinned: locations that must stay, as `pins.py` finds them.

    Returns:
        What was deleted.
    """
    cutoff = before.timestamp() * 1000
    log = sorted(table.metadata.metadata_log, key=lambda entry: entry.timestamp_ms)
    kept = {local_path(location) for location in pinned} | {local_path(table.metadata_location)}
    old = [
        entry.metadata_file
        for entry in log[: len(log) - keep_last if keep_last else len(log)]
        if entry.timestamp_ms < cutoff and local_path(entry.metadata_file) not in kept
    ]
    return [location for location in old if _delete(table, location)]


def remove_orphans(
    spark: "SparkSession", name: PhysicalName, table: "Table", pinned: Collection[str], before: datetime
) -> list[str]:
    """Deletes files below the table that no snapshot knows and that are older than `before`: what killed writers left.

    Args:
        pinned: metadata files that must stay although the table has forgotten them.
        before: at least a day ago; Iceberg refuses less, as a running write's files are unknown too.

    Returns:
        What was deleted.
    """
    if is_clone(table):
        return []
    found = spark.sql(
        f"call {name.catalog}.system.remove_orphan_files(table => '{name.in_catalog}', dry_run => true, "
        f"older_than => timestamp '{before:%Y-%m-%d %H:%M:%S}')"
    ).collect()
    kept = {local_path(location) for location in pinned}
    return [row[0] for row in found if local_path(row[0]) not in kept and _delete(table, row[0])]


def bytes_of(table: "Table") -> int | None:
    """What a table takes on this machine's disk, files that it has forgotten included; None if it is elsewhere."""
    folder = Path(local_path(table.location()))
    if not folder.is_absolute():
        return None
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _delete(table: "Table", location: str) -> bool:
    """Deletes a file, and the checksum that Spark puts beside it on a local disk. False if it was gone already."""
    file = Path(local_path(location))
    if not file.is_absolute():
        table.io.delete(location)
        return True
    there = file.exists()
    file.unlink(missing_ok=True)
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    return there
