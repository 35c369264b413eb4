"""Bronze: the rows of every version of every file, as text, with file, sequence and row number.

Belongs here: reading the archive and writing Bronze by day. Does not belong here: any judgement of a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import ACCEPTED, Version, archive_arrivals, mark_in_bronze, newest_versions
from spark_assets.session import connect, snapshot_options
from spark_assets.tables import CORRUPT, bronze_columns, ensure_table, snapshot_id

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class BronzeWrite:
    """What one commit to Bronze holds. `rows` is by day, zero for a day whose files have a header only."""

    snapshot_id: int
    rows: Mapping[date, int]


@dataclass(frozen=True)
class BronzeDay:
    """What became of a day: its rows and file versions in Bronze, or why it is not there and what to do."""

    day: date
    rows: int
    versions: Sequence[Version]
    error: AssayError | None


@dataclass(frozen=True)
class BronzeOutcome:
    """Each day, and the snapshot that readers see now (None if no day was good)."""

    days: Mapping[date, BronzeDay]
    snapshot_id: int | None


def ingest(settings: Settings, contract: Contract, days: Sequence[date], lineage: Mapping[str, str]) -> BronzeOutcome:
    """Landing to Bronze for some days: archives what arrived, then replaces the days that have an acceptable file.

    Args:
        lineage: properties that the snapshot shall carry.
    """
    archive_arrivals(settings, contract, days)
    arrived = newest_versions(settings, contract.feed, days)
    errors = {day: _day_error(contract, day, versions) for day, versions in arrived.items()}
    good = {
        day: [version for version in versions if version.state == ACCEPTED]
        for day, versions in arrived.items()
        if errors[day] is None
    }
    written = BronzeWrite(0, {})
    if good:
        with writer_lock(settings, f"bronze.{contract.feed}"), connect(settings) as spark:
            written = write_bronze(spark, settings, contract, good, lineage)
        mark_in_bronze(settings, [v.sequence for versions in good.values() for v in versions], written.snapshot_id)
    return BronzeOutcome(
        {day: BronzeDay(day, written.rows.get(day, 0), arrived[day], errors[day]) for day in days},
        written.snapshot_id if good else None,
    )


def _day_error(contract: Contract, day: date, versions: Sequence[Version]) -> AssayError | None:
    where = f"bronze/{contract.feed} {day}"
    retry = f"./assay dagster asset materialize --select bronze/{contract.feed} --partition {day}"
    newest = {version.path: version for version in versions}
    for version in newest.values():
        if version.state != ACCEPTED:
            return AssayError(
                f"{where}: landing/{version.path} was rejected: {version.reason}; Bronze is as it was before",
                f"ask for the file again, then run: {retry}",
            )
    if not versions:
        return AssayError(
            f"{where}: no file has arrived in landing/{contract.feed}/ds={day}/",
            f"land it (./assay land {contract.feed} {day}), then run: {retry}",
        )
    return None


def write_bronze(
    spark: "SparkSession",
    settings: Settings,
    contract: Contract,
    versions: Mapping[date, Sequence[Version]],
    lineage: Mapping[str, str],
) -> BronzeWrite:
    """Replaces whole days of a feed's Bronze table in one commit.

    Args:
        versions: the accepted versions of each day to replace; every day has at least one.
        lineage: properties that the snapshot shall carry.
    """
    from pyspark.sql import functions as F

    name = settings.table("bronze", contract.feed)
    ensure_table(spark, name, bronze_columns(contract), "ds")
    days = F.col("ds").isin(sorted(versions))
    rows = read_archive(spark, settings, contract, [version for of_day in versions.values() for version in of_day])
    rows.writeTo(str(name)).options(**snapshot_options(lineage)).overwrite(days)
    written = snapshot_id(spark, name)
    # The manifests know each partition's rows: no data file is read.
    counted = spark.sql(f"select partition.ds, record_count from {name}.partitions").collect()
    counts = {row[0]: int(row[1]) for row in counted}
    return BronzeWrite(written, {day: counts.get(day, 0) for day in versions})


def read_archive(
    spark: "SparkSession", settings: Settings, contract: Contract, versions: Sequence[Version]
) -> "DataFrame":
    """The rows of some file versions, in Bronze's columns. A file that arrived twice is read once, and its rows stand
    for both versions."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    arrived = spark.createDataFrame(
        [(version.archived(settings).name, version.path, version.sequence, version.day) for version in versions],
        "archived string, source_file string, source_sequence bigint, ds date",
    )
    text = ", ".join(f"`{column.name}` string" for column in contract.received)
    files = (
        spark.read.schema(f"{text}, `{CORRUPT}` string")
        .options(
            header=True,
            mode="PERMISSIVE",
            columnNameOfCorruptRecord=CORRUPT,
            escape='"',  # as RFC 4180 has it; Spark's own default is the backslash
            multiLine=True,  # quoted line breaks, and a file is never split, so that row numbers are the file's
        )
        .csv(sorted({str(version.archived(settings)) for version in versions}))
        .withColumns({"archived": F.col("_metadata.file_name"), "_id": F.monotonically_increasing_id()})
    )
    in_file = Window.partitionBy("archived").orderBy("_id")
    numbered = files.withColumn("source_row", F.row_number().over(in_file).cast("bigint"))
    return numbered.join(F.broadcast(arrived), "archived").select(*bronze_columns(contract))
