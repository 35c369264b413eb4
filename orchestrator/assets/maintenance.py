"""Upkeep as assets: what keeps a home's disk from growing for ever, once a day, and seen in the graph like everything else.

Belongs here: when it runs, with which retentions, and what a run says it did. Does not belong here: what may go
(spark_assets/maintenance, intake/upkeep, housekeeping, history).

Ages are by the real clock: snapshots and files carry real times, also in the demo's 2013.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from foundation import clock
from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lake import iceberg_tables, load_table
from foundation.lock import writer_lock, writer_of
from foundation.settings import Settings
from orchestrator.history import prune_history
from orchestrator.housekeeping import Removal, prune_dbt_runs, prune_logs, prune_scratch, total
from orchestrator.reporting import failure

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyspark.sql import SparkSession

GROUP = "maintenance"
OWNER = "team:platform"
# At night in New York, where the default domain's day is over, and before its files are due.
DAILY = dg.AutomationCondition.on_cron("30 7 * * *", cron_timezone="UTC")
# A table that is written for longer than this is left for tomorrow.
WAIT_SECONDS = 300


class Snapshots(dg.Config):
    """How long the past of a table can be read, and gone back to."""

    days: float = 7
    # Also of a table that was last written long ago.
    keep_last: int = 10
    # By the platform's clock, as the days of predictions are.
    prediction_days: int = 90


class Orphans(dg.Config):
    """A file that no snapshot knows may belong to a run that is still writing it."""

    days: float = 3


class Artifacts(dg.Config):
    """dbt's artifacts, 1 to 2 MB a call."""

    days: float = 7
    keep_last: int = 20


class Logs(dg.Config):
    days: float = 30


class History(dg.Config):
    """Runs that are the newest of no partition, and the logs of all others."""

    run_days: float = 90
    log_days: float = 30


OneTable = Callable[["SparkSession", "Table", str, str], Mapping[str, int]]


def maintenance_assets(settings: Settings, contracts: Mapping[str, Contract]) -> list[dg.AssetsDefinition]:
    """The assets of group `maintenance`, daily and unpartitioned; none depends on another, so that one that fails does not
    hold up the rest.

    Args:
        contracts: unused so far: tables are found in the catalog, so that those of a dropped feed are kept up as well.
    """

    def upkeep(name: str, description: str, kinds: set[str], pool: str | None = None) -> Callable[..., Any]:
        return dg.asset(
            key=dg.AssetKey([GROUP, name]),
            group_name=GROUP,
            owners=[OWNER],
            kinds=kinds,
            description=description,
            automation_condition=DAILY,
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=timedelta(hours=54), warn_window=timedelta(hours=30)
            ),
            # Said although there are no partitions: the command line refuses a range run with an asset that is silent.
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool=pool,
        )

    lake = {"spark", "iceberg"}

    @upkeep("compaction", "Small files of a partition become one; deleted rows are applied.", lake, pool="spark")
    def compaction(context: dg.AssetExecutionContext) -> None:
        from spark_assets.maintenance import compact

        def one(spark: "SparkSession", table: "Table", layer: str, name: str) -> Mapping[str, int]:
            done = compact(spark, settings.table(layer, name))
            return {
                "files_replaced": done.rewritten,
                "files_written": done.added,
                "delete_files_removed": done.deletes_removed,
            }

        _each_table(settings, context, one)

    @upkeep("snapshots", "Old snapshots and metadata files go, but for what is tagged or named.", lake, pool="spark")
    def snapshots(context: dg.AssetExecutionContext, config: Snapshots) -> None:
        from ml.pins import named_snapshots
        from spark_assets.clone import cloned_snapshots
        from spark_assets.maintenance import expirable, expire, prune_metadata, settle_properties
        from spark_assets.pins import pins_of, view_files

        before = datetime.now(UTC) - timedelta(days=config.days)
        views = view_files(settings)
        cloned = cloned_snapshots(settings)
        named = named_snapshots(settings, clock.now(settings).date() - timedelta(days=config.prediction_days))

        def one(spark: "SparkSession", table: "Table", layer: str, name: str) -> Mapping[str, int]:
            physical = settings.table(layer, name)
            pins = pins_of(settings, table, views)
            kept = pins.snapshots | named.get(str(physical), set()) | cloned.get(str(physical), set())
            gone = expirable(table, kept, before, config.keep_last)
            settle_properties(spark, physical, table)
            expire(spark, physical, gone)
            files = prune_metadata(load_table(settings, layer, name), pins.metadata_files, before, config.keep_last)
            return {"snapshots_removed": len(gone), "metadata_files_removed": len(files)}

        _each_table(settings, context, one)

    @upkeep("orphan_files", "Files that no snapshot knows: what killed writers left.", lake, pool="spark")
    def orphan_files(context: dg.AssetExecutionContext, config: Orphans) -> None:
        from spark_assets.maintenance import remove_orphans
        from spark_assets.pins import pins_of, view_files

        before = datetime.now(UTC) - timedelta(days=config.days)
        views = view_files(settings)

        def one(spark: "SparkSession", table: "Table", layer: str, name: str) -> Mapping[str, int]:
            pins = pins_of(settings, table, views)
            return {
                "files_removed": len(
                    remove_orphans(spark, settings.table(layer, name), table, pins.metadata_files, before)
                )
            }

        _each_table(settings, context, one)

    @upkeep("archive", "What killed archivers left, and the ledger's free pages. Archived files stay.", {"file"})
    def archive(context: dg.AssetExecutionContext) -> None:
        from intake.upkeep import remove_parts, shrink_ledger

        parts = remove_parts(settings)
        ledger = shrink_ledger(settings)
        context.add_asset_metadata(
            {
                "files_removed": len(parts),
                "bytes_before": ledger.before or 0,
                "bytes_after": ledger.after or 0,
            }
        )

    @upkeep("dbt_artifacts", "The artifacts of old dbt calls.", {"dbt"})
    def dbt_artifacts(context: dg.AssetExecutionContext, config: Artifacts) -> None:
        context.add_asset_metadata(_said(prune_dbt_runs(settings, config.days, config.keep_last)))

    @upkeep("logs", "Logs that nobody rotates, and the scratch of engines that were killed.", {"file"})
    def logs(context: dg.AssetExecutionContext, config: Logs) -> None:
        done = [prune_logs(settings, config.days), prune_scratch(settings, days=1)]
        context.add_asset_metadata(_said(total(done)))

    @upkeep("dagster_history", "Old runs that say nothing of any partition; old logs of the others.", {"dagster"})
    def dagster_history(context: dg.AssetExecutionContext, config: History) -> None:
        done = prune_history(context.instance, config.run_days, config.log_days, settings.dagster_home)
        context.add_asset_metadata(
            {
                "runs_deleted": done.deleted,
                "runs_without_logs_now": done.thinned,
                "bytes_before": done.before or 0,
                "bytes_after": done.after or 0,
            }
        )

    return [compaction, snapshots, orphan_files, archive, dbt_artifacts, logs, dagster_history]


def _each_table(settings: Settings, context: dg.AssetExecutionContext, work: OneTable) -> None:
    """Does the work on every table of the lake as its one writer, and records what it did.

    Raises:
        dagster.Failure: a table could not be kept up; the others were.
    """
    from spark_assets.maintenance import bytes_of
    from spark_assets.session import connect

    tables = iceberg_tables(settings)
    sums: dict[str, int] = {"tables": len(tables), "bytes_before": 0, "bytes_after": 0}
    errors: list[AssayError] = []
    for layer, name in tables:
        try:
            with writer_lock(settings, writer_of(layer, name), WAIT_SECONDS), connect(settings) as spark:
                before = bytes_of(table := load_table(settings, layer, name)) or 0
                did = work(spark, table, layer, name)
                after = bytes_of(table) or 0
        except AssayError as error:
            errors.append(AssayError(f"{layer}/{name}: {error.what}", error.next_action))
            continue
        for what, number in {**did, "bytes_before": before, "bytes_after": after}.items():
            sums[what] = sums.get(what, 0) + number
        context.log.info(f"{layer}/{name}: {', '.join(f'{w} {n}' for w, n in did.items())}; {before} to {after} bytes")
    if errors:
        raise _failed(errors, sums)
    context.add_asset_metadata(sums)


def _failed(errors: Sequence[AssayError], sums: Mapping[str, int]) -> dg.Failure:
    failed = failure(errors)
    return dg.Failure(failed.description, metadata={**sums}, allow_retries=True)


def _said(done: Removal) -> dict[str, int]:
    return {"removed": done.removed, "bytes_before": done.before, "bytes_after": done.after}
