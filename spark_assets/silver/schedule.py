"""What the flights of 2013 need beyond casts and keys: the scheduled departure in UTC."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def transform(df: "DataFrame", refs: Mapping[str, "DataFrame"]) -> "DataFrame":
    """`scheduled_departure`: the UTC hour that the vendor gives, plus the minutes of the local hhmm. New York's offset is
    whole hours, so local and UTC minutes are the same, on both days when the clocks change as well."""
    from pyspark.sql import functions as F

    minutes = F.make_dt_interval(mins=F.col("sched_dep_time") % 100)
    return df.withColumn("scheduled_departure", F.col("time_hour") + minutes)
