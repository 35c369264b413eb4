"""`./assay rollback`: an Iceberg table as it was at one of its snapshots, and back again.

Belongs here: what a person asks for and is told, and the events by which Dagster learns of it. Does not belong here: how
snapshots are compared and moved (spark_assets/rollback.py).

The table moves first, then the events are written. A command that was killed in between is typed again: which day still
lacks its event is seen from the table's log and the newest events, so it does not matter when it was killed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console

from foundation.errors import AssayError
from foundation.lake import LAYERS, iceberg_tables, load_table
from foundation.lock import writer_lock, writer_of
from foundation.settings import Settings
from spark_assets.rollback import State, changed_days, last_rollback, set_current, states
from spark_assets.session import connect

if TYPE_CHECKING:
    import dagster as dg
    from pyiceberg.table import Table

# A person waits; a backfill of a year holds the lock for some minutes.
WAIT_SECONDS = 60


def list_states(settings: Settings, console: Console, asset: str) -> None:
    """The states of an asset's table, newest first.

    Raises:
        AssayError: there is no such table.
    """
    _, table = _open(settings, asset)
    lines = [("", "snapshot", "written (UTC)", "by", "rows", "partition", "run", "tags")]
    lines += [
        (
            "now" if state.current else "",
            str(state.snapshot_id),
            f"{state.committed_at:%Y-%m-%d %H:%M:%S}",
            "maintenance" if state.operation == "replace" else state.operation,
            "" if state.rows is None else f"{state.rows:,}",
            state.partition or "",
            state.run_id or "",
            ", ".join(state.tags),
        )
        for state in states(table)
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        # Not a table of rich's: that shortens a snapshot's number where the terminal is narrow, and it is to be copied.
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        console.print(text.rstrip(), markup=False, soft_wrap=True)
    console.print(f"Next: ./assay rollback {asset} --to <snapshot>", soft_wrap=True)


def roll_back(settings: Settings, console: Console, asset: str, snapshot_id: int) -> None:
    """Makes a snapshot the current one, as the table's one writer, and tells Dagster which days changed.

    Raises:
        AssayError: there is no such table, it never had that state, or another writer does not end.
    """
    layer, _ = _open(settings, asset)
    name = settings.table(layer, asset.split("/")[1])
    with (
        writer_lock(settings, writer_of(layer, name.table), WAIT_SECONDS),
        _instance(settings) as instance,
        connect(settings) as spark,
    ):
        _, table = _open(settings, asset)
        _refuse_unknown(asset, states(table), snapshot_id)
        # What a killed command left undone: also if this one goes elsewhere, as those days have changed since.
        done = last_rollback(table)
        late = 0
        if done is not None:
            late = _record(instance, settings, asset, done, changed_days(spark, name, table, *done))
        current = table.metadata.current_snapshot_id
        if current == snapshot_id or (done is not None and done[1] == snapshot_id):
            console.print(f"{asset} is at snapshot {snapshot_id} already: its rows stay as they are.", soft_wrap=True)
            if late:
                console.print(f"Recorded {_events(late)} that the command before did not live to record.")
            return
        assert current is not None
        changed = changed_days(spark, name, table, current, snapshot_id)
        set_current(spark, name, snapshot_id)
        recorded = _record(instance, settings, asset, (current, snapshot_id), changed)
    console.print(f"{asset} is at snapshot {snapshot_id} now; it was at {current}.", soft_wrap=True)
    if not recorded:
        console.print("Both have the same rows, so nothing downstream is out of date.")
        return
    days = [day for day in changed if day is not None]
    span = f" from {min(days)} to {max(days)}" if days else ""
    console.print(
        f"Recorded {_events(recorded)}{span}; what is made of them follows, unless automation is paused.",
        soft_wrap=True,
    )
    console.print(
        f"It lasts until the asset is made again. Next, to undo: ./assay rollback {asset} --to {current}",
        soft_wrap=True,
    )


def _open(settings: Settings, asset: str) -> "tuple[str, Table]":
    known = [f"{layer}/{table}" for layer, table in iceberg_tables(settings)]
    if asset not in known:
        raise AssayError(
            f"There is no table {asset} in the layers {', '.join(LAYERS)}",
            f"name one of {', '.join(known)}" if known else "materialize something first: ./assay demo",
        )
    layer, table = asset.split("/")
    return layer, load_table(settings, layer, table)


def _refuse_unknown(asset: str, known: list[State], snapshot_id: int) -> None:
    if snapshot_id not in [state.snapshot_id for state in known]:
        raise AssayError(
            f"{asset} has no snapshot {snapshot_id} that readers have seen and that still exists",
            f"run ./assay rollback {asset} for those there are",
        )


def _record(
    instance: "dg.DagsterInstance",
    settings: Settings,
    asset: str,
    move: tuple[int, int],
    changed: Mapping[date | None, int],
) -> int:
    """Writes the events that are missing, and returns how many there were."""
    import dagster as dg

    key = dg.AssetKey(asset.split("/"))
    before, after = (str(snapshot_id) for snapshot_id in move)
    missing = 0
    for day, rows in changed.items():
        partition = None if day is None else str(day)
        newest = _newest_metadata(instance, key, partition)
        if (newest.get("rolled_back_from"), newest.get("snapshot_id")) == (before, after):
            continue
        values = {"rolled_back_from": before, "snapshot_id": after, "rows": rows}
        values["dagster/row_count" if day is None else "dagster/partition_row_count"] = rows
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, metadata=values))
        missing += 1
    return missing


def _newest_metadata(instance: "dg.DagsterInstance", key: "dg.AssetKey", partition: str | None) -> dict[str, Any]:
    import dagster as dg

    chosen = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    for record in instance.fetch_materializations(chosen, limit=1).records:
        if record.asset_materialization is not None:
            return {name: value.value for name, value in record.asset_materialization.metadata.items()}
    return {}


@contextmanager
def _instance(settings: Settings) -> "Iterator[dg.DagsterInstance]":
    import dagster as dg

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
