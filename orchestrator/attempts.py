"""What Dagster's event log says of all partitions of many assets at once.

Belongs here: a fixed number of queries, whatever the number of partitions, that SQLite and Postgres answer alike. Does not
belong here: what follows from the answers (status.py).

Dagster's own methods ask for one asset at a time and give no moments; to fetch the events themselves takes 0.3 ms each,
7 s for a year of 60 assets. So these ask its two tables, as its own storages do. And each tick of automation asks: what did
not change since is not read again.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import dagster as dg
import sqlalchemy as db
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._serdes import deserialize_value

from foundation.errors import AssayError

# As many as one query of SQLite takes.
BATCH = 500
UNSUCCESSFUL = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
EVENTS, CHECKS = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
EVALUATED = ("SUCCEEDED", "FAILED")
# The partition of an asset (None: it has none).
Part = tuple[dg.AssetKey, str | None]


class Event(NamedTuple):
    """A materialization or the plan of one, by its number in the log. `run_id` is None if a command reported it without a
    run."""

    id: int
    run_id: str | None
    at: datetime


@dataclass(frozen=True)
class FailedCheck:
    """A blocking check whose newest evaluation of a partition failed, as an error."""

    name: str
    at: datetime
    run_id: str | None


@dataclass
class Records:
    """By asset and partition: the newest materialization; the run of the newest attempt if it made nothing since and did not
    succeed (yet); the failed blocking checks."""

    made: dict[dg.AssetKey, Mapping[str | None, Event]] = field(default_factory=dict)
    attempts: dict[dg.AssetKey, dict[str | None, dg.RunRecord]] = field(default_factory=dict)
    failed_checks: dict[dg.AssetKey, dict[str | None, list[FailedCheck]]] = field(default_factory=dict)


def read_records(instance: dg.DagsterInstance, graph: BaseAssetGraph, keys: Collection[dg.AssetKey]) -> Records:
    """The records of some assets.

    Raises:
        AssayError: Dagster's event log is no database.
    """
    there = [key for key in keys if graph.has(key)]
    with storage_of(instance).index_connection() as connection:
        made = newest(connection, graph, there, dg.DagsterEventType.ASSET_MATERIALIZATION)
        planned = newest(connection, graph, there, PLANNED)
        failed_checks = _failed_checks(connection, graph, there)
    # An attempt of which something came has a materialization behind it: most have, so that few runs are read.
    tried = {
        key: {
            part: one.run_id
            for part, one in parts.items()
            if one.run_id and (part not in made[key] or made[key][part].id < one.id)
        }
        for key, parts in planned.items()
    }
    runs = _unsuccessful_runs(instance, {run_id for parts in tried.values() for run_id in parts.values()})
    records = Records(made=made, failed_checks=failed_checks)
    for key, parts in tried.items():
        records.attempts[key] = {part: runs[run_id] for part, run_id in parts.items() if run_id in runs}
    return records


def newest_evaluations(instance: dg.DagsterInstance, part: Part) -> dict[str, dg.AssetCheckEvaluation]:
    """Each check's newest evaluation of a partition, by name; where it never judged that partition, its newest one of the
    whole table."""
    key, partition = part
    where = db.and_(
        CHECKS.asset_key == key.to_string(),
        CHECKS.execution_status.in_(EVALUATED),
        db.or_(CHECKS.partition.is_(None), CHECKS.partition == partition),
    )
    with storage_of(instance).index_connection() as connection:
        newest = db.select(db.func.max(CHECKS.id)).where(where).group_by(CHECKS.check_name, CHECKS.partition)
        rows = connection.execute(db.select(CHECKS.evaluation_event).where(CHECKS.id.in_(newest))).fetchall()
    found = [_evaluation(row.evaluation_event) for row in rows]
    of_table = {one.check_name: one for one in found if one.partition is None}
    return of_table | {one.check_name: one for one in found if one.partition is not None}


def storage_of(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """The event log of an instance, as a database.

    Raises:
        AssayError: it is none.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise AssayError(
            f"Dagster's event log is a {type(storage).__name__}, of which partitions cannot be asked in bulk",
            "use its SQLite or Postgres storage in the home's dagster.yaml",
        )
    return storage


# What was read of an asset's events of a kind, with the mark that its log had then. 300 assets of 400 days are 120,000 rows, 2 s
# of a tick; in memory they are 35 MB.
_Mark = tuple[int, int, datetime]
_READ: dict[tuple[str, str], tuple[_Mark, Mapping[str | None, Event]]] = {}


def newest(
    connection: db.Connection, graph: BaseAssetGraph, keys: Iterable[dg.AssetKey], kind: dg.DagsterEventType
) -> dict[dg.AssetKey, Mapping[str | None, Event]]:
    """The newest event of a kind, by asset and partition, oldest first. Read are only the assets whose events changed since
    this process last read them."""
    names = {key.to_string(): key for key in keys}
    marks = _marks(connection, names, kind)
    changed = [
        name for name, mark in marks.items() if (name, kind.value) not in _READ or _READ[name, kind.value][0] != mark
    ]
    newest = (
        db.select(EVENTS.asset_key, EVENTS.partition, db.func.max(EVENTS.id).label("id"))
        .where(EVENTS.asset_key.in_(changed), EVENTS.dagster_event_type == kind.value)
        .group_by(EVENTS.asset_key, EVENTS.partition)
        .subquery()
    )
    query = db.select(newest, EVENTS.run_id, EVENTS.timestamp).join(SqlEventLogStorageTable, EVENTS.id == newest.c.id)
    found: dict[str, dict[str | None, Event]] = {name: {} for name in changed}
    for name, part, number, run_id, at in connection.execute(query.order_by(newest.c.id)) if changed else ():
        found[name][part] = Event(number, run_id or None, _utc(at))
    for name, parts in found.items():
        _READ[name, kind.value] = marks[name], parts
    return {
        key: _parts_of(graph, key, _READ[name, kind.value][1] if name in marks else {}) for name, key in names.items()
    }


def _marks(connection: db.Connection, names: Collection[str], kind: dg.DagsterEventType) -> dict[str, _Mark]:
    """How many events of a kind each asset has, and the number and moment of the newest: another if any came or were deleted.
    SQLite may give the number of one that was deleted again, but not in the same moment."""
    totals = (
        db.select(EVENTS.asset_key, db.func.count().label("events"), db.func.max(EVENTS.id).label("id"))
        .where(EVENTS.asset_key.in_(names), EVENTS.dagster_event_type == kind.value)
        .group_by(EVENTS.asset_key)
        .subquery()
    )
    query = db.select(totals, EVENTS.timestamp).join(SqlEventLogStorageTable, EVENTS.id == totals.c.id)
    return {name: (events, number, at) for name, events, number, at in connection.execute(query)}


def _parts_of(
    graph: BaseAssetGraph, key: dg.AssetKey, events: Mapping[str | None, Event]
) -> Mapping[str | None, Event]:
    """The events, oldest first, as the asset is partitioned now."""
    if graph.get(key).partitions_def is None:
        # A run of a range plans an asset without partitions once for each of its days.
        return {None: list(events.values())[-1]} if events else {}
    return {part: one for part, one in events.items() if part is not None} if None in events else events


def _unsuccessful_runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> dict[str, dg.RunRecord]:
    """Of some runs those that failed, were cancelled or have not ended."""
    ids = sorted(run_ids)
    records = [
        record
        for start in range(0, len(ids), BATCH)
        for record in instance.get_run_records(dg.RunsFilter(run_ids=ids[start : start + BATCH]))
    ]
    return {
        record.dagster_run.run_id: record
        for record in records
        if record.dagster_run.status in UNSUCCESSFUL or not record.dagster_run.is_finished
    }


def _failed_checks(
    connection: db.Connection, graph: BaseAssetGraph, keys: Iterable[dg.AssetKey]
) -> dict[dg.AssetKey, dict[str | None, list[FailedCheck]]]:
    names = {key.to_string(): key for key in keys}
    # Only checks that ever failed: most never did, and have a row for each day.
    suspects = (
        db.select(CHECKS.asset_key, CHECKS.check_name)
        .where(CHECKS.execution_status == "FAILED", CHECKS.asset_key.in_(names))
        .distinct()
    )
    blocking = [
        (row.asset_key, row.check_name)
        for row in connection.execute(suspects)
        if _blocks(graph, dg.AssetCheckKey(names[row.asset_key], row.check_name))
    ]
    found: dict[dg.AssetKey, dict[str | None, list[FailedCheck]]] = {}
    for asset_key, check_name in blocking:
        newest = (
            db.select(db.func.max(CHECKS.id))
            .where(CHECKS.asset_key == asset_key, CHECKS.check_name == check_name)
            .where(CHECKS.execution_status.in_(EVALUATED))
            .group_by(CHECKS.partition)
        )
        rows = connection.execute(
            db.select(CHECKS.partition, CHECKS.run_id, CHECKS.evaluation_event, CHECKS.evaluation_event_timestamp)
            .where(CHECKS.id.in_(newest), CHECKS.execution_status == "FAILED")
            .order_by(CHECKS.id)
        )
        key = names[asset_key]
        for row in rows:
            # An evaluation without a partition is of the table, and says nothing of one day.
            of_part = row.partition is not None or graph.get(key).partitions_def is None
            if of_part and _evaluation(row.evaluation_event).severity == dg.AssetCheckSeverity.ERROR:
                one = FailedCheck(check_name, _utc(row.evaluation_event_timestamp), row.run_id or None)
                found.setdefault(key, {}).setdefault(row.partition, []).append(one)
    return found


def _blocks(graph: BaseAssetGraph, key: dg.AssetCheckKey) -> bool:
    """Whether the code still has such a check, and it blocks."""
    return key in graph.asset_check_keys and graph.get(key).blocking


def _evaluation(text: str) -> dg.AssetCheckEvaluation:
    event = deserialize_value(text, dg.EventLogEntry).get_dagster_event()
    return event.asset_check_evaluation_data


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def moment_of(seconds: float | None) -> datetime | None:
    """A moment that Dagster keeps as seconds since 1970."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
