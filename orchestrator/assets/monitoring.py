"""Drift of what is predicted as an asset, and its check.

Belongs here: keys, partitions, dependencies, and how a day's drift reads. Does not belong here: what drift is (ml/drift).
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg

from foundation.settings import Settings
from orchestrator.alerts import DRIFT as DRIFTED
from orchestrator.alerts import KIND
from orchestrator.automation import any_partition
from orchestrator.gates import shut_days
from orchestrator.partitions import run_days
from orchestrator.reporting import lineage, report_parts
from orchestrator.timeline import GOES_ON_WITHOUT

DRIFT = dg.AssetKey(["monitoring", "arrival_delay_drift"])
TRAINING_SET = dg.AssetKey(["models", "arrival_delay_training_set"])
CHECK = "no_column_drifted"
# A year's run would list hundreds.
NAMED_DAYS = 10


def monitoring_assets(settings: Settings, daily: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """How far the predicted flights of 28 days are from what their champion learnt from, by day."""

    @dg.asset(
        key=DRIFT,
        deps=[
            dg.AssetKey(["predictions", "arrival_delay"]),
            dg.AssetDep(
                TRAINING_SET,
                partition_mapping=dg.TimeWindowPartitionMapping(
                    start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
                ),
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=DRIFT,
                description="No column of the flights predicted in the 28 days up to the day moved further from the "
                "champion's training set than its threshold. A warning: predictions go on.",
                metadata={KIND: DRIFTED},
            )
        ],
        group_name="monitoring",
        kinds={"evidently", "iceberg"},
        owners=["team:machine-learning"],
        description="How far the flights predicted in the 28 days up to a day are from what their champion learnt from.",
        metadata={
            "table": str(settings.table("monitoring", "arrival_delay_drift")),
            GOES_ON_WITHOUT: [TRAINING_SET.to_user_string()],
        },
        partitions_def=daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        # What is compared with is what the champion learnt from, whenever that was: a newer month of it is no reason, and
        # need not be there.
        automation_condition=any_partition(but_not_for=[TRAINING_SET], optional=[TRAINING_SET]),
        pool="evidently",
    )
    def arrival_delay_drift(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from ml.drift import FEWEST_DAYS, WINDOW_DAYS, drift

        days: dict[date | None, Mapping[str, Any]] = {}
        errors = shut_days(context, run_days(context))
        wanted = [day for day in run_days(context) if day not in errors]
        drifted: dict[str, list[str]] = {}
        for outcome in drift(settings, wanted, lineage(context, DRIFT)) if wanted else ():
            if outcome.error is not None:
                errors[outcome.day] = outcome.error
            elif outcome.model is None:
                few = f"not judged: fewer than {FEWEST_DAYS} of the {WINDOW_DAYS} days have predictions"
                days[outcome.day] = {"dagster/partition_row_count": 0, "judged": few}
            else:
                days[outcome.day] = {
                    "dagster/partition_row_count": len(outcome.columns),
                    "drifted": outcome.drifted,
                    "window_days": outcome.days,
                    "reference": f"what {outcome.model.name} version {outcome.model.version} learnt from, through "
                    f"{outcome.model.trained_through}",
                    "report": outcome.report,
                    "snapshot_id": str(outcome.snapshot_id),
                }
                drifted |= {str(outcome.day): outcome.drifted} if outcome.drifted else {}
        yield _check(drifted, judged=sum("drifted" in values for values in days.values()))
        report_parts(context, {DRIFT: days}, errors)
        yield dg.MaterializeResult(asset_key=DRIFT)

    return [arrival_delay_drift]


def _check(drifted: Mapping[str, list[str]], judged: int) -> dg.AssetCheckResult:
    columns = sorted({column for found in drifted.values() for column in found})
    metadata: dict[str, dg.RawMetadataValue] = {"days_judged": judged, "days_drifted": len(drifted)}
    if drifted:
        metadata["columns"] = columns
        metadata["days"] = dict(list(drifted.items())[:NAMED_DAYS])
        metadata["next"] = f"./assay drift {max(drifted)} --html drift.html shows how; docs/ml.md says what to do"
    return dg.AssetCheckResult(
        passed=not drifted,
        asset_key=DRIFT,
        check_name=CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{', '.join(columns)} drifted on {len(drifted)} of {judged} days"
        if drifted
        else f"no column drifted on {judged} days",
        metadata=metadata,
    )
