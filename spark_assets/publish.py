"""Silver and quarantine for some days, or all of a full feed: classify, write a branch, check it, move `main`.

Belongs here: the order of those steps and what makes a part (a day, or the whole table of a full feed) bad. Does not
belong here: what makes a row bad (classify). A reader of `main` sees the parts as they were, or as they are after every
check passed; never one in between.
"""

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.names import PhysicalName
from foundation.settings import Settings
from intake.archive import mark_judged, versions_of
from spark_assets.bronze import partition_option
from spark_assets.classify import ACCEPTED, DUPLICATE, FATES, QUARANTINED, SUPERSEDED, accepted_rows, classify
from spark_assets.session import connect, snapshot_options
from spark_assets.tables import Part, ensure_table, part_name, quarantine_columns, silver_columns, snapshot_id

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession

BRANCH = "audit"
TRANSFORMS = Path(__file__).parent / "silver"
# classify left each day in one task: another shuffle before writing would change nothing.
IN_PLACE = {"distribution-mode": "none"}
# Looks at the branch's snapshot of some parts, and says which of them must not be published and why.
Judge = Callable[[int, "Sequence[Part]"], "Mapping[Part, AssayError]"]


@dataclass
class PartOutcome:
    """What became of a part: rows by fate, quarantined rows by reason, and, if it is bad, why and what to do."""

    part: Part
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    reasons: dict[str, int] = field(default_factory=dict)
    error: AssayError | None = None


@dataclass(frozen=True)
class SilverWrite:
    """The outcome of each part and the file versions it is made of, the snapshots that readers see now and that were read."""

    parts: Mapping[Part, PartOutcome]
    silver_snapshot_id: int
    quarantine_snapshot_id: int
    bronze_snapshot_id: int
    ref_snapshot_ids: Mapping[str, int]
    sequences: Mapping[Part, Sequence[int]] = field(default_factory=dict)


def refine(
    settings: Settings,
    contract: Contract,
    days: Sequence[date] | None,
    lineage: Mapping[str, str],
    judge: Judge | None = None,
) -> SilverWrite:
    """Bronze to Silver and quarantine for some days (None: all of a full feed), as the one writer of both. See
    `write_silver`."""
    if days is not None and not any(contract.expects(day) for day in days):
        return SilverWrite({day: PartOutcome(day) for day in days}, 0, 0, 0, {})
    with writer_lock(settings, f"silver.{contract.feed}"), connect(settings) as spark:
        # Asked before Bronze is read: what is noted as being there by now is in what is read.
        held = [v for v in versions_of(settings, contract.feed, days) if v.bronze_snapshot is not None]
        written = write_silver(spark, settings, contract, days, lineage, judge)
    sequences: dict[Part, list[int]] = {part: [] for part in written.parts}
    for version in held:
        sequences[None if days is None else version.day].append(version.sequence)
    good = [part for part, outcome in written.parts.items() if outcome.error is None]
    published = {sequence for part in good for sequence in sequences[part]}
    news = {version.sequence for version in held if version.silver_snapshot is None}
    mark_judged(settings, news & published, rules_sign(contract), written.silver_snapshot_id)
    mark_judged(settings, news - published, rules_sign(contract), None)
    return replace(written, sequences=sequences)


def rules_sign(contract: Contract) -> str:
    """A short text that changes with the contract and the transforms (one may use another): what was refused may pass under
    other rules."""
    code = b"".join(module.read_bytes() for module in sorted(TRANSFORMS.glob("*.py")))
    # not where the checkout is
    named = replace(contract, file=Path(contract.file.name))
    return hashlib.sha256(repr(named).encode() + code).hexdigest()[:12]


def write_silver(
    spark: "SparkSession",
    settings: Settings,
    contract: Contract,
    days: Sequence[date] | None,
    lineage: Mapping[str, str],
    judge: Judge | None = None,
) -> SilverWrite:
    """Replaces parts of a feed's Silver table (the good ones) and of its quarantine (all of them).

    Args:
        days: the days to make from Bronze, None for all of a full feed; a day that Bronze does not have is reported as bad.
        lineage: properties that the snapshots shall carry.
        judge: asked once, when the branch holds what it should; what it refuses is not published.
    """
    from pyspark.sql import functions as F

    bronze, silver, quarantine = (settings.table(layer, contract.feed) for layer in ("bronze", "silver", "quarantine"))
    if not spark.catalog.tableExists(str(bronze)):
        raise AssayError(f"{bronze} does not exist", f"materialize bronze/{contract.feed} first")
    ensure_table(spark, silver, silver_columns(contract), contract.days.column if contract.days else None)
    ensure_table(spark, quarantine, quarantine_columns(contract), "ds" if contract.days else None)
    source = snapshot_id(spark, bronze)
    refs = {ref: _ref_snapshot(spark, settings, contract, ref) for ref in contract.refs}
    chosen = _in_days("ds", days)
    received = spark.read.option("versionAsOf", source).table(str(bronze)).where(chosen)
    classified = classify(received, contract, len(days or [])).persist()
    try:
        outcomes = _judge(classified, contract, [None] if days is None else days)
        _check_fates_sum_to_bronze(spark, bronze, source, outcomes)
        read = {"assay.bronze_snapshot_id": source} | {f"assay.{ref}_snapshot_id": one for ref, one in refs.items()}
        options = snapshot_options({**lineage, **{name: str(value) for name, value in read.items()}})
        (
            classified.where(F.col("fate").isin(QUARANTINED, DUPLICATE))
            .select(*quarantine_columns(contract))
            .writeTo(str(quarantine))
            .options(**options, **IN_PLACE)
            .overwrite(chosen)
        )
        rows = _transform(spark, settings, contract, accepted_rows(classified, contract), refs)
        _publish(spark, silver, contract, rows, outcomes, options, judge)
    finally:
        classified.unpersist()
    return SilverWrite(outcomes, snapshot_id(spark, silver), snapshot_id(spark, quarantine), source, refs)


def _in_days(column: str, days: "Sequence[Part] | None") -> "SparkColumn":
    """The rows of some parts."""
    from pyspark.sql import functions as F

    return F.lit(True) if days is None or None in days else F.col(column).isin(sorted(day for day in days if day))


def _part(contract: Contract, column: str) -> "SparkColumn":
    """The part that a row belongs to."""
    from pyspark.sql import functions as F

    return (F.col(column) if contract.days else F.lit(None).cast("date")).alias("_part")


def _ref_snapshot(spark: "SparkSession", settings: Settings, contract: Contract, ref: str) -> int:
    table = settings.table("silver", ref)
    if not spark.catalog.tableExists(str(table)):
        raise AssayError(
            f"silver/{contract.feed} needs silver/{ref}, and {table} does not exist",
            f"land {ref} (./assay land {ref}), then run: ./assay dagster asset materialize "
            f"--select bronze/{ref},silver/{ref},quarantine/{ref}",
        )
    return snapshot_id(spark, table)


def _judge(classified: "DataFrame", contract: Contract, parts: Sequence[Part]) -> dict[Part, PartOutcome]:
    from pyspark.sql import functions as F

    outcomes = {part: PartOutcome(part) for part in parts}
    reasons: dict[Part, Counter[str]] = {part: Counter() for part in parts}
    # a duplicate's reason names its winner, so that nearly every row would be a group of its own
    why = F.when(F.col("fate") == QUARANTINED, F.col("reasons")).alias("why")
    for row in classified.groupBy(_part(contract, "ds"), "fate", why).count().collect():
        outcomes[row["_part"]].rows[row["fate"]] += row["count"]
        for reason in row["why"] or []:
            reasons[row["_part"]][reason] += row["count"]
    for part, outcome in outcomes.items():
        outcome.reasons = dict(sorted(reasons[part].items(), key=lambda item: (-item[1], item[0])))
        outcome.error = _part_error(outcome, contract)
    return outcomes


def _part_error(outcome: PartOutcome, contract: Contract) -> AssayError | None:
    where = f"silver/{contract.feed}{part_name(outcome.part)}"
    current = sum(outcome.rows.values()) - outcome.rows[SUPERSEDED]
    quarantined = outcome.rows[QUARANTINED]
    again = f"./assay dagster asset materialize --select bronze/{contract.feed},silver/{contract.feed},quarantine/{contract.feed}"
    again += partition_option(outcome.part)
    if not current and not contract.expects(outcome.part):
        return None
    if not current:
        return AssayError(f"{where}: Bronze has no row of it", f"land its file, then run: {again}")
    if quarantined > contract.max_quarantined * current:
        named = ", ".join(f"{reason} ({count})" for reason, count in list(outcome.reasons.items())[:3])
        return AssayError(
            f"{where}: {quarantined} of {current} rows were quarantined, more than {contract.max_quarantined:.0%}: {named}",
            f"see them with ./assay quarantine {contract.feed}; ask for a corrected file, or correct "
            f"contracts/{contract.file.name} and run ./assay quarantine {contract.feed} --replay",
        )
    return None


def _check_fates_sum_to_bronze(
    spark: "SparkSession", bronze: PhysicalName, source: int, outcomes: Mapping[Part, PartOutcome]
) -> None:
    """Bronze's manifests count its rows without us: the four fates must sum to that, part by part."""
    part = "cast(null as date)" if None in outcomes else "partition.ds"
    # A table's `partitions` view knows only `main`; `files` can be asked for the snapshot that was read.
    counted = spark.sql(
        f"select {part}, sum(record_count) from {bronze}.files version as of {source} group by {part}"
    ).collect()
    truth = {row[0]: int(row[1]) for row in counted}
    for one, outcome in outcomes.items():
        if sum(outcome.rows.values()) != truth.get(one, 0):
            raise AssayError(
                f"{bronze}{part_name(one)} has {truth.get(one, 0)} rows but their fates are {outcome.rows}",
                "this is a fault of the platform: nothing was published; report it with the day's file",
            )


def _transform(
    spark: "SparkSession", settings: Settings, contract: Contract, rows: "DataFrame", refs: Mapping[str, int]
) -> "DataFrame":
    module = f"spark_assets.silver.{contract.feed}"
    if importlib.util.find_spec(module) is not None:
        frames = {
            ref: spark.read.option("versionAsOf", snapshot).table(str(settings.table("silver", ref)))
            for ref, snapshot in refs.items()
        }
        rows = import_module(module).transform(rows, frames)
    return rows.select(*silver_columns(contract))


def _publish(
    spark: "SparkSession",
    silver: PhysicalName,
    contract: Contract,
    rows: "DataFrame",
    outcomes: Mapping[Part, PartOutcome],
    options: Mapping[str, str],
    judge: Judge | None,
) -> None:
    """Writes the good parts to a branch, checks what is there, and moves `main`. A part that fails its check is left out,
    and the branch is made again without it. The parts left are not judged again: their rows are the same, and a range of
    which each month were judged against the one refused before it would be written a dozen times."""
    while good := [part for part, outcome in outcomes.items() if outcome.error is None]:
        spark.sql(f"alter table {silver} create or replace branch {BRANCH}")
        chosen = _in_days(contract.days.column if contract.days else "", good)
        branch = rows.where(chosen).writeTo(f"{silver}.branch_{BRANCH}")
        branch.options(**options, **IN_PLACE).overwrite(chosen)
        failed = _audit(spark, silver, contract, good, outcomes)
        for part, why in failed.items():
            outcomes[part].error = AssayError(
                f"silver/{contract.feed}{part_name(part)}: {why}",
                f"correct transform in spark_assets/silver/{contract.feed}.py",
            )
        refused: Mapping[Part, AssayError] = {}
        if judge is not None and not failed:
            refused, judge = judge(snapshot_id(spark, silver, BRANCH), good), None
        for part, error in refused.items():
            outcomes[part].error = error
        if not failed and not refused:
            spark.sql(f"call {silver.catalog}.system.fast_forward('{silver.in_catalog}', 'main', '{BRANCH}')").collect()
            break
    spark.sql(f"alter table {silver} drop branch if exists {BRANCH}")


def _audit(
    spark: "SparkSession",
    silver: PhysicalName,
    contract: Contract,
    parts: Sequence[Part],
    outcomes: Mapping[Part, PartOutcome],
) -> dict[Part, str]:
    """The parts of the branch that are not what they should be, and why: rows as accepted, keys unique, required filled."""
    from pyspark.sql import functions as F

    column = contract.days.column if contract.days else ""
    staged = spark.read.option("branch", BRANCH).table(str(silver)).where(_in_days(column, parts))
    # A column that came later is empty in older files: classify looked at it, row by row.
    required = [one.name for one in contract.columns if one.required and not one.since]
    gaps = [F.count_if(F.col(name).isNull()).alias(f"_gaps_{name}") for name in required]
    keys = F.count_distinct(*[F.col(key) for key in contract.keys]).alias("_keys")
    found = {
        row["_part"]: row
        for row in staged.groupBy(_part(contract, column)).agg(F.count(F.lit(1)).alias("_rows"), keys, *gaps).collect()
    }
    failed: dict[Part, str] = {}
    for part in parts:
        row, expected = found.get(part), outcomes[part].rows[ACCEPTED]
        if (row["_rows"] if row else 0) != expected:
            failed[part] = f"{row['_rows'] if row else 0} rows were written of {expected} accepted"
        elif row and row["_keys"] != row["_rows"]:
            failed[part] = f"{row['_rows'] - row['_keys']} rows share a key"
        elif row and (empty := [name for name in required if row[f"_gaps_{name}"]]):
            failed[part] = f"required {', '.join(empty)} has nulls"
    return failed
