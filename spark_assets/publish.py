"""Silver and quarantine for some days: classify, write a branch, check it, move `main`.

Belongs here: the order of those steps and what makes a day bad. Does not belong here: what makes a row bad (classify).
A reader of `main` sees the days as they were, or as they are after every check passed; never a day in between.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.names import PhysicalName
from foundation.settings import Settings
from spark_assets.classify import ACCEPTED, FATES, QUARANTINED, SUPERSEDED, accepted_rows, classify
from spark_assets.session import connect, snapshot_options
from spark_assets.tables import ensure_table, quarantine_columns, silver_columns, snapshot_id

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BRANCH = "audit"


@dataclass
class DayOutcome:
    """What became of a day: rows by fate, quarantined rows by reason, and, if it is bad, why and what to do."""

    day: date
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    reasons: dict[str, int] = field(default_factory=dict)
    error: AssayError | None = None


@dataclass(frozen=True)
class SilverWrite:
    """The outcome of each day, and the snapshots that readers see now."""

    days: Mapping[date, DayOutcome]
    silver_snapshot_id: int
    quarantine_snapshot_id: int
    bronze_snapshot_id: int


def refine(settings: Settings, contract: Contract, days: Sequence[date], lineage: Mapping[str, str]) -> SilverWrite:
    """Bronze to Silver and quarantine for some days, as the one writer of both. See `write_silver`."""
    with writer_lock(settings, f"silver.{contract.feed}"), connect(settings) as spark:
        return write_silver(spark, settings, contract, days, lineage)


def write_silver(
    spark: "SparkSession", settings: Settings, contract: Contract, days: Sequence[date], lineage: Mapping[str, str]
) -> SilverWrite:
    """Replaces days of a feed's Silver table (the good ones) and of its quarantine (all of them).

    Args:
        days: the days to make from Bronze; a day that Bronze does not have is reported as bad.
        lineage: properties that the snapshots shall carry.
    """
    from pyspark.sql import functions as F

    bronze, silver, quarantine = (settings.table(layer, contract.feed) for layer in ("bronze", "silver", "quarantine"))
    if not spark.catalog.tableExists(str(bronze)):
        raise AssayError(f"{bronze} does not exist", f"materialize bronze/{contract.feed} first")
    ensure_table(spark, silver, silver_columns(contract), contract.day_column)
    ensure_table(spark, quarantine, quarantine_columns(contract), "ds")
    source = snapshot_id(spark, bronze)
    received = spark.read.option("versionAsOf", source).table(str(bronze)).where(F.col("ds").isin(list(days)))
    classified = classify(received, contract).persist()
    try:
        outcomes = _judge(classified, contract, days)
        _check_fates_sum_to_bronze(spark, bronze, source, outcomes)
        options = snapshot_options({**lineage, "assay.bronze_snapshot_id": str(source)})
        (
            classified.where(F.col("fate") == QUARANTINED)
            .select(*quarantine_columns(contract))
            .writeTo(str(quarantine))
            .options(**options)
            .overwrite(F.col("ds").isin(list(days)))
        )
        rows = _transform(spark, settings, contract, accepted_rows(classified, contract))
        _publish(spark, silver, contract, rows, outcomes, options)
    finally:
        classified.unpersist()
    return SilverWrite(outcomes, snapshot_id(spark, silver), snapshot_id(spark, quarantine), source)


def _judge(classified: "DataFrame", contract: Contract, days: Sequence[date]) -> dict[date, DayOutcome]:
    from pyspark.sql import functions as F

    outcomes = {day: DayOutcome(day) for day in days}
    for row in classified.groupBy("ds", "fate").count().collect():
        outcomes[row["ds"]].rows[row["fate"]] = row["count"]
    reasons = classified.where(F.col("fate") == QUARANTINED).select("ds", F.explode("reasons").alias("reason"))
    for row in reasons.groupBy("ds", "reason").count().orderBy(F.desc("count"), "reason").collect():
        outcomes[row["ds"]].reasons[row["reason"]] = row["count"]
    for outcome in outcomes.values():
        outcome.error = _day_error(outcome, contract)
    return outcomes


def _day_error(outcome: DayOutcome, contract: Contract) -> AssayError | None:
    where = f"silver/{contract.feed} {outcome.day}"
    current = sum(outcome.rows.values()) - outcome.rows[SUPERSEDED]
    quarantined = outcome.rows[QUARANTINED]
    if not current:
        return AssayError(
            f"{where}: Bronze has no row of that day",
            f"land its file, then run: ./assay dagster asset materialize --select bronze/{contract.feed},silver/{contract.feed} "
            f"--partition {outcome.day}",
        )
    if quarantined > contract.max_quarantined * current:
        named = ", ".join(f"{reason} ({count})" for reason, count in list(outcome.reasons.items())[:3])
        return AssayError(
            f"{where}: {quarantined} of {current} rows were quarantined, more than {contract.max_quarantined:.0%}: {named}",
            f"see quarantine/{contract.feed} for the rows; ask for a corrected file or correct the contract; then run: "
            f"dagster asset materialize --select bronze/{contract.feed},silver/{contract.feed} --partition {outcome.day}",
        )
    return None


def _check_fates_sum_to_bronze(
    spark: "SparkSession", bronze: PhysicalName, source: int, outcomes: Mapping[date, DayOutcome]
) -> None:
    """Bronze's manifests count its rows without us: the four fates must sum to that, day by day."""
    # A table's `partitions` view knows only `main`; `files` can be asked for the snapshot that was read.
    counted = spark.sql(
        f"select partition.ds, sum(record_count) from {bronze}.files version as of {source} group by partition.ds"
    ).collect()
    truth = {row[0]: int(row[1]) for row in counted}
    for day, outcome in outcomes.items():
        if sum(outcome.rows.values()) != truth.get(day, 0):
            raise AssayError(
                f"{bronze} {day} has {truth.get(day, 0)} rows but their fates are {outcome.rows}",
                "this is a fault of the platform: nothing was published; report it with the day's file",
            )


def _transform(spark: "SparkSession", settings: Settings, contract: Contract, rows: "DataFrame") -> "DataFrame":
    module = f"spark_assets.silver.{contract.feed}"
    if importlib.util.find_spec(module) is not None:
        refs = {ref: spark.table(str(settings.table("silver", ref))) for ref in contract.refs}
        rows = import_module(module).transform(rows, refs)
    return rows.select(*silver_columns(contract))


def _publish(
    spark: "SparkSession",
    silver: PhysicalName,
    contract: Contract,
    rows: "DataFrame",
    outcomes: Mapping[date, DayOutcome],
    options: Mapping[str, str],
) -> None:
    """Writes the good days to a branch, checks what is there, and moves `main`. A day that fails its check is left out,
    and the branch is made again without it."""
    from pyspark.sql import functions as F

    day_column = contract.day_column
    while good := sorted(day for day, outcome in outcomes.items() if outcome.error is None):
        spark.sql(f"alter table {silver} create or replace branch {BRANCH}")
        chosen = F.col(day_column).isin(good)
        rows.where(chosen).writeTo(f"{silver}.branch_{BRANCH}").options(**options).overwrite(chosen)
        failed = _audit(spark, silver, contract, good, outcomes)
        for day, why in failed.items():
            outcomes[day].error = AssayError(
                f"silver/{contract.feed} {day}: {why}", f"correct transform in spark_assets/silver/{contract.feed}.py"
            )
        if not failed:
            spark.sql(f"call {silver.catalog}.system.fast_forward('{silver.in_catalog}', 'main', '{BRANCH}')").collect()
            break
    spark.sql(f"alter table {silver} drop branch if exists {BRANCH}")


def _audit(
    spark: "SparkSession",
    silver: PhysicalName,
    contract: Contract,
    days: Sequence[date],
    outcomes: Mapping[date, DayOutcome],
) -> dict[date, str]:
    """The days of the branch that are not what they should be, and why: rows as accepted, keys unique, required filled."""
    from pyspark.sql import functions as F

    day_column = contract.day_column
    staged = spark.read.option("branch", BRANCH).table(str(silver)).where(F.col(day_column).isin(list(days)))
    required = [column.name for column in contract.columns if column.required]
    gaps = [F.count_if(F.col(name).isNull()).alias(f"_gaps_{name}") for name in required]
    keys = F.count_distinct(*[F.col(key) for key in contract.keys]).alias("_keys")
    found = {
        row[day_column]: row
        for row in staged.groupBy(F.col(day_column)).agg(F.count(F.lit(1)).alias("_rows"), keys, *gaps).collect()
    }
    failed: dict[date, str] = {}
    for day in days:
        row, expected = found.get(day), outcomes[day].rows[ACCEPTED]
        if (row["_rows"] if row else 0) != expected:
            failed[day] = f"{row['_rows'] if row else 0} rows were written of {expected} accepted"
        elif row and row["_keys"] != row["_rows"]:
            failed[day] = f"{row['_rows'] - row['_keys']} rows share a key"
        elif row and (empty := [name for name in required if row[f"_gaps_{name}"]]):
            failed[day] = f"required {', '.join(empty)} has nulls"
    return failed
