"""Feast's feature views as assets.

Belongs here: keys and dependencies. Does not belong here: what a feature is (feature_repo).
"""

from datetime import timedelta

import dagster as dg

from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.partitions import run_days
from orchestrator.reporting import report_parts

KEY = dg.AssetKey(["features", "carrier_history"])


def feature_assets(settings: Settings, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One asset a feature view."""

    @dg.asset(
        key=KEY,
        deps=[dg.AssetKey(["gold", "carrier_history"])],
        group_name="features",
        kinds={"feast"},
        owners=["team:machine-learning"],
        description="How late a carrier's flights of the last 28 days arrived, registered in Feast and online.",
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        automation_condition=any_partition(),
        pool="feast",
    )
    def carrier_history(context: dg.AssetExecutionContext) -> None:
        from feature_repo.store import apply, materialize

        days = run_days(context)
        apply(settings)
        done = materialize(settings, days[0], days[-1])
        online = {"keys_online": done["keys_written"], "snapshot_id": str(done["snapshot_id"])}
        rows = done["rows_by_day"]
        report_parts(
            context,
            {KEY: {day: {"dagster/partition_row_count": rows.get(day, 0), **online} for day in days}},
            {},
        )

    return [carrier_history]
