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
FATES = (ACCEPTED, QUARANTINED, SUPERSEDED, DUPLICATE)
# The typed columns stand beside the text until fates are known; no contract may start a name with an underscore.
TYPED = "_typed_"


def classify(bronze: "DataFrame", contract: Contract) -> "DataFrame":
    """Adds `reasons` (array of text, empty if none), `fate`, and a typed column `_typed_<name>` for each received one.

    Args:
        bronze: whole days of the feed's Bronze table: a file's versions must be there together, or an old one would not
            be seen to be superseded.

    The newest version of a file wins; among accepted rows of one key the one that arrived last wins, then the later row.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    typed = bronze.withColumns(
        {TYPED + column.name: F.col(column.name).try_cast(column.spark_type) for column in contract.received}
    )
    newest = F.max("source_sequence").over(Window.partitionBy("source_file"))
    judged = typed.withColumns(
        {"reasons": F.filter(F.array(*_reasons(contract)), lambda reason: reason.isNotNull()), "_newest": newest}
    )
    prior = (
        F.when(F.col("source_sequence") < F.col("_newest"), SUPERSEDED)
        .when(F.size("reasons") > 0, QUARANTINED)
        .otherwise(ACCEPTED)
    )
    of_key = Window.partitionBy("_prior", *[TYPED + key for key in contract.keys]).orderBy(
        F.desc("source_sequence"), F.desc("source_row")
    )
    fate = F.when((F.col("_prior") == ACCEPTED) & (F.row_number().over(of_key) > 1), DUPLICATE).otherwise(
        F.col("_prior")
    )
    return judged.withColumn("_prior", prior).withColumn("fate", fate).drop("_prior", "_newest")


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
    other_day = F.col(TYPED + contract.day_column) != F.col("ds")
    rules.append(F.when(other_day, F.lit(f"wrong_partition:{contract.day_column}")))
    return rules


def _broken(column: Column) -> dict[str, "SparkColumn"]:
    from pyspark.sql import functions as F

    text, value = F.col(column.name), F.col(TYPED + column.name)
    unreadable = text.isNotNull() & value.isNull()
    if column.spark_type == "double":
        unreadable = unreadable | F.isnan(value)  # the text "NaN" is a number to Spark and a gap to everybody else
    rules = {f"not_{column.spark_type}": unreadable}
    if column.required:
        rules["missing"] = text.isNull()
    if column.allowed:
        rules["not_allowed"] = ~text.isin(*column.allowed)
    if column.pattern:
        rules["pattern"] = ~text.rlike(f"^(?:{column.pattern})$")
    bounds = [value < F.lit(column.minimum)] * (column.minimum is not None)
    bounds += [value > F.lit(column.maximum)] * (column.maximum is not None)
    if bounds:
        rules["out_of_range"] = reduce(lambda left, right: left | right, bounds)
    return rules
