"""Upkeep of files and of Dagster's history, over a thousand synthetic runs: the disk stays bounded, the truth stays.

No service. What needs Spark and Iceberg is in tests/integration/test_maintenance.py.
"""

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry

from foundation.lock import writer_of
from foundation.settings import Settings
from intake.archive import archive_arrivals
from intake.upkeep import remove_parts, shrink_ledger
from orchestrator.assets.maintenance import maintenance_assets
from orchestrator.history import prune_history
from orchestrator.housekeeping import LOG_BYTES, prune_dbt_runs, prune_logs, prune_scratch, size_of
from spark_assets.maintenance import expirable
from spark_assets.pins import named_files
from spark_assets.rollback import last_rollback
from tests.unit.feeds import csv_bytes, put
from tests.unit.homes import dagster_home

RUNS = 1000
DAY = 86_400


def aged(path: Path, days: float) -> Path:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))
    return path


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_thousand_daily_dbt_calls_leave_the_last_week_and_the_newest_calls(settings: Settings) -> None:
    runs = settings.dbt_target / "trino" / "runs"
    for number in range(RUNS):
        (runs / f"run{number:04}").mkdir(parents=True)
        (runs / f"run{number:04}" / "manifest.json").write_bytes(b"x" * 1000)
        aged(runs / f"run{number:04}", days=number + 0.5)
    done = prune_dbt_runs(settings, days=7, keep_last=20)
    assert (done.removed, done.before, done.after) == (RUNS - 20, RUNS * 1000, 20 * 1000)
    assert sorted(run.name for run in runs.iterdir()) == [f"run{number:04}" for number in range(20)]
    assert prune_dbt_runs(settings, days=7, keep_last=3).removed == 20 - 7
    assert prune_dbt_runs(settings, days=7, keep_last=3).removed == 0


def test_the_manifests_beside_the_runs_are_never_touched(settings: Settings) -> None:
    manifest = settings.dbt_target / "trino" / "manifest.json"
    (manifest.parent / "runs").mkdir(parents=True)
    manifest.write_text("{}")
    aged(manifest, days=1000)
    prune_dbt_runs(settings, days=0, keep_last=0)
    assert manifest.exists()


def test_a_log_that_nobody_rotates_keeps_its_end_and_a_services_log_is_left_alone(settings: Settings) -> None:
    logs = settings.services_dir / "logs"
    logs.mkdir(parents=True)
    line = b"x" * 99 + b"\n"
    (logs / "demo.log").write_bytes(line * 200_000 + b"the end\n")
    (logs / "trino.log").write_bytes(line * 110_000)
    aged(logs / "trino.log", days=400)
    (logs / "gone_service.log").write_bytes(line)
    aged(logs / "gone_service.log", days=31)
    done = prune_logs(settings, days=30)
    assert (logs / "demo.log").stat().st_size <= LOG_BYTES
    assert (logs / "demo.log").read_bytes().endswith(b"\nthe end\n")
    assert (logs / "trino.log").stat().st_size == 11_000_000
    assert not (logs / "gone_service.log").exists()
    assert done.before - done.after == 200_000 * 100 + 108 - (logs / "demo.log").stat().st_size
    assert prune_logs(settings, days=30).removed == 0


def test_scratch_of_a_spark_that_is_gone_goes_after_a_day(settings: Settings) -> None:
    local = settings.home / "spark" / "local"
    for name, days in (("blockmgr-old", 2), ("blockmgr-young", 0.5)):
        (local / name).mkdir(parents=True)
        aged(local / name, days)
    assert prune_scratch(settings, days=1).removed == 1
    assert [folder.name for folder in local.iterdir()] == ["blockmgr-young"]


def test_a_killed_archivers_part_goes_and_every_archived_file_stays(settings: Settings, contract: Any) -> None:
    put(settings, csv_bytes("A"))
    (version,) = archive_arrivals(settings, contract)
    folder = settings.archive / contract.feed
    aged(version.archived(settings), days=4000)
    (folder / ".4711.part").write_bytes(b"half a file")
    assert remove_parts(settings) == [], "it may still be written"
    aged(folder / ".4711.part", days=1)
    assert remove_parts(settings) == [folder / ".4711.part"]
    assert [file.name for file in folder.iterdir()] == [version.archived(settings).name]


def test_free_pages_of_the_ledger_are_given_back_and_its_rows_stay(settings: Settings, contract: Any) -> None:
    put(settings, csv_bytes("A"))
    archive_arrivals(settings, contract)
    file = settings.home / "ledger.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("create table filler (text)")
        connection.executemany("insert into filler values (?)", [("x" * 1000,)] * 1000)
        connection.execute("drop table filler")
    size = shrink_ledger(settings)
    assert size.before is not None and size.after is not None
    assert size.after < size.before / 2
    assert archive_arrivals(settings, contract) == [], "the ledger still knows the file"


# Dagster's history ----------------------------------------------------------------------------------------------------

SALES, TOTAL = dg.AssetKey(["silver", "sales"]), dg.AssetKey(["warehouse", "total"])
FIRST = datetime(2013, 1, 1, tzinfo=UTC)


class History:
    """A thousand days of a platform, one run a day: most make their partition, every twentieth the total again.

    Dagster makes two of the first and the last two; the others are copies of the first in its own tables, as a thousand
    real ones take it two minutes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = dagster_home(folder, prints=True)
        self.run_ids = [str(uuid.UUID(int=number + 1)) for number in range(RUNS)]
        self.instance = dg.DagsterInstance.from_config(str(folder))
        self._run(18)
        self._run(19)
        between = [number for number in range(RUNS - 2) if number not in (18, 19)]
        self._copy(
            folder / "history" / "runs.db", "runs", "run_id, snapshot_id, pipeline_name, status, run_body", between
        )
        columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
        self._copy(folder / "history" / "runs" / "index.db", "event_logs", columns, between)
        for number in between:
            shutil.copy(self.shard(self.run_ids[18]), self.shard(self.run_ids[number]))
        self._run(RUNS - 2)
        self._run(RUNS - 1)
        with closing(sqlite3.connect(folder / "history" / "runs.db")) as connection, connection:
            moments = [(stamp, stamp, run_id) for run_id in self.run_ids if (stamp := self._stamp(run_id))]
            connection.executemany(
                "update runs set create_timestamp = ?, update_timestamp = ? where run_id = ?", moments
            )
        for run_id in self.run_ids:
            printed = folder / "storage" / run_id / "compute_logs"
            printed.mkdir(parents=True)
            (printed / "step.err").write_bytes(b"x" * 1000)

    def shard(self, run_id: str) -> Path:
        return self.folder / "history" / "runs" / f"{run_id}.db"

    def partitions(self) -> set[str]:
        return self.instance.get_materialized_partitions(SALES)

    def _age(self, run_id: str) -> float:
        return RUNS - uuid.UUID(run_id).int + 0.5

    def _stamp(self, run_id: str) -> str:
        return (datetime.now(UTC) - timedelta(days=self._age(run_id))).replace(tzinfo=None).isoformat(sep=" ")

    def _run(self, number: int) -> None:
        run_id = self.run_ids[number]
        self.instance.add_run(dg.DagsterRun("daily", run_id=run_id, status=dg.DagsterRunStatus.SUCCESS))
        made = (
            dg.AssetMaterialization(TOTAL)
            if is_total(number)
            else dg.AssetMaterialization(SALES, partition=day(number))
        )
        self.instance.event_log_storage.store_event(
            EventLogEntry(
                error_info=None,
                level=20,
                user_message="",
                run_id=run_id,
                timestamp=time.time() - self._age(run_id) * DAY,
                dagster_event=DagsterEvent(
                    "ASSET_MATERIALIZATION", "daily", event_specific_data=StepMaterializationData(made)
                ),
            )
        )

    def _copy(self, database: Path, name: str, columns: str, numbers: list[int]) -> None:
        """Writes the rows of runs 18 and 19 again for other runs, with their ids, days and times."""
        with closing(sqlite3.connect(database)) as connection, connection:
            models = {
                total: connection.execute(
                    f"select {columns} from {name} where run_id = ?", (self.run_ids[19 if total else 18],)
                ).fetchone()
                for total in (True, False)
            }
            stamps = ", ".join("?" for _ in columns.split(", "))
            for number in numbers:
                model = list(models[is_total(number)])
                for place, column in enumerate(columns.split(", ")):
                    if isinstance(model[place], str):
                        model[place] = model[place].replace(
                            self.run_ids[19 if is_total(number) else 18], self.run_ids[number]
                        )
                        model[place] = model[place].replace(day(18), day(number))
                    if column == "timestamp":
                        model[place] = self._stamp(self.run_ids[number])
                connection.execute(f"insert into {name} ({columns}) values ({stamps})", model)


def day(number: int) -> str:
    return str((FIRST + timedelta(days=number)).date())


def is_total(number: int) -> bool:
    return number % 20 == 19


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        made = History(tmp_path_factory.mktemp("dagster") / "home")
        with made.instance:
            yield made


def test_a_thousand_daily_runs_shrink_to_the_last_months_logs_and_no_partition_is_forgotten(history: History) -> None:
    made = {day(number) for number in range(RUNS) if not is_total(number)}
    assert history.instance.get_runs_count() == RUNS
    assert history.partitions() == made
    last_total = history.instance.get_latest_materialization_event(TOTAL)
    assert last_total is not None and last_total.run_id == history.run_ids[-1]

    done = prune_history(history.instance, run_days=90, log_days=30, folder=history.folder)
    assert history.partitions() == made, "or automation would make them all again"
    assert history.instance.get_latest_materialization_event(TOTAL) == last_total
    # The run of day n is RUNS - n - 0.5 days old.
    superseded = [number for number in range(RUNS - 90) if is_total(number)]
    assert done.deleted == len(superseded) == 45
    assert history.instance.get_runs_count() == RUNS - len(superseded)
    assert [run_id for run_id in history.run_ids if history.shard(run_id).exists()] == history.run_ids[-30:]
    assert sorted(folder.name for folder in (history.folder / "storage").iterdir()) == history.run_ids[-30:]
    assert done.before is not None and done.after is not None
    assert done.after < done.before / 10

    again = prune_history(history.instance, run_days=90, log_days=30, folder=history.folder)
    assert (again.deleted, again.thinned) == (0, 0)


def test_a_run_that_is_under_way_is_never_touched_however_old(history: History) -> None:
    history.instance.add_run(
        dg.DagsterRun("daily", run_id=(stuck := str(uuid.uuid4())), status=dg.DagsterRunStatus.STARTED)
    )
    shutil.copy(history.shard(history.run_ids[-1]), history.shard(stuck))
    prune_history(history.instance, run_days=-1, log_days=-1)
    assert history.instance.has_run(stuck)
    assert history.shard(stuck).exists()
    assert history.instance.has_run(history.run_ids[0]), "it made a partition that nobody made since"


# What may go, from a table's metadata -----------------------------------------------------------------------------------


def table(
    log: list[int], parents: dict[int, int | None], refs: dict[str, int], operations: dict[int, str] | None = None
) -> Any:
    """A table's metadata as PyIceberg shows it; a snapshot's number is the day it was made."""
    snapshots = {
        number: SimpleNamespace(
            snapshot_id=number,
            parent_snapshot_id=parent,
            timestamp_ms=number * DAY * 1000,
            summary=SimpleNamespace(
                operation=SimpleNamespace(value=(operations or {}).get(number, "overwrite")), additional_properties={}
            ),
        )
        for number, parent in parents.items()
    }
    return SimpleNamespace(
        metadata=SimpleNamespace(
            snapshots=list(snapshots.values()),
            snapshot_log=[SimpleNamespace(snapshot_id=number, timestamp_ms=number) for number in log],
            refs={name: SimpleNamespace(snapshot_id=number) for name, number in refs.items()},
            current_snapshot_id=refs["main"],
        ),
        snapshot_by_id=snapshots.get,
        properties={},
    )


LINE: dict[int, int | None] = {1: None, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}


def test_expiry_leaves_a_branchs_clone_alone() -> None:
    made = table([1, 2, 3, 4, 5, 6], LINE, {"main": 6})
    before = datetime.fromtimestamp(6 * DAY, UTC)
    assert expirable(made, set(), before, keep_last=1)
    made.properties["gc.enabled"] = "false"
    assert expirable(made, set(), before, keep_last=1) == []


def test_expiry_spares_what_is_tagged_pinned_young_or_among_the_last() -> None:
    made = table([1, 2, 3, 4, 5, 6], LINE, {"main": 6, "model_v1": 1})
    before = datetime.fromtimestamp(6 * DAY, UTC)
    assert expirable(made, pinned=[3], before=before, keep_last=2) == [2, 4]
    assert expirable(made, pinned=[], before=datetime.fromtimestamp(0, UTC), keep_last=0) == []


def test_after_a_rollback_expiry_spares_the_state_that_readers_see_and_the_one_to_go_forward_to() -> None:
    made = table([1, 2, 3, 4, 5, 6, 2], LINE, {"main": 2})
    before = datetime.fromtimestamp(100 * DAY, UTC)
    assert expirable(made, pinned=[], before=before, keep_last=2) == [1, 3, 4, 5]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([1, 2, 3], None),
        ([1, 2, 3, 2], (3, 2)),
        ([1, 2, 3, 2, 3], (2, 3)),
        ([1, 2, 3, 1], (3, 1)),
        ([1], None),
    ],
)
def test_a_rollback_is_told_from_a_write_by_the_tables_log(log: list[int], expected: tuple[int, int] | None) -> None:
    assert last_rollback(table(log, LINE, {"main": log[-1]})) == expected


def test_a_rollback_is_still_seen_after_compaction_and_no_more_after_a_write() -> None:
    parents = {**LINE, 7: 2}
    assert last_rollback(table([1, 2, 3, 2, 7], parents, {"main": 7}, {7: "replace"})) == (3, 2)
    assert last_rollback(table([1, 2, 3, 2, 7], parents, {"main": 7})) is None


def test_a_views_metadata_file_is_found_in_its_statement_on_disk_and_on_s3() -> None:
    on_disk = (
        "SELECT * FROM icebergLocal('/a/b', SETTINGS iceberg_metadata_file_path = 'metadata/00011-x.metadata.json')"
    )
    on_s3 = "SELECT * FROM icebergS3('s3://b/t/', SETTINGS iceberg_metadata_file_path='metadata/2.metadata.json')"
    assert named_files(on_disk) == ["/a/b/metadata/00011-x.metadata.json"]
    assert named_files(on_s3) == ["s3://b/t/metadata/2.metadata.json"]
    assert named_files("SELECT 1") == []


def test_quarantine_shares_silvers_lock_and_gold_dbts() -> None:
    names = {
        layer: writer_of(layer, "t") for layer in ("bronze", "silver", "quarantine", "gold", "models", "predictions")
    }
    assert names == {
        "bronze": "bronze.t",
        "silver": "silver.t",
        "quarantine": "silver.t",
        "gold": "dbt.trino",
        "models": "models.t",
        "predictions": "predictions.t",
    }


def test_maintenance_runs_daily_by_itself_and_depends_on_nothing(settings: Settings) -> None:
    definitions = dg.Definitions(assets=maintenance_assets(settings, {}))
    graph = definitions.resolve_asset_graph()
    keys = graph.materializable_asset_keys
    assert {key.to_user_string() for key in keys} == {
        f"maintenance/{name}"
        for name in ("compaction", "snapshots", "orphan_files", "archive", "dbt_artifacts", "logs", "dagster_history")
    }
    assert all(graph.get(key).automation_condition is not None and not graph.get(key).parent_keys for key in keys)


def test_size_counts_every_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"12")
    (tmp_path / "a" / "b" / ".two").write_bytes(b"345")
    assert size_of(tmp_path / "a") == 5
