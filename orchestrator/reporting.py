"""Per-partition truth: each day of a range run gets its own event, and a bad day fails the step without sinking the good.

Belongs here: turning outcomes into Dagster events, and what a run says of itself in a snapshot. Does not belong here:
deciding what is good.
"""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from datetime import time as time_of_day
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
from dagster_shared.record import copy

from foundation.contract import Contract
from foundation.errors import AssayError
from orchestrator.lineage import Node
from spark_assets.tables import SOURCE

# A year of bad days would make a message that nobody reads.
NAMED_DAYS = 5


def lineage(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[str, str]:
    """What a snapshot says of who wrote it."""
    keys = context.partition_keys if context.has_partition_key or context.has_partition_key_range else []
    partitions = {"dagster.partition": f"{min(keys)}...{max(keys)}" if len(keys) > 1 else keys[0]} if keys else {}
    return {"dagster.run_id": context.run.run_id, "dagster.asset": key.to_user_string(), **partitions}


def report_parts(
    context: dg.AssetExecutionContext,
    metadata: Mapping[dg.AssetKey, Mapping[date | None, Mapping[str, Any]]],
    errors: Mapping[date | None, AssayError],
) -> None:
    """One materialization a written day (None: of an asset without partitions) with its metadata; if there is an error, the
    step fails and names the day.

    Args:
        metadata: for each asset, what was written. A day may be there and have an error: written as far as it is good.
        errors: what is wrong, by day.

    Raises:
        dagster.Failure: there is an error. What was written is already recorded.
    """
    for key, parts in metadata.items():
        # A step that fails records nothing by itself, nor does it for an asset that it wrote without being asked for.
        if not errors and key in context.selected_asset_keys:
            add_metadata(context, key, parts)
            continue
        record(context, key, parts)
    if not errors:
        return
    written = set(next(iter(metadata.values()), {})) - set(errors)
    raise failure(list(errors.values()), good=sorted(part for part in written if part is not None))


def record(context: dg.AssetExecutionContext, key: dg.AssetKey, parts: Mapping[date | None, Mapping[str, Any]]) -> None:
    """One materialization a part, at once: for a step that will fail, or an asset that it was not asked for."""
    batch = str(uuid.uuid4())
    for number, (part, values) in enumerate(parts.items(), start=1):
        DagsterEvent.asset_materialization(
            context.get_step_execution_context(),
            dg.AssetMaterialization(key, partition=None if part is None else str(part), metadata=dict(values)),
            DagsterEventBatchMetadata(batch, is_end=number == len(parts)),
        )


def add_metadata(
    context: dg.AssetExecutionContext, key: dg.AssetKey, parts: Mapping[date | None, Mapping[str, Any]]
) -> None:
    """`context.add_asset_metadata` for many days at once. Each call of that copies and checks all that the step said before:
    9 s (profiled) for the year of the warehouse's eight models, while dbt waits for its output to be read."""
    step = context.get_step_execution_context()
    said = dict(step._metadata_accumulator.per_output_metadata)
    for part, values in parts.items():
        handle = AssetMetadataHandle(asset_key=key, partition_key=None if part is None else str(part))
        said[handle] = {**said.get(handle, {}), **values}
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=said)


def report_check(context: dg.AssetExecutionContext, result: dg.AssetCheckResult, days: Mapping[date, bool]) -> None:
    """Says what a check found of each day of a run: Dagster attributes the result that a step yields to no partition. Call it
    when the asset was materialized: a check from before a materialization says nothing of it.

    Args:
        result: what the step yields for all days, with its asset and name.
        days: whether the check passed.
    """
    assert result.asset_key is not None
    assert result.check_name is not None
    key = dg.AssetCheckKey(result.asset_key, result.check_name)
    blocking = any(spec.key == key and spec.blocking for spec in context.assets_def.check_specs)
    report_checks(
        context.op_execution_context,
        [
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=passed,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
                blocking=blocking,
                partition=str(day),
            )
            for day, passed in days.items()
        ],
    )


def report_checks(context: dg.OpExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """`context.log_event` for the evaluations of one asset's days at once: one by one each is a transaction of its own, 13 ms on
    a quiet machine, 5 s for a year (decision 17)."""
    batch, now, made = str(uuid.uuid4()), time.time(), dict[str, int]()
    if evaluations:
        made = context.instance.get_latest_storage_id_by_partition(
            evaluations[0].asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
    for number, one in enumerate(evaluations, start=1):
        # Without the materialization that it looked at, Dagster holds a result for outdated.
        looked_at = made.get(one.partition or "")
        target = looked_at and AssetCheckEvaluationTargetMaterializationData(
            storage_id=looked_at, run_id=context.run.run_id, timestamp=now
        )
        DagsterEvent.from_step(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            context.get_step_execution_context(),
            copy(one, target_materialization_data=target or None),
            f"Check {one.check_name} of {one.asset_key.to_user_string()} {one.partition}: "
            f"{'passed' if one.passed else 'did not pass'}",
            DagsterEventBatchMetadata(batch, is_end=number == len(evaluations)),
        )


def failure(errors: Sequence[AssayError], good: Sequence[date] = ()) -> dg.Failure:
    """A step's failure that reads as its errors do: what failed, where, what to do next."""
    lines = [str(error) for error in errors[:NAMED_DAYS]]
    if len(errors) > NAMED_DAYS:
        lines.append(f"… and {len(errors) - NAMED_DAYS} more.")
    if good:
        lines.append(f"{len(good)} good days from {good[0]} to {good[-1]} were published.")
    return dg.Failure("\n".join(lines), allow_retries=False)


def on_last(parts: Mapping[date | None, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[date | None, Any]:
    """The parts, with values that say the same of all of them on the last: a year's run would keep them 365 times."""
    return {part: {**one, **(values if part == list(parts)[-1] else {})} for part, one in parts.items()}


def column_lineage(columns: Mapping[str, Sequence[Node]]) -> dict[str, Any]:
    """What each column of an asset is made of, as Dagster shows it."""
    deps = {
        name: [dg.TableColumnDep(dg.AssetKey(node.asset.split("/")), node.column) for node in nodes if node.column]
        for name, nodes in columns.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


def column_schema(contract: Contract) -> dict[str, Any]:
    """A feed's columns in Silver as Dagster shows them on the asset."""
    declared = [
        dg.TableColumn(
            column.name,
            column.spark_type,
            column.description + (f" ({column.classification})" if column.classification else ""),
            dg.TableColumnConstraints(nullable=not column.required),
        )
        for column in contract.columns
    ]
    return _schema([*declared, *(dg.TableColumn(name, kind, text) for name, (kind, text) in SOURCE.items())])


def described_schema(columns: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Columns by name, each with type and description, as Dagster shows them."""
    return _schema(dg.TableColumn(name, kind, text) for name, (kind, text) in columns.items())


def _schema(columns: Iterable[dg.TableColumn]) -> dict[str, Any]:
    return {"dagster/column_schema": dg.TableSchema(list(columns))}


def due_policy(contract: Contract) -> dg.FreshnessPolicy | None:
    """Fresh if it was materialized since shortly before the contract's last due time; of a full feed, if a delivery came
    within the days after which the next one is due. None if the contract says nothing.

    The window is 22 h, as the shortest day (when clocks go forward) has 23.
    """
    if contract.days is None:
        days = contract.next_due.days if contract.next_due else 0
        return dg.FreshnessPolicy.time_window(fail_window=timedelta(days=days)) if days > 0 else None
    return _daily_deadline(contract.days.due.at, str(contract.days.due.zone))


@cache
def _daily_deadline(at: time_of_day, zone: str) -> dg.FreshnessPolicy:
    # Dagster plays a thousand days of the clock to find the shortest, 15 ms, and every table of each feed has one.
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{at.minute} {at.hour} * * *", lower_bound_delta=timedelta(hours=22), timezone=zone
    )


def late_policy(expected: timedelta) -> dg.FreshnessPolicy:
    """Fresh if it was materialized within the usual time, with two hours for somebody asleep before a warning, and six
    before it fails."""
    return dg.FreshnessPolicy.time_window(
        fail_window=expected + timedelta(hours=6), warn_window=expected + timedelta(hours=2)
    )
