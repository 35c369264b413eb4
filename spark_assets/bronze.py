"""Bronze: the rows of every version of every file, as text, with file, sequence and row number.

Belongs here: reading the archive and writing Bronze, by day or, of a full feed, by version. Does not belong here: any
judgement of a row.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import ACCEPTED, Version, archive_arrivals, listing, mark_in_bronze, versions_of
from spark_assets.session import connect, snapshot_options
from spark_assets.tables import CORRUPT, Part, bronze_columns, ensure_table, part_name, snapshot_id

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession


# Of the two escapes that JSON writes an emoji as, one alone: what cuts texts in the middle sends it. It would read as `?`.
HALF_A_CHARACTER = (
    r"(?<!\\)(?:\\\\)*\\u[dD][89abAB]\w\w(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]\w\w)(?<!\\)\\u[dD][c-fC-F]"
)


@dataclass(frozen=True)
class BronzePart:
    """What became of a part: its rows and file versions in Bronze (rows None if nothing was written), and what is wrong
    with it. A part may be written and have an error: a file was rejected beside good ones."""

    part: Part
    rows: int | None
    versions: Sequence[Version]
    error: AssayError | None


@dataclass(frozen=True)
class BronzeOutcome:
    """Each part, and the snapshot that readers see now (None if no part was written)."""

    parts: Mapping[Part, BronzePart]
    snapshot_id: int | None


def ingest(
    settings: Settings, contract: Contract, days: Sequence[date] | None, lineage: Mapping[str, str]
) -> BronzeOutcome:
    """Landing to Bronze for some days, or all of a full feed (None): archives what arrived, then replaces what has an
    acceptable file.

    Args:
        lineage: properties that the snapshot shall carry.
    """
    archive_arrivals(settings, contract, days)
    parts: list[Part] = [None] if days is None else list(days)
    arrived: dict[Part, list[Version]] = {part: [] for part in parts}
    for version in versions_of(settings, contract.feed, days):
        arrived[None if days is None else version.day].append(version)
    accepted = {
        part: found
        for part, versions in arrived.items()
        if (found := [version for version in versions if version.state == ACCEPTED])
    }
    landed = listing(settings, contract)
    there = {file.path for file in landed.files}
    outcomes = {
        part: BronzePart(part, None, arrived[part], _error(contract, part, arrived[part], there, landed.misplaced))
        for part in parts
    }
    outcomes |= {part: replace(outcomes[part], rows=0) for part in parts if not contract.expects(part)}
    if not accepted:
        return BronzeOutcome(outcomes, None)
    with writer_lock(settings, f"bronze.{contract.feed}"), connect(settings) as spark:
        written, rows = write_bronze(spark, settings, contract, accepted, lineage)
    unmarked = [v.sequence for versions in accepted.values() for v in versions if v.bronze_snapshot is None]
    mark_in_bronze(settings, unmarked, written)
    outcomes |= {part: replace(outcomes[part], rows=rows.get(part, 0)) for part in accepted}
    return BronzeOutcome(outcomes, written)


def _error(
    contract: Contract, part: Part, versions: Sequence[Version], there: set[str], misplaced: Sequence[str]
) -> AssayError | None:
    where = f"bronze/{contract.feed}{part_name(part)}"
    folder = f"landing/{contract.feed}/" if part is None else f"landing/{contract.feed}/ds={part}/"
    retry = f"./assay dagster asset materialize --select bronze/{contract.feed}{partition_option(part)}"
    newest = {version.path: version for version in versions}
    # What was taken out of landing again is nobody's question any more.
    rejected = [v for v in newest.values() if v.state != ACCEPTED and (v.path in there or len(newest) == 1)]
    if rejected:
        named = "; ".join(f"landing/{version.path} was rejected: {version.reason}" for version in rejected[:3])
        more = f" … and {len(rejected) - 3} more" * (len(rejected) > 3)
        return AssayError(
            f"{where}: {named}{more}; all other files are in",
            f"ask for the file again, correct contracts/{contract.file.name} and run ./assay quarantine {contract.feed} "
            f"--replay, or take the file out of landing; then run: {retry}",
        )
    if not versions and contract.expects(part):
        strange = [text for text in misplaced if text.startswith(folder.removeprefix("landing/"))]
        return AssayError(
            f"{where}: no file has arrived in {folder}" + (f" ({'; '.join(strange[:3])})" if strange else ""),
            f"land it (./assay land {contract.feed}{'' if part is None else f' {part}'}), then run: {retry}",
        )
    return None


def partition_option(part: Part) -> str:
    """What a command needs to be about one part."""
    return "" if part is None else f" --partition {part}"


def write_bronze(
    spark: "SparkSession",
    settings: Settings,
    contract: Contract,
    versions: Mapping[Part, Sequence[Version]],
    lineage: Mapping[str, str],
) -> tuple[int, dict[Part, int]]:
    """Replaces whole parts of a feed's Bronze table in one commit.

    Args:
        versions: the accepted versions of each part to replace; every part has at least one.
        lineage: properties that the snapshot shall carry.

    Returns:
        The snapshot, and the rows of each part.
    """
    from pyspark.sql import functions as F

    name = settings.table("bronze", contract.feed)
    # A full feed's versions never change once they are in: each is a partition, and only new ones are written.
    by = "source_sequence" if contract.days is None else "ds"
    ensure_table(spark, name, bronze_columns(contract), by)
    chosen = [version for of_part in versions.values() for version in of_part]
    if contract.days is None:
        there = {row[0] for row in spark.sql(f"select partition.{by} from {name}.partitions").collect()}
        new = [version for version in chosen if version.sequence not in there or version.bronze_snapshot is None]
        if not new:
            return snapshot_id(spark, name), {None: spark.table(str(name)).count()}
        chosen, written = new, F.col(by).isin([version.sequence for version in new])
    else:
        written = F.col(by).isin(sorted(part for part in versions if part is not None))
    rows = read_archive(spark, settings, contract, chosen)
    rows.writeTo(str(name)).options(**snapshot_options(lineage)).overwrite(written)
    # The manifests know each partition's rows: no data file is read.
    counted = spark.sql(f"select partition.{by}, record_count from {name}.partitions").collect()
    if contract.days is None:
        return snapshot_id(spark, name), {None: sum(int(row[1]) for row in counted)}
    counts = {row[0]: int(row[1]) for row in counted}
    return snapshot_id(spark, name), {part: counts.get(part, 0) for part in versions}


def read_archive(
    spark: "SparkSession", settings: Settings, contract: Contract, versions: Sequence[Version]
) -> "DataFrame":
    """The rows of some file versions, in Bronze's columns. A file that arrived twice is read once, and its rows stand
    for both versions. A column that a file does not have is null."""
    from pyspark.sql import functions as F

    arrived = spark.createDataFrame(
        [(version.archived(settings).name, version.path, version.sequence, version.day) for version in versions],
        "archived string, source_file string, source_sequence bigint, ds date",
    )
    read = {"csv": _csv, "json": _json, "parquet": _parquet}[contract.format]
    alike = sorted(versions, key=lambda version: version.header or ())
    groups = [
        read(spark, contract, header, sorted({str(version.archived(settings)) for version in of_header}))
        for header, of_header in groupby(alike, key=lambda version: version.header or ())
    ]
    files = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), groups)
    present = {name for version in versions for name in version.header or [one.name for one in contract.received]}
    absent = {column.name: F.lit(None).cast("string") for column in contract.received if column.name not in present}
    whole = files.withColumns(absent) if absent else files
    return whole.join(F.broadcast(arrived), "archived").select(*bronze_columns(contract))


def _csv(spark: "SparkSession", contract: Contract, header: Sequence[str], files: list[str]) -> "DataFrame":
    text = ", ".join(f"`{name}` string" for name in header)
    reader = spark.read.schema(f"{text}, `{CORRUPT}` string").options(
        header=True,
        enforceSchema=True,  # the archive compared the header, by name
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=CORRUPT,
        escape='"',  # as RFC 4180 has it; Spark's own default is the backslash
        multiLine=True,  # quoted line breaks; of a file whose lines end with \r\n they read as \n
    )
    return _numbered(reader.csv(files))


def _json(spark: "SparkSession", contract: Contract, header: Sequence[str], files: list[str]) -> "DataFrame":
    """A row an object; what it has within an object or array stays JSON. A number keeps its value, to 38 digits, not how it
    was written. A line that is not one object, or has fields twice or fields that the contract does not know, is kept
    whole beside what could be read."""
    from pyspark.sql import functions as F

    names = [column.name for column in contract.received]
    # Read as a string, a number would go through a double and lose digits.
    kinds = "".join(f"`{name}` variant, " for name in names)
    lines = _numbered(spark.read.text(files)).where(F.trim("value") != "")
    keys = F.json_object_keys("value")
    strange = keys.isNull() | (F.size(F.array_except(keys, F.array(*map(F.lit, names)))) > 0)
    # Of two objects in a line only the first is looked at by anybody; as an array they are two, or no JSON.
    objects = F.json_array_length(F.concat(F.lit("["), F.col("value"), F.lit("]")))
    strange |= (F.size(keys) != F.size(F.array_distinct(keys))) | (F.coalesce(objects, F.lit(0)) != 1)
    strange |= F.col("value").rlike(HALF_A_CHARACTER)
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    return (
        lines.withColumn("_read", F.from_json("value", f"{kinds}`{CORRUPT}` string", options))
        # bytes that are no UTF-8 become U+FFFD, as in the values: other engines refuse them
        .withColumn(CORRUPT, F.when(strange | F.col(f"_read.{CORRUPT}").isNotNull(), F.make_valid_utf8("value")))
        .select(
            "archived", "source_row", CORRUPT, *[F.col(f"_read.{name}").cast("string").alias(name) for name in names]
        )
    )


def _parquet(spark: "SparkSession", contract: Contract, header: Sequence[str], files: list[str]) -> "DataFrame":
    import pyarrow.parquet as pq
    from pyspark.sql import functions as F

    # Files of one header may differ in types (an empty column, an int that became a bigint): those alike are read together.
    alike: defaultdict[str, list[str]] = defaultdict(list)
    schemas: dict[str, pa.Schema] = {}
    for file in files:
        schema = pq.read_schema(file)
        schemas[schema.to_string(show_schema_metadata=False)] = schema
        alike[schema.to_string(show_schema_metadata=False)].append(file)
    texts: list[DataFrame] = []
    for written, of_schema in alike.items():
        frame = _numbered(spark.read.parquet(*of_schema))
        columns = [_text(frame, schemas[written].field(name)) for name in header if name in frame.columns]
        texts.append(frame.select("archived", "source_row", *columns))
    return reduce(lambda one, other: one.unionByName(other), texts).withColumn(CORRUPT, F.lit(None).cast("string"))


def _text(frame: "DataFrame", written: "pa.Field") -> "SparkColumn":
    """A typed value as the text that casts back to it."""
    import pyarrow as pa
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    name = written.name
    kind = frame.schema[name].dataType
    if isinstance(kind, T.ArrayType | T.MapType | T.StructType):
        return F.to_json(name).alias(name)
    if pa.types.is_timestamp(written.type) and written.type.unit == "ns":
        # Read as a number (see session.py). Digits beyond the microsecond stay: Silver says what it thinks of them.
        beyond = F.pmod(F.col(name), F.lit(1000))
        moment = F.timestamp_micros(F.call_function("div", F.col(name) - beyond, F.lit(1000)))
        digits = F.when(beyond > 0, F.lpad(beyond.cast("string"), 3, "0")).otherwise("")
        zone = F.lit("Z" if written.type.tz else "")
        return F.concat(F.date_format(moment, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"), digits, zone).alias(name)
    if isinstance(kind, T.TimestampType):
        return F.date_format(name, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'").alias(name)
    text = F.col(name).cast("string")
    # Parquet's strings are bytes: what is no UTF-8 becomes U+FFFD, as it does of other formats
    return (F.make_valid_utf8(text) if isinstance(kind, T.StringType | T.BinaryType) else text).alias(name)


def _numbered(frame: "DataFrame") -> "DataFrame":
    """Adds `archived`, the file's name, and `source_row`, from 1. The session reads each file in one task (see session.py),
    and the lower 33 bits of the id count a task's rows: no shuffle is needed."""
    from pyspark.sql import functions as F

    within = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1)) + 1
    return frame.withColumns({"archived": F.col("_metadata.file_name"), "source_row": within})
