"""What the unit tests share: a small feed of their own, its files, and a process that can be killed."""

import gzip
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from foundation.contract import SUFFIX, Contract, load_contract
from foundation.settings import Settings

FEED = "events"
HEADER = "day,code,amount"
FIRST = date(2013, 1, 1)


def document() -> dict[str, Any]:
    """A contract as a person would write it, for tests to spoil."""
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": FEED,
        "name": FEED,
        "version": "1.0.0",
        "status": "active",
        "team": {"name": "events", "members": [{"username": "team:events", "role": "owner"}]},
        "servers": [{"server": "landing", "type": "local", "path": "landing/events/", "format": "csv"}],
        "customProperties": [
            {"property": "load", "value": "append_daily"},
            {"property": "starts", "value": "2013-01-01"},
            {"property": "ends", "value": "2013-12-31"},
            {"property": "available", "value": "D+1 06:00 America/New_York"},
            {"property": "due", "value": "D+1 12:00 America/New_York"},
        ],
        "schema": [
            {
                "name": FEED,
                "physicalType": "table",
                "description": "What happened.",
                "properties": [
                    {"name": "day", "physicalType": "date", "primaryKey": True, "partitioned": True},
                    {"name": "code", "physicalType": "string", "primaryKey": True},
                    {"name": "amount", "physicalType": "int"},
                    {"name": "double_amount", "physicalType": "int", "transformLogic": "twice the amount"},
                ],
            }
        ],
    }


def full_document() -> dict[str, Any]:
    """The contract of a feed that sends its whole table each time."""
    content = document()
    content["customProperties"] = [{"property": "load", "value": "full"}]
    del content["schema"][0]["properties"][0]["partitioned"]
    return content


def written(folder: Path, content: dict[str, Any]) -> Path:
    """The contract's file."""
    file = folder / f"{FEED}{SUFFIX}"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def events(folder: Path) -> Contract:
    """The contract of the tests' own feed."""
    return load_contract(written(folder, document()))


def csv_bytes(*codes: str, day: date = FIRST, header: str = HEADER) -> bytes:
    """A file's text, one row a code."""
    return "".join(f"{line}\n" for line in [header, *(f"{day},{code},1" for code in codes)]).encode()


def put(settings: Settings, content: bytes, day: date | str = FIRST, name: str = "events.csv") -> Path:
    """Puts a file into landing as a vendor would, packed if it is called so. A file put again is newer."""
    target = settings.landing / FEED / f"ds={day}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.stat().st_mtime_ns if target.exists() else None
    target.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    if before is not None:
        os.utime(target, ns=(before + 1_000_000_000, before + 1_000_000_000))
    return target


def day_number(number: int) -> date:
    """The nth day of the feed, from 0."""
    return FIRST + timedelta(days=number)


def forked(work: Callable[[], object]) -> int:
    """Does the work in a process of its own and returns its id; it exits with 0, or with 1 if the work raised."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, the parent's tests must not run on in this process
        os._exit(1)
