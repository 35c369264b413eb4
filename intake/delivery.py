"""A file that a person has becomes files of landing, where the feed's sensor finds them.

Belongs here: copying into the feed's folder, and cutting a file of several days into a file a day. Does not belong here:
whether the rows are any good (Silver says), a vendor of whom we make the files (vendor.py).
"""

import csv
import gzip
import io
import json
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings
from intake.archive import is_unfinished

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def deliver(settings: Settings, contract: Contract, file: Path, day: date | None = None) -> list[Path]:
    """Copies a file into landing under its name. Under the same name again it is a newer version.

    Args:
        day: of a daily feed the day of all rows; without it the file is cut by the feed's day column.

    Returns:
        The files in landing.

    Raises:
        AssayError: there is no such file, the feed has no days, or the file cannot be cut; nothing landed.
    """
    if not file.is_file():
        raise AssayError(f"{file} is no file", f"type ./assay land {contract.feed} --file FILE")
    if is_unfinished(file.name):
        raise AssayError(
            f"{file.name} would never be read: names that begin with . or _ or end with .tmp are of unfinished files",
            "give it another name",
        )
    folder = settings.landing / contract.feed
    if contract.days is None:
        if day is not None:
            raise AssayError(f"{contract.feed} is sent whole, and has no days", "name no day")
        return [_put(folder / file.name, file)]
    if day is not None:
        return [_put(folder / f"ds={day}" / file.name, file)]
    parts = _cut(contract, file)
    return [_put(folder / f"ds={of_day}" / file.name, content) for of_day, content in sorted(parts.items())]


def _put(target: Path, content: Path | bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under a name that nobody takes for a finished file, until it is one.
    part = target.with_name(f".{target.name}.tmp")
    if isinstance(content, bytes):
        part.write_bytes(content)
    else:
        shutil.copyfile(content, part)
    return part.replace(target)


def _cut(contract: Contract, file: Path) -> dict[date, bytes]:
    column = contract.daily.column
    if contract.format == "parquet":
        raise AssayError(
            f"{file.name} is Parquet, which is not cut into days here",
            f"send a file a day: ./assay land {contract.feed} DAY --file FILE",
        )
    packed = file.name.endswith(".gz")
    raw = file.read_bytes()
    try:
        text = (gzip.decompress(raw) if packed else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise AssayError(f"{file.name} cannot be read: {error}", "write it again, as UTF-8") from error
    parts: dict[date, io.StringIO] = {}
    lines = (_lines_of_csv if contract.format == "csv" else _lines_of_json)(text, column)
    for number, (said, line) in enumerate(lines, start=1):
        day = _day(said)
        if day is None:
            raise AssayError(
                f"{file.name}: row {number} has {column} {said!r}, which is no day as 2025-01-31",
                f"mend it, or say of which day all rows are: ./assay land {contract.feed} DAY --file FILE",
            )
        if day not in parts:
            parts[day] = io.StringIO()
            parts[day].write(_header(text) if contract.format == "csv" else "")
        parts[day].write(line)
    if not parts:
        raise AssayError(f"{file.name} has no row", "land a file with rows")
    whole = {day: part.getvalue().encode() for day, part in parts.items()}
    return {day: gzip.compress(part, mtime=0) if packed else part for day, part in whole.items()}


def _day(said: Any) -> date | None:
    """Python takes 20250131 for a day as well, and Silver does not."""
    try:
        return date.fromisoformat(said) if DAY.fullmatch(str(said)) else None
    except ValueError:
        return None


def _header(text: str) -> str:
    return _row(next(csv.reader(io.StringIO(text, newline=""))))


def _row(values: list[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def _lines_of_csv(text: str, column: str) -> Iterator[tuple[Any, str]]:
    csv.field_size_limit(sys.maxsize)  # a text may be as long as it likes
    rows = csv.reader(io.StringIO(text, newline=""))
    names = next(rows, [])
    if column not in names:
        raise AssayError(
            f"The file has no column {column}", f"its columns are {', '.join(names)[:200]}; the contract names others"
        )
    place = names.index(column)
    for row in rows:
        if row:
            yield (row[place] if len(row) > place else None), _row(row)


def _lines_of_json(text: str, column: str) -> Iterator[tuple[Any, str]]:
    for line in text.split("\n"):  # a text may hold what else Python ends lines by
        if line.strip():
            try:
                one = json.loads(line)
            except ValueError as error:
                raise AssayError(f"A line is no JSON: {error}", "write one object a line") from error
            yield (one.get(column) if isinstance(one, dict) else None), f"{line}\n"
