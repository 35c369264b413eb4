"""Which states an Iceberg table had, going back to one of them, and which days that changes.

Belongs here: snapshots as a person chooses among them, moving `main`, comparing two snapshots by day. Does not belong
here: telling Dagster (orchestrator/cli/rollback.py), or deleting snapshots (maintenance).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from foundation.names import PhysicalName

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyspark.sql import SparkSession

MAIN = "main"


@dataclass(frozen=True)
class State:
    """One state that readers of a table have seen.

    Args:
        operation: what Iceberg calls the commit; `replace` is maintenance, and has the rows of the state before it.
        run_id, partition: the Dagster run and partition that wrote it; None if a plain tool did.
        rows: None if the writer did not count them.
        tags: the names that keep it from expiry.
    """

    snapshot_id: int
    committed_at: datetime
    operation: str
    run_id: str | None
    partition: str | None
    rows: int | None
    tags: tuple[str, ...]
    current: bool


def states(table: "Table") -> list[State]:
    """The states that readers of `main` have seen and that still exist, newest first.

    What was written to a branch and failed its checks there is not among them: it was never published.
    """
    metadata = table.metadata
    tags = {name: ref.snapshot_id for name, ref in metadata.refs.items() if str(ref.snapshot_ref_type) == "tag"}
    # Expiry shortens the log; what is left of its beginning are tags, and ancestors of today's state.
    seen = {entry.snapshot_id for entry in metadata.snapshot_log} | set(tags.values())
    seen |= set(_ancestors(table, metadata.current_snapshot_id))
    found: list[State] = []
    for snapshot in metadata.snapshots:
        if snapshot.snapshot_id not in seen:
            continue
        summary = dict(snapshot.summary.additional_properties) if snapshot.summary else {}
        total = summary.get("total-records")
        deleted = int(summary.get("total-position-deletes", 0)) + int(summary.get("total-equality-deletes", 0))
        found.append(
            State(
                snapshot_id=snapshot.snapshot_id,
                committed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                operation=snapshot.summary.operation.value if snapshot.summary else "",
                run_id=summary.get("dagster.run_id"),
                partition=summary.get("dagster.partition"),
                rows=None if total is None else int(total) - deleted,
                tags=tuple(sorted(name for name, target in tags.items() if target == snapshot.snapshot_id)),
                current=snapshot.snapshot_id == metadata.current_snapshot_id,
            )
        )
    return sorted(found, key=lambda state: state.committed_at, reverse=True)


def last_rollback(table: "Table") -> tuple[int, int] | None:
    """(from, to) if `main` stands where a rollback put it, maintenance aside; None if a writer has written since.

    The table's own log says it: a writer's snapshot descends from the one before it and is new to the log; a rollback's
    does not, or was there before.
    """
    log = [entry.snapshot_id for entry in table.metadata.snapshot_log]
    while len(log) > 1 and _is_maintenance(table, log[-1], log[-2]):
        log.pop()
    if len(log) < 2:
        return None
    before, after = log[-2], log[-1]
    if before == after or table.snapshot_by_id(before) is None or table.snapshot_by_id(after) is None:
        return None
    if after in log[:-1] or before not in _ancestors(table, after):
        return before, after
    return None


def set_current(spark: "SparkSession", name: PhysicalName, snapshot_id: int) -> None:
    """Makes a snapshot the table's current one: one commit of metadata, no file is read or written."""
    spark.sql(
        f"call {name.catalog}.system.set_current_snapshot(table => '{name.in_catalog}', snapshot_id => {snapshot_id})"
    ).collect()


def changed_days(
    spark: "SparkSession", name: PhysicalName, table: "Table", before: int, after: int
) -> dict[date | None, int]:
    """The days whose rows differ between two snapshots, and how many rows each has in the second.

    Only partitions whose files differ are read. Their rows are compared, not their files: compaction writes other files
    with equal rows, and a month of Gold is rewritten for one of its days. A table without days has one entry, None, if
    it differs at all.
    """
    partition = _day_partition(table)
    if partition is None:
        column, where = "cast(null as date)", "true"
    else:
        field, column, by_month = partition
        files = [
            f"select partition.`{field}` as part, file_path from {name}.files version as of {snapshot}"
            for snapshot in (before, after)
        ]
        either = [f"(({one}) except ({other}))" for one, other in (files, files[::-1])]
        parts = [row[0] for row in spark.sql(f"select distinct part from ({' union all '.join(either)})").collect()]
        where = _in_partitions(column, [part for part in parts if part is not None], by_month)
        column = f"`{column}`"
    counted = [
        # The sum of the rows' hashes: it does not depend on their order, and rows that stand there twice count twice.
        "select day, count(*) as row_count, sum(content) as content from (select "
        f"{column} as day, cast(xxhash64(*) as decimal(38, 0)) as content from {name} version as of {snapshot} where {where}"
        ") group by day"
        for snapshot in (before, after)
    ]
    differing = spark.sql(
        "select coalesce(old.day, new.day), coalesce(new.row_count, 0) "
        f"from ({counted[0]}) as old full outer join ({counted[1]}) as new on old.day <=> new.day "
        "where not (old.row_count <=> new.row_count and old.content <=> new.content) order by 1"
    ).collect()
    return {row[0]: int(row[1]) for row in differing if partition is None or row[0] is not None}


def _ancestors(table: "Table", snapshot_id: int | None) -> Iterator[int]:
    """A snapshot and those it descends from, as far back as they exist."""
    while snapshot_id is not None and (snapshot := table.snapshot_by_id(snapshot_id)) is not None:
        yield snapshot.snapshot_id
        snapshot_id = snapshot.parent_snapshot_id


def _is_maintenance(table: "Table", snapshot_id: int, before: int) -> bool:
    snapshot = table.snapshot_by_id(snapshot_id)
    return (
        snapshot is not None
        and snapshot.summary is not None
        and snapshot.summary.operation.value == "replace"
        and snapshot.parent_snapshot_id == before
    )


def _day_partition(table: "Table") -> tuple[str, str, bool] | None:
    """(partition field, its date column, whether it is the month of it), or None if no date partitions the table."""
    from pyiceberg.transforms import IdentityTransform, MonthTransform
    from pyiceberg.types import DateType

    for field in table.spec().fields:
        column = table.schema().find_field(field.source_id)
        if isinstance(column.field_type, DateType) and isinstance(field.transform, IdentityTransform | MonthTransform):
            return field.name, column.name, isinstance(field.transform, MonthTransform)
    return None


def _in_partitions(column: str, parts: Sequence[Any], by_month: bool) -> str:
    """A condition that Iceberg can prune by, for days or for months counted from January 1970."""
    ranges: list[str] = []
    for part in sorted(parts):
        if by_month:
            first, after = (date(1970 + months // 12, months % 12 + 1, 1) for months in (part, part + 1))
            ranges.append(f"(`{column}` >= date '{first}' and `{column}` < date '{after}')")
        else:
            ranges.append(f"`{column}` = date '{part}'")
    return f"({' or '.join(ranges)})" if ranges else "false"
