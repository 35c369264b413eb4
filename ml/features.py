"""What the model sees of a flight: the columns, and how they are put together for training, prediction and serving alike.

Belongs here: the one way from flights to model input. Does not belong here: labels, models, tables to write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import AVAILABLE_AT as KNOWN_FROM
from feature_repo.definitions import CALENDAR, CALENDAR_FEATURES, MEASURED, RATES, VIEWS
from feature_repo.service import EVENT_TIMESTAMP, historical_features, online_features
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

PREDICTED_BEFORE_DEPARTURE = timedelta(hours=2)
PREDICTED_AS_OF = "predicted_as_of"
KEY = ["flight_date", "carrier", "flight", "origin", "sched_dep_time"]
# What a flight must bring along, whether it comes from the schedule, from the facts, or over the wire.
FLIGHT_COLUMNS = [*KEY, "dest", "tailnum", "sched_arr_time", "scheduled_departure", "distance"]
CATEGORICAL = ["carrier", "origin", "dest"]
HISTORIES = ("carrier_history", "route_history", "aircraft_history")
# Not the counts: they differ from day to day and mean little, so trees use them to recognise single days and learn those
# days' weather (log loss skill for early February 2013 with the carriers' -0.2 %, without +0.8 %).
NUMERIC = [
    "distance",
    *(f"{CALENDAR}__{name}" for name in CALENDAR_FEATURES),
    *(f"{view}__{name}" for view in HISTORIES for name in RATES),
    *(f"origin_weather__{name}" for name in MEASURED),
]
MODEL_COLUMNS = [*CATEGORICAL, *NUMERIC]
AVAILABLE_AT = [f"{view}__{KNOWN_FROM}" for view in VIEWS]
OF_VIEW = {view: [name for name in NUMERIC if name.startswith(f"{view}__")] for view in VIEWS}


@dataclass(frozen=True)
class Known:
    """Flights with what was known of them.

    Args:
        frame: the flights, once each and in their order, other columns untouched; beside them `predicted_as_of` (UTC),
            `MODEL_COLUMNS` (numbers as float64, NaN if unknown) and `AVAILABLE_AT` (UTC, null if unknown).
        snapshots: the snapshots of Gold that were read, by full table name (`lake.gold.carrier_history`).
    """

    frame: "pd.DataFrame"
    snapshots: dict[str, int]


@dataclass(frozen=True)
class OnlineInputs:
    """What a served model is given.

    Args:
        frame: `MODEL_COLUMNS`, a row a flight, in their order; what is unknown or stale is missing.
        age_hours: for each flight the age of what each view served, None if it served nothing.
        unknown: for each flight the views that served nothing, or what is only known later than now: the clock may stand in
            2013 while the store is ahead.
        stale: for each flight the views whose row is past its time to live.
    """

    frame: "pd.DataFrame"
    age_hours: list[dict[str, float | None]]
    unknown: list[list[str]]
    stale: list[list[str]]


def with_features(settings: Settings, flights: "pd.DataFrame", as_of: datetime | None = None) -> Known:
    """Puts the model's columns beside flights, as they were known two hours before departure, or now if that is earlier.

    Args:
        settings: the environment whose Gold is read.
        flights: has `FLIGHT_COLUMNS`; any other column comes back untouched.
        as_of: nothing that became available after this moment (with a time zone) is used.

    Returns:
        The same rows, once each and in their order. A flight without `scheduled_departure` has no feature that depends on
        the moment.

    Raises:
        AssayError: see `feature_repo.service.historical_features`.
    """
    import pandas as pd

    departure = pd.to_datetime(flights["scheduled_departure"], utc=True).astype("datetime64[us, UTC]")
    moment = departure - PREDICTED_BEFORE_DEPARTURE
    if as_of is not None:
        moment = moment.mask(moment > pd.Timestamp(as_of), pd.Timestamp(as_of).as_unit("us").tz_convert("UTC"))
    asked = pd.DataFrame(
        {
            "carrier": flights["carrier"],
            "route": _routes(flights),
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            **{name: flights[name] for name in ("flight_date", "sched_dep_time", "sched_arr_time")},
            EVENT_TIMESTAMP: moment,
        },
        index=flights.index,
    )
    answer = historical_features(settings, asked)
    wanted = [*(name for name in NUMERIC if "__" in name), *AVAILABLE_AT]
    frame = flights.assign(
        scheduled_departure=departure,
        distance=flights["distance"].astype("float64"),
        **{PREDICTED_AS_OF: moment},
        **{name: answer.frame[name].to_numpy() if name in NUMERIC else answer.frame[name].array for name in wanted},
    )
    return Known(frame, answer.snapshots)


def online_inputs(settings: Settings, flights: Sequence[Mapping[str, Any]]) -> OnlineInputs:
    """Puts the model's columns together from what the online store serves now.

    Args:
        settings: the environment whose online store is asked.
        flights: each has `FLIGHT_COLUMNS`; `tailnum` may be None.

    Raises:
        AssayError: see `feature_repo.service.online_features`.
    """
    import numpy as np
    import pandas as pd

    asked = [{**flight, "route": f"{flight['origin']}-{flight['dest']}"} for flight in flights]
    served = online_features(settings, asked)
    ages = [{view: row[f"{view}__age_hours"] for view in VIEWS} for row in served]
    unknown = [[view for view, age in of.items() if age is None or age < 0] for of in ages]
    stale = [[view for view, age in of.items() if age is not None and age > _lives_hours(view)] for of in ages]
    # Before there is a frame: to make single cells of one missing costs 4 ms a flight.
    for row, gone in zip(served, map(list.__add__, unknown, stale), strict=True):
        row |= {name: None for view in gone for name in OF_VIEW[view]}
    rows = [{**flight, **row} for flight, row in zip(flights, served, strict=True)]
    # Numbers as one array: column by column, pandas takes as long for one flight as Feast does.
    numbers = np.array([[row[name] for name in NUMERIC] for row in rows], dtype="float64")
    frame = pd.DataFrame(numbers, columns=pd.Index(NUMERIC))
    for name in reversed(CATEGORICAL):
        frame.insert(0, name, np.array([row[name] for row in rows], dtype=object))
    return OnlineInputs(frame, ages, unknown, stale)


def _lives_hours(view: str) -> float:
    return VIEWS[view].lives / timedelta(hours=1)


def on_days(days: Iterable[date]) -> str:
    """PyIceberg's filter for some days, at least one."""
    quoted = ", ".join(f"'{day}'" for day in days)
    return f"flight_date in ({quoted})"


def before_day(day: date) -> str:
    """PyIceberg's filter for all days before one."""
    return f"flight_date < '{day}'"


def _routes(flights: "pd.DataFrame") -> "pd.Series":
    return flights["origin"].str.cat(flights["dest"], sep="-")
