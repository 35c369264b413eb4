"""Feeds that only a test knows: a contract in a folder of its own, files put into landing, tables read back.

Belongs here: what tests of many feeds share. Does not belong here: what any of them expects.
"""

import gzip
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from foundation.contract import SUFFIX, Contract, load_contract
from foundation.lake import load_table, open_catalog
from foundation.settings import Settings

LINEAGE = {"dagster.run_id": "a-test"}
LAYERS = ("bronze", "silver", "quarantine")
Place = tuple[str, int, int]


def column(name: str, kind: str, *, options: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A column as a contract declares it. `options` are its logicalTypeOptions, `more` whatever else stands beside them."""
    return {"name": name, "physicalType": kind, **({"logicalTypeOptions": dict(options)} if options else {}), **more}


def day_column(name: str = "day") -> dict[str, Any]:
    return column(name, "date", primaryKey=True, partitioned=True)


@dataclass
class OwnFeeds:
    """Makes feeds in a running home, and takes them out of it again."""

    settings: Settings
    folder: Path
    names: list[str] = field(default_factory=list)

    def name(self, about: str) -> str:
        """A feed's name that no earlier run of the tests in this home had."""
        return f"{about}_{secrets.token_hex(4)}"

    def contract(
        self,
        feed: str,
        columns: Sequence[Mapping[str, Any]],
        *,
        form: str = "csv",
        load: str = "append_daily",
        max_quarantined: float = 1.0,
    ) -> Contract:
        """Writes a contract and reads it; written again, it is the next state of the same feed."""
        custom: dict[str, Any] = {"load": load, "max_quarantined": max_quarantined}
        if load == "append_daily":
            custom |= {"starts": "2013-01-01", "available": "D+1 06:00 UTC", "due": "D+1 12:00 UTC"}
        document = {
            "apiVersion": "v3.1.0",
            "kind": "DataContract",
            "id": feed,
            "name": feed,
            "version": "1.0.0",
            "status": "active",
            "team": {"name": "tests", "members": [{"username": "team:tests", "role": "owner"}]},
            "servers": [{"server": "landing", "type": "local", "path": f"landing/{feed}/", "format": form}],
            "customProperties": [{"property": name, "value": value} for name, value in custom.items()],
            "schema": [{"name": feed, "physicalType": "table", "properties": [dict(one) for one in columns]}],
        }
        file = self.folder / f"{feed}{SUFFIX}"
        file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
        if feed not in self.names:
            self.names.append(feed)
        return load_contract(file)

    def put(self, feed: str, name: str, content: bytes, day: date | None = None, *, as_it_is: bool = False) -> str:
        """Puts a file into landing as a vendor would, packed if it is called so (unless as it is), and returns its path
        there. A file put again is newer, even for a clock that has not moved."""
        folder = self.settings.landing / feed
        target = (folder if day is None else folder / f"ds={day}") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.stat().st_mtime_ns if target.exists() else 0
        target.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") and not as_it_is else content)
        newer = max(before + 1_000_000_000, target.stat().st_mtime_ns)
        os.utime(target, ns=(newer, newer))
        return str(target.relative_to(self.settings.landing))

    def take_away(self) -> None:
        """Tables of tests would show in whatever lists the lake's tables."""
        catalog = open_catalog(self.settings)
        for feed in self.names:
            for layer in LAYERS:
                name = self.settings.table(layer, feed).in_catalog
                if catalog.table_exists(name):
                    catalog.purge_table(name)
            shutil.rmtree(self.settings.landing / feed, ignore_errors=True)


def table_rows(settings: Settings, layer: str, feed: str) -> dict[Place, dict[str, Any]]:
    """The rows of a table by where they came from, read by another library than wrote them."""
    rows = load_table(settings, layer, feed).scan().to_arrow().to_pylist()
    by_place = {(row["source_file"], row["source_sequence"], row["source_row"]): row for row in rows}
    assert len(by_place) == len(rows), "a row of a file stands in one row of a table"
    return by_place


def values(rows: Mapping[Place, Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """Some columns of a table's rows, in order of their place."""
    return [tuple(row[name] for name in names) for _, row in sorted(rows.items())]
