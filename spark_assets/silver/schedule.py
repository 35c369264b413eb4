"""What the planned flights of 2013 need beyond casts and keys: the vendor's local hhmm as moments in UTC.

Belongs here: scheduled times, the zone of a destination, and how a moment is found from what a local clock shows. Does not
belong here: actual times (flights).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Four destinations of the data, 7,602 flights, are not in airports, which has none of the Caribbean: three in Puerto Rico
# and one in the Virgin Islands. Both keep Atlantic time all year. With it their taxi time has a median of 21 to 29
# minutes in winter and in summer, as everywhere; with New York's it would be an hour more in winter.
ZONES_NOT_IN_AIRPORTS = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}


def transform(df: "DataFrame", refs: Mapping[str, "DataFrame"]) -> "DataFrame":
    """`scheduled_departure`, `scheduled_arrival` and `dest_zone`.

    A departure is the UTC hour that the vendor gives, plus the minutes of the local hhmm: New York's offset is whole hours,
    so local and UTC minutes are the same, on both days when the clocks change as well. An arrival is the first moment
    after it at which the destination's clocks show sched_arr_time: the longest planned flight takes 700 minutes.
    """
    from pyspark.sql import functions as F

    # 1,458 airports: sent to every task, so that the flights are not shuffled for them.
    zones = refs["airports"].select(F.col("faa").alias("dest"), F.col("tzone").alias("_airport_zone"))
    known = F.create_map(*[F.lit(text) for pair in ZONES_NOT_IN_AIRPORTS.items() for text in pair])
    return (
        df.join(F.broadcast(zones), "dest", "left")
        .select(
            *[F.col(column) for column in df.columns],
            (F.col("time_hour") + F.make_dt_interval(mins=F.col("sched_dep_time") % 100)).alias("scheduled_departure"),
            F.coalesce("_airport_zone", known[F.col("dest")]).alias("dest_zone"),
        )
        .withColumn("scheduled_arrival", first_after("scheduled_departure", "sched_arr_time", "dest_zone"))
    )


def first_after(moment: str, hhmm: str, zone: str) -> "Column":
    """The first moment after another at which the clocks of a zone show hhmm; 2400 is the midnight that ends a day.

    The date is taken from the zone's calendar and the offset from its date, so a clock change in between is counted. A
    time that the clocks skip is read with the offset from before the change, one that they show twice as the first.
    """
    from pyspark.sql import functions as F

    clock = F.make_dt_interval(hours=F.floor(F.col(hhmm) / 100).cast("int"), mins=F.col(hhmm) % 100)
    day = F.date_trunc("day", F.from_utc_timestamp(F.col(moment), F.col(zone)))
    today = F.to_utc_timestamp(day + clock, F.col(zone))
    tomorrow = F.to_utc_timestamp(day + F.make_dt_interval(days=F.lit(1)) + clock, F.col(zone))
    return F.when(today > F.col(moment), today).otherwise(tomorrow)
