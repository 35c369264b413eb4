"""Per-partition truth: each day of a range run gets its own event, and a bad day fails the step without sinking the good.

Belongs here: turning outcomes into Dagster events, and what a run says of itself in a snapshot. Does not belong here:
deciding what is good.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg

from foundation.contract import Column, Contract
from foundation.errors import AssayError

# A year of bad days would make a message that nobody reads.
NAMED_DAYS = 5


def lineage(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[str, str]:
    """What a snapshot says of who wrote it."""
    keys = context.partition_keys if context.has_partition_key or context.has_partition_key_range else []
    partitions = {"dagster.partition": f"{min(keys)}...{max(keys)}" if len(keys) > 1 else keys[0]} if keys else {}
    return {"dagster.run_id": context.run.run_id, "dagster.asset": key.to_user_string(), **partitions}


def report_days(
    context: dg.AssetExecutionContext,
    metadata: Mapping[dg.AssetKey, Mapping[date, Mapping[str, Any]]],
    errors: Mapping[date, AssayError],
) -> None:
    """One materialization a good day with its metadata; if there is a bad day, the step fails and names it.

    Args:
        metadata: for each asset, each day that was written.
        errors: the days that were not.

    Raises:
        dagster.Failure: at least one day is bad. Its good days are already recorded.
    """
    for key, days in metadata.items():
        # A step that fails records nothing by itself, nor does it for an asset that it wrote without being asked for.
        by_itself = not errors and key in context.selected_asset_keys
        for day, values in days.items():
            if by_itself:
                context.add_asset_metadata(dict(values), asset_key=key, partition_key=str(day))
            elif day not in errors:
                context.log_event(dg.AssetMaterialization(key, partition=str(day), metadata=dict(values)))
    if not errors:
        return
    raise failure(list(errors.values()), good=sorted(set(next(iter(metadata.values()), {})) - set(errors)))


def failure(errors: Sequence[AssayError], good: Sequence[date] = ()) -> dg.Failure:
    """A step's failure that reads as its errors do: what failed, where, what to do next."""
    lines = [str(error) for error in errors[:NAMED_DAYS]]
    if len(errors) > NAMED_DAYS:
        lines.append(f"… and {len(errors) - NAMED_DAYS} more.")
    if good:
        lines.append(f"{len(good)} good days from {good[0]} to {good[-1]} were published.")
    return dg.Failure("\n".join(lines), allow_retries=False)


def column_schema(columns: Sequence[Column]) -> dict[str, Any]:
    """A contract's columns as Dagster shows them on the asset."""
    return {
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    column.name,
                    column.spark_type,
                    column.description + (f" ({column.classification})" if column.classification else ""),
                    dg.TableColumnConstraints(nullable=not column.required),
                )
                for column in columns
            ]
        )
    }


def due_policy(contract: Contract) -> dg.FreshnessPolicy:
    """Fresh if it was materialized since shortly before the contract's last due time.

    The window is 22 h, as the shortest day (when clocks go forward) has 23.
    """
    due = contract.due
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{due.at.minute} {due.at.hour} * * *",
        lower_bound_delta=timedelta(hours=22),
        timezone=str(due.zone),
    )
