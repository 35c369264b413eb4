"""Whether a partition has far more rows in quarantine than usual: a check that warns.

Belongs here: the rule and its check. Does not belong here: the contract's own limit, above which a partition is not
published and its run fails. A spike is below that limit: five times as many rows as usual in a feed that is allowed 5%.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from statistics import median

import dagster as dg

from orchestrator.alerts import KIND, SPIKE

CHECK = "no_more_rows_than_usual"
# Four weeks, so that each weekday counts alike; before one week nobody knows what is usual.
WINDOW, FEWEST = 28, 7
# Three times the median: weekdays and seasons change a feed's rows by less than two times, a broken column by much more.
# Below ten rows a few bad ones would be a spike.
TIMES, FEWEST_ROWS = 3, 10
NAMED = 10


def spec(quarantine: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of a daily feed's quarantine."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=quarantine,
        description=f"No partition has {FEWEST_ROWS} rows or more in quarantine and above {TIMES} times the median of the "
        f"{WINDOW} partitions before it. A warning: the rest is published.",
        metadata={KIND: SPIKE},
    )


def spikes(rows: Mapping[date, int], judged: Sequence[date]) -> dict[date, float]:
    """The days, of those to be judged, that have too many rows, each with what is usual.

    Args:
        rows: in quarantine, by day; those before count as well.
    """
    known = sorted(rows)
    found: dict[date, float] = {}
    for day in judged:
        before = [rows[one] for one in known if one < day][-WINDOW:]
        usual = median(before) if len(before) >= FEWEST else None
        if usual is not None and rows[day] >= FEWEST_ROWS and rows[day] > TIMES * usual:
            found[day] = usual
    return found


def result(
    instance: dg.DagsterInstance, key: dg.AssetKey, made: Mapping[date, int], judged: Sequence[date]
) -> dg.AssetCheckResult:
    """The check of what a run made.

    Args:
        made: rows in quarantine, of the consecutive days that it made.
        judged: those of them that were published.
    """
    found = spikes({**_rows_before(instance, key, min(made)), **made}, judged) if made else {}
    named = [f"{day}: {made[day]} rows, usual are {usual:g}" for day, usual in list(found.items())[:NAMED]]
    metadata: dict[str, dg.RawMetadataValue] = {
        "days": len(judged),
        "days_with_more": [str(day) for day in found][:NAMED],
    }
    if found:
        metadata["next"] = f"./assay quarantine {key.path[-1]} --day {max(found)}"
    return dg.AssetCheckResult(
        passed=not found,
        asset_key=key,
        check_name=CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(named) + "; …" * (len(found) > NAMED) if found else f"as usual on {len(judged)} days",
        metadata=metadata,
    )


def _rows_before(instance: dg.DagsterInstance, key: dg.AssetKey, first: date) -> dict[date, int]:
    """The rows in quarantine of the days before a day, as their newest materializations say."""
    newest = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
    days = sorted(day for day in newest if day < str(first))[-WINDOW:]
    if not days:
        return {}
    wanted = dg.AssetRecordsFilter(key, storage_ids=[newest[day] for day in days])
    rows: dict[date, int] = {}
    for record in instance.fetch_materializations(wanted, limit=WINDOW).records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        count = metadata.get("dagster/partition_row_count")
        if count is not None and record.partition_key:
            rows[date.fromisoformat(record.partition_key)] = int(str(count.value))
    return rows
