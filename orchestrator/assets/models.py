"""The model and its predictions as assets.

Belongs here: keys, partitions, dependencies. Does not belong here: how a model learns or judges (ml).
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg

from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.partitions import run_days
from orchestrator.reporting import lineage, report_parts

MODEL = dg.AssetKey(["models", "arrival_delay"])
PREDICTIONS = dg.AssetKey(["predictions", "arrival_delay"])
OWNER = "team:machine-learning"
# The day before is the newest history that can be known for a day; before the first day there is none.
DAY_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
# A month's model learns from every day before it; Dagster is told of the month before, the newest of them.
MONTH_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)


def model_assets(
    settings: Settings, daily: dg.PartitionsDefinition, monthly: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The registered model by month, and each scheduled flight's prediction by day."""

    @dg.asset(
        key=MODEL,
        deps=[
            dg.AssetDep(dg.AssetKey(["gold", "flight_facts"]), partition_mapping=MONTH_BEFORE),
            dg.AssetDep(dg.AssetKey(["features", "carrier_history"]), partition_mapping=MONTH_BEFORE),
        ],
        group_name="models",
        kinds={"mlflow", "lightgbm"},
        owners=[OWNER],
        description="Will a flight arrive more than 15 minutes late? Month M learns from the days before M.",
        partitions_def=monthly,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=35), warn_window=timedelta(days=32)),
        pool="mlflow",
    )
    def arrival_delay(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from ml.training import build_training_set, train

        month = date.fromisoformat(context.partition_key)
        report = train(settings, build_training_set(settings, month), month, lineage(context, MODEL))
        return dg.MaterializeResult(
            metadata={
                "model": f"{report.name} version {report.version}",
                "reused": report.reused,
                "mlflow_run_id": report.run_id,
                "trained_through": str(report.trained_through),
                "rows": report.rows,
                "snapshots": {table: str(snapshot) for table, snapshot in report.snapshots.items()},
                **report.metrics,
            }
        )

    @dg.asset(
        key=PREDICTIONS,
        deps=[
            dg.AssetDep(dg.AssetKey(["silver", "schedule"])),
            dg.AssetDep(dg.AssetKey(["features", "carrier_history"]), partition_mapping=DAY_BEFORE),
            dg.AssetDep(
                MODEL, partition_mapping=dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
            ),
        ],
        group_name="predictions",
        kinds={"mlflow", "iceberg"},
        owners=[OWNER],
        description="Each scheduled flight, judged two hours before departure from schedule and features alone.",
        metadata={"table": str(settings.table("predictions", "arrival_delay"))},
        partitions_def=daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        automation_condition=any_partition(),
        pool="mlflow",
    )
    def predictions(context: dg.AssetExecutionContext) -> None:
        from ml.predicting import predict

        days: dict[date | None, Mapping[str, Any]] = {}
        errors: dict[date | None, AssayError] = {}
        for outcome in predict(settings, run_days(context), lineage(context, PREDICTIONS)):
            if outcome.error is not None or outcome.model is None:
                errors[outcome.day] = outcome.error or AssayError(f"{outcome.day} was not judged", "run this again")
                continue
            days[outcome.day] = {
                "dagster/partition_row_count": outcome.rows,
                "without_history": outcome.without_history,
                "mean_probability": outcome.mean_probability or 0.0,
                "model": f"{outcome.model.name} version {outcome.model.version}",
                "schedule_snapshot_id": str(outcome.schedule_snapshot_id),
                "history_snapshot_id": str(outcome.history_snapshot_id),
                "snapshot_id": str(outcome.snapshot_id),
            }
        report_parts(context, {PREDICTIONS: days}, errors)

    return [arrival_delay, predictions]
