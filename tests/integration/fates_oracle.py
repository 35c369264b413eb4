"""What shall become of each row of a feed, from the rules as they are documented and nothing of the platform's code.

Belongs here: plain Python on texts. Does not belong here: Spark, files, or anything that `spark_assets` could share.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

ACCEPTED, QUARANTINED, SUPERSEDED, DUPLICATE = "accepted", "quarantined", "superseded", "duplicate"
Place = tuple[str, int, int]


class NotOfItsType(Exception):
    """The text is not written as its type is, or is too large for it."""


class BeyondPython(Exception):
    """A date or time that is real, but before year 1 or after 9999: out of range in any case."""


@dataclass(frozen=True)
class Rules:
    """A column, as a contract states it."""

    name: str
    kind: str
    required: bool = False
    key: bool = False
    allowed: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Received:
    """A row as it stands in a version of a file; `day` is that of the path, None in a full feed."""

    place: Place
    day: date | None
    texts: Mapping[str, str | None]
    malformed: bool


@dataclass
class Judged:
    """A row's fate, the reasons for it, and its values, which count only if it is accepted."""

    row: Received
    fate: str
    reasons: list[str]
    typed: dict[str, Any]


def judge(rows: Iterable[Received], columns: Sequence[Rules], day_column: str | None) -> dict[Place, Judged]:
    """Every row's fate, by its place."""
    judged = {row.place: _alone(row, columns, day_column) for row in rows}
    newest: dict[str, int] = defaultdict(int)
    for file, sequence, _ in judged:
        # each delivery of a full feed is the whole table, whatever its file is called
        newest[file if day_column else ""] = max(newest[file if day_column else ""], sequence)
    winners: dict[tuple[Any, ...], Judged] = {}
    # the one that arrived last wins, then the later row
    for (file, sequence, _), one in sorted(judged.items(), key=lambda item: (item[0][1], item[0][2])):
        if sequence < newest[file if day_column else ""]:
            one.fate = SUPERSEDED
        elif one.reasons:
            one.fate = QUARANTINED
        else:
            key = (one.row.day, *(one.typed[column.name] for column in columns if column.key))
            beaten = winners.get(key)
            winners[key] = one
            if beaten is not None:
                beaten.fate = DUPLICATE
    for one in judged.values():
        if one.fate == DUPLICATE:
            key = (one.row.day, *(one.typed[column.name] for column in columns if column.key))
            one.reasons = ["duplicate_of:" + ":".join(map(str, winners[key].row.place))]
    return judged


def _alone(row: Received, columns: Sequence[Rules], day_column: str | None) -> Judged:
    """What is wrong with a row whatever its neighbours are."""
    reasons = ["malformed_row"] * row.malformed
    typed: dict[str, Any] = {}
    for column in columns:
        text = row.texts[column.name]
        typed[column.name] = None
        if text is None:
            reasons += [f"missing:{column.name}"] * column.required
            continue
        outside = False
        try:
            value = typed[column.name] = typed_value(text, column.kind, column.zone)
            if isinstance(value, date):
                outside = not 1900 <= value.year <= 2299
            else:
                outside = column.minimum is not None and value < column.minimum
                outside |= column.maximum is not None and value > column.maximum
            if column.name == day_column and value != row.day:
                reasons.append(f"wrong_partition:{column.name}")
        except NotOfItsType:
            reasons.append(f"not_{'text' if column.kind == 'string' else column.kind}:{column.name}")
        except BeyondPython:
            outside = True
            reasons += [f"wrong_partition:{column.name}"] * (column.name == day_column)
        reasons += [f"out_of_range:{column.name}"] * outside
        if column.allowed and text not in column.allowed:
            reasons.append(f"not_allowed:{column.name}")
        if column.pattern and not re.fullmatch(column.pattern, text, re.ASCII):
            reasons.append(f"pattern:{column.name}")
    return Judged(row, ACCEPTED, reasons, typed)


def typed_value(text: str, kind: str, zone: str | None) -> Any:
    """A text as its type."""
    if kind == "string":
        if "\ufffd" in text or "\0" in text:
            raise NotOfItsType
        return text
    if kind in ("int", "bigint"):
        bits = 32 if kind == "int" else 64
        if not re.fullmatch(r"[+-]?[0-9]+", text) or not -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1):
            raise NotOfItsType
        return int(text)
    if kind == "double":
        return _double(text)
    if kind == "boolean":
        if text.lower() in ("true", "t", "yes", "y", "1"):
            return True
        if text.lower() in ("false", "f", "no", "n", "0"):
            return False
        raise NotOfItsType
    if kind == "date":
        match = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
        if not match:
            raise NotOfItsType
        return _moment(*match.groups()).date()
    if kind == "timestamp":
        return _timestamp(text, zone)
    precision, scale = (int(part) for part in kind.removeprefix("decimal(").rstrip(")").split(","))
    return _decimal(text, precision, scale)


def _double(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) or math.isinf(float(text)):
        raise NotOfItsType
    return float(text)


def _decimal(text: str, precision: int, scale: int) -> Decimal:
    """Exactly the number that was sent, or none: nothing is rounded."""
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", text):
        raise NotOfItsType
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    while len(digits) > 1 and digits[-1] == 0 and exponent < 0:
        digits, exponent = digits[:-1], exponent + 1
    whole = max(len("".join(map(str, digits)).lstrip("0")) + exponent, 0)
    if any(digits) and (-exponent > scale or whole > precision - scale):
        raise NotOfItsType
    return Decimal((sign, digits, exponent))


def _timestamp(text: str, zone: str | None) -> datetime:
    match = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
        r"(Z|[+-][0-9]{2}:?[0-9]{2})?",
        text,
    )
    if not match:
        raise NotOfItsType
    *parts, second, fraction, offset = match.groups()
    local = _moment(*parts, second or "0", (fraction or "0").ljust(6, "0"))
    try:
        if offset is None:
            # of a time that stands twice on the clock the first; one that the clock skips is as much later
            return local.replace(tzinfo=ZoneInfo(zone or "UTC")).astimezone(UTC)
        if offset == "Z":
            return local.replace(tzinfo=UTC)
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        if minutes > 59 or hours * 60 + minutes > 18 * 60:  # the widest offset that ISO's readers know
            raise NotOfItsType
        return local.replace(
            tzinfo=timezone(timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1))
        ).astimezone(UTC)
    except OverflowError as error:
        raise BeyondPython from error


def _moment(*parts: str) -> datetime:
    year, *others = map(int, parts)
    try:
        # year 0 has a leap day, as 2000 has
        moment = datetime(year or 2000, *others)  # type: ignore[arg-type]
    except ValueError as error:
        raise NotOfItsType from error
    if not year:
        raise BeyondPython
    return moment
