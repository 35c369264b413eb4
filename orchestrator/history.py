"""Dagster's history, kept as small as the truth about partitions allows.

Belongs here: which runs may be deleted, which only lose their logs. Does not belong here: ticks, which Dagster's daemon
purges by itself (`retention` in the home's dagster.yaml), and evaluations of automation, which it purges after 30 days.

`delete_run` deletes a run's materializations too, and with them that its partitions were ever made: automation would make
them all again. So a run that is the newest of any partition stays for ever. With one partition a day those are most runs:
what takes the disk is not their materializations (some 2 kB a partition) but their own log, 0.1 to 20 MB a run, which
SQLite storage keeps in a file a run. That file goes; status, tags and materializations stay, and the run's page shows an
empty log. (A webserver that showed the page before and was not restarted since says "no such table" instead.)
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from orchestrator.housekeeping import size_of

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# As many as one query of SQLite takes.
BATCH = 500


@dataclass
class Pruned:
    """Runs that were deleted, runs that lost their logs, and the bytes of Dagster's folder before and after (None if it
    is not of this machine)."""

    deleted: int = 0
    thinned: int = 0
    before: int | None = None
    after: int | None = None


def prune_history(instance: dg.DagsterInstance, run_days: float, log_days: float, folder: Path | None = None) -> Pruned:
    """Deletes finished runs older than `run_days` that are the newest of no partition; the others older than `log_days`
    lose their logs.

    Args:
        folder: Dagster's folder, to be measured.

    It may be killed and run again.
    """
    done = Pruned(before=None if folder is None else size_of(folder))
    now = datetime.now(UTC)
    old = now - timedelta(days=run_days)
    needed = needed_runs(instance, old)
    quiet = dg.RunsFilter(statuses=FINISHED, updated_before=now - timedelta(days=min(run_days, log_days)))
    for record in instance.get_run_records(quiet):
        run_id, changed = record.dagster_run.run_id, record.update_timestamp.replace(tzinfo=UTC)
        if run_id not in needed and changed < old:
            instance.delete_run(run_id)
            _remove_logs(instance, run_id)
            done.deleted += 1
        elif changed < now - timedelta(days=log_days):
            done.thinned += _remove_logs(instance, run_id)
    done.after = None if folder is None else size_of(folder)
    return done


def needed_runs(instance: dg.DagsterInstance, before: datetime) -> set[str]:
    """The runs whose materialization, or failed attempt, is the newest of a partition, of those before a moment."""
    storage = instance.event_log_storage
    needed: set[str] = set()
    for key in instance.get_asset_keys():
        newest = instance.get_latest_materialization_event(key)
        if newest is not None:
            needed.add(newest.run_id)
        ids = list(instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).values())
        for start in range(0, len(ids), BATCH):
            chosen = dg.AssetRecordsFilter(
                key, storage_ids=ids[start : start + BATCH], before_timestamp=before.timestamp()
            )
            needed.update(record.run_id for record in instance.fetch_materializations(chosen, limit=BATCH).records)
        # A partition that failed shows as failed: the run that says so stays as well.
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        needed.update(run_id for run_id, _ in attempts.values())
    return needed


def _remove_logs(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Deletes what a run's steps printed and, where each run's events are a file, that file. True if there was any."""
    removed = False
    printed = Path(instance.storage_directory()) / run_id
    removed |= printed.exists()
    instance.compute_log_manager.delete_logs(prefix=[run_id, "compute_logs"])
    if printed.exists() and not any(printed.iterdir()):
        printed.rmdir()
    shard = getattr(instance.event_log_storage, "path_for_shard", None)
    if shard is not None:
        for suffix in ("", "-wal", "-shm"):
            file = Path(f"{shard(run_id)}{suffix}")
            removed |= file.exists()
            file.unlink(missing_ok=True)
        # Dagster believes for a process's life that a file which it opened has its tables.
        getattr(instance.event_log_storage, "_initialized_dbs", set()).discard(run_id)
    return removed
