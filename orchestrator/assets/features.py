"""Feast's feature views as assets.

Belongs here: keys and dependencies. Does not belong here: what a feature is (feature_repo).
"""

from datetime import timedelta

import dagster as dg

from feature_repo.definitions import VIEWS, View
from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.partitions import run_days
from orchestrator.reporting import report_parts

OWNER = "team:machine-learning"


def feature_assets(settings: Settings, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One asset a feature view."""
    return [_view_asset(settings, view, partitions) for view in VIEWS.values()]


def _view_asset(settings: Settings, view: View, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey(["features", view.name])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["gold", view.name])],
        group_name="features",
        kinds={"feast"},
        owners=[OWNER],
        description=f"{view.description}; registered in Feast and online.",
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        automation_condition=any_partition(),
        pool="feast",
    )
    def feature_view(context: dg.AssetExecutionContext) -> None:
        from feature_repo.store import materialize

        days = run_days(context)
        done = materialize(settings, view.name, days[0], days[-1])
        online = {"keys_online": done["keys_written"], "snapshot_id": str(done["snapshot_id"])}
        rows = done["rows_by_day"]
        report_parts(
            context,
            {key: {day: {"dagster/partition_row_count": rows.get(day, 0), **online} for day in days}},
            {},
        )

    return feature_view
