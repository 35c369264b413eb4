"""What the model sees of a flight: the columns, and how they are put together for training and prediction alike.

Belongs here: the one function that turns flights into model input. Does not belong here: labels, models, tables to
write.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import AVAILABLE_AT
from feature_repo.store import EVENT_TIMESTAMP, historical_features
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

JUDGED_BEFORE_DEPARTURE = timedelta(hours=2)
KEY = ["flight_date", "carrier", "flight", "origin", "sched_dep_time"]
# What a flight must bring along, whether it comes from the schedule or from the facts.
FLIGHT_COLUMNS = [*KEY, "dest", "sched_arr_time", "scheduled_departure", "distance"]
CATEGORICAL = ["carrier", "origin", "dest"]
OF_SCHEDULE = ["departure_minute", "arrival_minute", "weekday", "distance"]
# Not the counts of 28 days: they differ from day to day and mean little, so trees use them to recognise single days and
# learn those days' weather (log loss skill for early February 2013 with them -0.2 %, without +0.8 %; later months
# barely differ).
OF_HISTORY = ["delayed_share_last_day", "delayed_share_28d", "mean_arrival_delay_28d"]
NUMERIC = [*OF_SCHEDULE, *OF_HISTORY]
MODEL_COLUMNS = [*CATEGORICAL, *NUMERIC]
HISTORY_AVAILABLE_AT = "history_available_at"


def with_features(settings: Settings, flights: "pd.DataFrame") -> tuple["pd.DataFrame", int | None]:
    """Puts the model's columns beside flights, as they were known two hours before departure.

    Args:
        settings: the environment whose Gold is read.
        flights: has `FLIGHT_COLUMNS`; any other column comes back untouched.

    Returns:
        The same rows, once each and in their order, with `judged_at` (UTC), `MODEL_COLUMNS` (numbers as float64, NaN if
        unknown) and `history_available_at`; and the snapshot of `gold/carrier_history` that was read.

    Raises:
        AssayError: see `feature_repo.store.historical_features`.
    """
    import pandas as pd

    departure = pd.to_datetime(flights["scheduled_departure"], utc=True).astype("datetime64[us, UTC]")
    frame = flights.assign(
        scheduled_departure=departure,
        judged_at=departure - JUDGED_BEFORE_DEPARTURE,
        departure_minute=_minute_of_day(flights["sched_dep_time"]),
        arrival_minute=_minute_of_day(flights["sched_arr_time"]),
        weekday=pd.to_datetime(flights["flight_date"]).dt.weekday.astype("float64"),
        distance=flights["distance"].astype("float64"),
    )
    asked = frame.assign(**{EVENT_TIMESTAMP: frame["judged_at"]})
    answer = historical_features(settings, asked)
    known = answer.frame
    known["delayed_share_last_day"] = known["delayed"] / known["arrivals"].where(known["arrivals"] > 0)
    known = known.rename(columns={AVAILABLE_AT: HISTORY_AVAILABLE_AT})
    wanted = [*frame.columns, *OF_HISTORY, HISTORY_AVAILABLE_AT]
    return known.filter(items=wanted), answer.snapshot_id


def on_days(days: Iterable[date]) -> str:
    """PyIceberg's filter for some days, at least one."""
    quoted = ", ".join(f"'{day}'" for day in days)
    return f"flight_date in ({quoted})"


def before_day(day: date) -> str:
    """PyIceberg's filter for all days before one."""
    return f"flight_date < '{day}'"


def _minute_of_day(hhmm: Any) -> Any:
    """Minutes since local midnight of numbers such as 1745; the vendor's 2400 becomes 1440."""
    number = hhmm.astype("float64")
    return number // 100 * 60 + number % 100
