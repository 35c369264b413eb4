"""Every Bronze row has one fate: accepted, quarantined (with every reason), superseded or duplicate.

Belongs here: what the contract's types, keys and rules mean for a row. Does not belong here: writing anything.
"""

from functools import reduce
from typing import TYPE_CHECKING

from foundation.contract import Column, Contract
from spark_assets.tables import CORRUPT

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

ACCEPTED, QUARANTINED, SUPERSEDED, DUPLICATE = "accepted", "quarantined", "superseded", "duplicate"
# A year on two cores runs as well with 8 tasks as with 64; a cluster has more to do with 64.
MAX_TASKS = 64
FATES = (ACCEPTED, QUARANTINED, SUPERSEDED, DUPLICATE)
# The typed columns stand beside the text until fates are known; no contract may start a name with an underscore.
TYPED = "_typed_"
# How a value of each type is written. No NaN and no infinity: a gap is an empty value. \z, as Java's $ lets a line break
# follow.
FORMS = {
    "int": r"^[+-]?\d+\z",
    "bigint": r"^[+-]?\d+\z",
    "double": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\z",
    "boolean": r"^(?i)(true|t|yes|y|1|false|f|no|n|0)\z",
    "date": r"^\d{4}-\d{2}-\d{2}\z",
    "timestamp": r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?\z",
}
ZONED = r"(Z|[+-]\d{2}:?\d{2})\z"
# What every engine of the platform can hold: ClickHouse's Date32 and DateTime64 end there.
YEARS = (1900, 2299)


def classify(bronze: "DataFrame", contract: Contract, days: int = 1) -> "DataFrame":
    """Adds `reasons` (array of text, empty if none; of a duplicate, the row that won), `fate`, and a typed column
    `_typed_<name>` for each received one.

    Args:
        bronze: whole days of the feed's Bronze table, or all of a full feed: a file's versions must be there together, or
            an old one would not be seen to be superseded.
        days: how many days there are; they are spread over as many tasks, up to `MAX_TASKS`.

    The newest version of a file wins, of a full feed the newest of all; among accepted rows of one key the one that arrived
    last wins, then the later row.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    newest = F.max("source_sequence").alias("_newest")
    if contract.days is None:
        received = bronze.crossJoin(F.broadcast(bronze.agg(newest)))
    else:
        # Days side by side in a task need no other shuffle: windows within a day follow.
        newest_of_files = bronze.groupBy("source_file").agg(newest)
        received = bronze.join(F.broadcast(newest_of_files), "source_file").repartition(min(days, MAX_TASKS), "ds")
    day = [] if contract.days is None else ["ds"]
    typed = received.withColumns({TYPED + column.name: _value(column) for column in contract.received})
    judged = typed.withColumn("reasons", F.filter(F.array(*_reasons(contract)), lambda reason: reason.isNotNull()))
    prior = (
        F.when(F.col("source_sequence") < F.col("_newest"), SUPERSEDED)
        .when(F.size("reasons") > 0, QUARANTINED)
        .otherwise(ACCEPTED)
    )
    of_key = Window.partitionBy(*day, "_prior", *[TYPED + key for key in contract.keys]).orderBy(
        F.desc("source_sequence"), F.desc("source_row")
    )
    place = F.concat_ws(":", F.lit("duplicate_of"), "source_file", "source_sequence", "source_row")
    beaten = (F.col("_prior") == ACCEPTED) & (F.col("_rank") > 1)
    return (
        judged.withColumn("_prior", prior)
        .withColumns({"_rank": F.row_number().over(of_key), "_winner": F.first_value(place).over(of_key)})
        .withColumn("reasons", F.when(beaten, F.array("_winner")).otherwise(F.col("reasons")))
        .withColumn("fate", F.when(beaten, DUPLICATE).otherwise(F.col("_prior")))
        .drop("_prior", "_newest", "_rank", "_winner")
    )


def accepted_rows(classified: "DataFrame", contract: Contract) -> "DataFrame":
    """The rows for Silver: typed columns under their own names, derived ones still missing."""
    from pyspark.sql import functions as F

    return classified.where(F.col("fate") == ACCEPTED).select(
        *[F.col(TYPED + column.name).alias(column.name) for column in contract.received],
        "source_file",
        "source_sequence",
        "source_row",
    )


def _reasons(contract: Contract) -> list["SparkColumn"]:
    """One expression a rule: its name if the row breaks it, else null."""
    from pyspark.sql import functions as F

    rules = [F.when(F.col(CORRUPT).isNotNull(), F.lit("malformed_row"))]
    for column in contract.received:
        rules += [F.when(broken, F.lit(f"{rule}:{column.name}")) for rule, broken in _broken(column).items()]
    if contract.days is not None:
        day = contract.days.column
        rules.append(F.when(F.col(TYPED + day) != F.col("ds"), F.lit(f"wrong_partition:{day}")))
    return rules


def _value(column: Column) -> "SparkColumn":
    """The text as its type, null if it is not written as that type is. Spark's own cast takes more than it should: `2013`
    as a date, `1.239` as decimal(10,2), `0x1p3` and `1d` as numbers."""
    from pyspark.sql import functions as F

    text = F.col(column.name)
    kind = column.spark_type
    if kind == "string":
        return text
    # Spark wants seconds before an offset: 12:00Z is null to it
    written = F.regexp_replace(text, r"([T ]\d{2}:\d{2})(Z|[+-])", "$1:00$2") if kind == "timestamp" else text
    value = written.try_cast(kind)
    if kind == "timestamp" and column.zone:
        value = F.when(text.rlike(ZONED), value).otherwise(F.to_utc_timestamp(value, column.zone))
    if kind.startswith("decimal"):
        scale = int(kind.rstrip(")").rpartition(",")[2])
        return F.when(text.rlike(rf"^[+-]?(\d+(\.\d{{0,{scale}}}0*)?|\.(?=\d)\d{{0,{scale}}}0*)\z"), value)
    if kind == "double":
        value = F.when(F.abs(value) < F.lit(float("inf")), value)
    return F.when(text.rlike(FORMS[kind]), value) if kind in FORMS else value


def _broken(column: Column) -> dict[str, "SparkColumn"]:
    from pyspark.sql import functions as F

    text, value = F.col(column.name), F.col(TYPED + column.name)
    rules: dict[str, SparkColumn] = {}
    if column.spark_type == "string":
        # Bytes that are no UTF-8 were read as U+FFFD; no engine but Spark takes a NUL.
        rules["not_text"] = text.contains("\ufffd") | text.contains("\0")
    else:
        rules[f"not_{column.spark_type}"] = text.isNotNull() & value.isNull()
    if column.required:
        absent = text.isNull()
        rules["missing"] = absent & (F.col("ds") >= F.lit(column.since)) if column.since else absent
    if column.allowed:
        rules["not_allowed"] = ~text.isin(*column.allowed)
    if column.pattern:
        rules["pattern"] = ~text.rlike(rf"^(?:{column.pattern})\z")
    bounds = [value < F.lit(column.minimum)] * (column.minimum is not None)
    bounds += [value > F.lit(column.maximum)] * (column.maximum is not None)
    if column.spark_type in ("date", "timestamp"):
        bounds.append(~F.year(value).between(*YEARS))
    if bounds:
        rules["out_of_range"] = reduce(lambda left, right: left | right, bounds)
    return rules
