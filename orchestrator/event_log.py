"""Dagster's event log on SQLite, which writes a range's events at once and opens a run's file quickly.

Belongs here: storing many events in one transaction, making a run's file. Does not belong here: which events there are. A
home's dagster.yaml names this class; on Postgres, dagster-postgres does the same.

Dagster hands over the events of a range together if DAGSTER_EVENT_BATCH_SIZE is set, but its SQLite log then stores them one
by one, each in two databases, with a connection, a commit and a wait for the disk of its own: 13 ms an event on a quiet
machine. The planned and the done materializations of five models and a year, 3,650 events, took longer than the models.

Each run has a file of its own. For each that a process opens, Dagster's log loads all its migrations, 90 Python files, to see
that the file has a revision, and three times to make a new one: 0.2 s of CPU a run. Here the file says so itself.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from dagster import DagsterEventType, EventLogEntry
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData, serialize_value
from sqlalchemy import Engine

ASSET, CHECK_PLANNED, CHECK = "asset", "planned check", "check"


class BatchedSqliteEventLog(SqliteEventLogStorage):
    """SqliteEventLogStorage with `store_event_batch`; its files are the same, so that either reads what the other wrote."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """Makes the tables of a shard, if they are not there: a run's are those of the index over all runs, which Dagster
        made or migrated, so that both have one revision."""
        file, index = Path(engine.url.database or ""), Path(self.path_for_shard(INDEX_SHARD_NAME))
        if _revision(file):
            return
        if not file.exists() and file != index and _revision(index):
            # Not every file system has hard links.
            with suppress(OSError):
                _copy_tables(index, file)
                return
        super()._initdb(engine, for_index_shard)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores the events of one run as `store_event` would one after the other, in one transaction a database: the run's
        own, and the index over all runs. The planned events of a range hold both kinds."""
        for kind, some in groupby(events, key=_kind):
            if kind is None:
                super().store_event_batch(list(some))
            else:
                self._store_at_once(list(some), kind)

    def _store_at_once(self, events: Sequence[EventLogEntry], kind: str) -> None:
        statements = [self.prepare_insert_event(event) for event in events]
        with self.run_connection(events[0].run_id) as connection:
            for statement in statements:
                connection.execute(statement)
        with self.index_transaction() as connection:
            results = [connection.execute(statement) for statement in statements]
            ids = [key[0] for result in results if (key := result.inserted_primary_key)]
            numbered = list(zip(events, ids, strict=True))
            if kind == CHECK:
                for event, number in numbered:
                    self._store_evaluation(connection, event, number)
                return
            if kind == CHECK_PLANNED:
                # As Dagster does, but that the event is made into text once, and not for each of its days.
                rows = [row for event, number in numbered for row in self._planned_check_rows(event, number)]
                connection.execute(AssetCheckExecutionsTable.insert(), rows)
                return
            self._store_asset_event_tags(connection, events, ids)
            # What is known of an asset is its last event's.
            newest = {event.get_dagster_event().asset_key: (event, number) for event, number in numbered}
            for event, number in newest.values():
                self._store_asset_event(connection, event, number)

    def _store_evaluation(self, connection: Any, event: EventLogEntry, event_id: int) -> None:
        """Into the row that was planned for it, which the run made for each day, or into one of its own."""
        found = event.get_dagster_event().asset_check_evaluation_data
        table, target = AssetCheckExecutionsTable.c, found.target_materialization_data
        row = {
            "asset_key": found.asset_key.to_string(),
            "check_name": found.check_name,
            "partition": found.partition,
            "run_id": event.run_id,
        }
        status = AssetCheckExecutionRecordStatus.SUCCEEDED if found.passed else AssetCheckExecutionRecordStatus.FAILED
        result = {
            "execution_status": status.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
            "materialization_event_storage_id": target.storage_id if target else None,
        }
        planned = [table[name].is_(None) if value is None else table[name] == value for name, value in row.items()]
        if not connection.execute(AssetCheckExecutionsTable.update().where(*planned).values(result)).rowcount:
            connection.execute(AssetCheckExecutionsTable.insert(), {**row, **result})

    def _planned_check_rows(self, event: EventLogEntry, event_id: int) -> list[dict[str, Any]]:
        planned = event.get_dagster_event().asset_check_planned_data
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        days = planned.partitions_subset.get_partition_keys() if planned.partitions_subset else [None]
        return [{**row, "partition": day} for day in days]


def _kind(event: EventLogEntry) -> str | None:
    """What is stored alike, or None for what is stored one by one."""
    if event.dagster_event_type in ASSET_EVENTS:
        return ASSET
    if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
        return CHECK_PLANNED
    if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
        return CHECK
    return None


def _revision(file: Path) -> str | None:
    """The revision of a shard's tables; None if it has none yet."""
    if not file.exists():
        return None
    with closing(_connected(file)) as connection:
        try:
            found = connection.execute("select version_num from alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return found[0] if found else None


def _copy_tables(source: Path, target: Path) -> None:
    """Makes a shard with the tables, without rows, and the revision of another. It appears as a whole: of two processes
    that begin a run's file, one makes it."""
    with closing(_connected(source)) as connection:
        tables = "select sql from sqlite_master where sql is not null and name not like 'sqlite%' order by rowid"
        made = [row[0] for row in connection.execute(tables)]
        revision = connection.execute("select version_num from alembic_version").fetchone()
    with TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        with closing(_connected(fresh)) as connection:
            connection.execute("pragma journal_mode=wal")
            connection.execute("begin")
            for statement in made:
                connection.execute(statement)
            connection.execute("insert into alembic_version values (?)", revision)
            connection.execute("commit")
        with suppress(FileExistsError):
            target.hardlink_to(fresh)


def _connected(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=SQLITE_BUSY_TIMEOUT_SECONDS, isolation_level=None)
