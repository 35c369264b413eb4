"""What the columns of a sample seem to be: types, keys, gaps, allowed values, what is personal, which one is the day.

Belongs here: rules that read texts, each with what it rests on. Does not belong here: reading files (sampling.py), and how
a contract is written (new_feed.py). A guess never takes a value for more than Silver would: every row of the sample
passes. Libraries that guess types read 007 as 7, 1e5 as 100000 and N/A as a gap (docs/decisions/0024).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import combinations
from typing import Any

from foundation.contract import DAILY, FULL
from foundation.errors import AssayError
from intake.sampling import Sample

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?\.([0-9]+)")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-](?:0[0-9]|1[0-7]):?[0-5][0-9])?"
)
OTHER_DATES = re.compile(r"[0-9]{1,2}[./-][0-9]{1,2}[./-](?:[0-9]{4}|[0-9]{2})(?: .*)?|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}")
YEARS = range(1900, 2300)
PAIRS = ({"yes", "no"}, {"t", "f"}, {"y", "n"})
# A number that is a thousand times the largest one of the sample still fits.
HEAD_ROOM = 1_000
# As many decimals in each value, and few of them: money and the like, of which nothing may be rounded.
MONEY = 4
EXACT_DIGITS = 15  # a double keeps them
FEW, SEEN_EACH, ENOUGH_ROWS = 12, 5, 100
LONG_TEXT = 40
KEY_COLUMNS, KEY_AT_MOST, QUICK_LOOK = 14, 4, 2_000
ROWS_A_DAY = 10
ID = re.compile(r"(^|_)(id|key|code|no|nr|num|number|uuid|guid|sku|ref)$")
DAY = re.compile(r"(^|_)(day|date|dt)(_|$)")
NO_DAY = re.compile(r"birth|dob|hire|start|begin|end|expir|valid|until|since|due|creat|updat|sign|join")
PERSONAL = {
    "an e-mail address": re.compile(r"e_?mail"),
    "a telephone number": re.compile(r"phone|mobile|(^|_)(tel|fax|cell)(_|$)"),
    "a person's name": re.compile(
        r"(first|last|full|given|family|middle|maiden|user|customer|contact|person|employee|patient)_?name|surname"
    ),
    "an address": re.compile(r"address|street|(^|_)(zip|post)_?code|(^|_)zip(_|$)|(^|_)ip(_|$)"),
    "a date of birth": re.compile(r"birth|(^|_)dob(_|$)"),
    "a number that names a person or an account": re.compile(
        r"iban|passport|(^|_)(ssn|cvv)(_|$)|(card|account|licen[cs]e)_?(no|num)|(tax|national)_?id"
    ),
}
LOOKS = {
    "an e-mail address": re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}"),
    "a telephone number": re.compile(r"(?:\+|00|\()[0-9][0-9 ()/.-]{6,}[0-9]|[0-9]{3}-[0-9]{3}-[0-9]{4}"),
    "an IP address": re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"),
}
MOSTLY = 0.8


@dataclass(frozen=True)
class Guessed:
    """A column, with what each guess rests on.

    Args:
        kind: the contract's type; `why` it is that one.
        filled: how many rows have a value.
        personal: why its values seem to be about people; empty if they do not.
        allowed: its values, if they are few; `is_sure` if there is enough to go by.
        bounds: the least and the most, of a number, as they are written.
        zoneless: timestamps that name no zone.
    """

    name: str
    kind: str
    why: str
    filled: int
    personal: str = ""
    allowed: tuple[str, ...] = ()
    is_sure: bool = False
    bounds: tuple[str, str] | None = None
    zoneless: bool = False


@dataclass(frozen=True)
class Guess:
    """A feed. `day` and `days`, the first and the last one of the sample, are a daily feed's; `shared` is how many rows have
    the key of another one, none if the key is one."""

    sample: Sample
    columns: tuple[Guessed, ...]
    key: tuple[str, ...]
    shared: int
    load: str
    day: str | None
    days: tuple[date, date] | None

    def required(self, column: Guessed) -> bool:
        """Whether every row has a value."""
        return column.filled == self.sample.rows


def guess(sample: Sample, day: str | None = None, load: str | None = None) -> Guess:
    """What the columns of a sample seem to be.

    Args:
        day: the column that says of which day a row is, if it is known.
        load: `append_daily` or `full`, if it is known.

    Raises:
        AssayError: there can be no key, or the day that was named cannot be one.
    """
    columns = tuple(_judge(name, texts, sample.types.get(name)) for name, texts in sample.columns.items())
    filled = {column.name: column for column in columns if column.filled == sample.rows}
    day = _day(sample, columns, day, load)
    nested = {name for name, kind in sample.types.items() if kind == "nested"}
    candidates = [column for name, column in filled.items() if name not in nested]
    key, shared = _key(sample, candidates, day)
    days = None
    if day is not None:
        seen = [date.fromisoformat(text) for text in sample.columns[day] if text]
        days = min(seen), max(seen)
    return Guess(sample, columns, key, shared, DAILY if day else FULL, day, days)


def _judge(name: str, texts: Sequence[str | None], given: str | None) -> Guessed:
    values = [text for text in texts if text is not None]
    kind, why = _kind(values, given)
    column = Guessed(name, kind, why, len(values), _personal(name, values, kind))
    if kind == "timestamp":
        column = replace(column, zoneless=any(not TIMESTAMP.fullmatch(text)[1] for text in values))  # pyright: ignore[reportOptionalSubscript]
    if kind in ("int", "bigint", "double") or kind.startswith("decimal"):
        column = replace(column, bounds=(min(values, key=float), max(values, key=float)))
    if kind == "string" and not column.personal and given != "nested":
        counts = Counter(values)
        if 1 < len(counts) <= FEW and len(values) >= SEEN_EACH * len(counts) and all(map(_is_a_word, counts)):
            sure = len(values) >= ENOUGH_ROWS and min(counts.values()) >= SEEN_EACH
            column = replace(column, allowed=tuple(sorted(counts)), is_sure=sure)
    return column


def _is_a_word(text: str) -> bool:
    return len(text) <= LONG_TEXT and text.isprintable() and text == text.strip() != ""


def _kind(values: Sequence[str], given: str | None) -> tuple[str, str]:
    """The type of some texts, and why. `given` is what the file says: there, a text is none but a text or a time."""
    count = len(values)
    all_of = f"{count:,} of {count:,} values"
    if not values:
        return "string", "no row has a value: any type would do"
    if given == "boolean":
        return "boolean", "the file's own type"
    if given == "nested" or given == "mixed":
        return "string", "objects or lists, kept as JSON" if given == "nested" else "of several types in the file"
    if given == "float" or (given == "number" and any("e" in text.lower() for text in values)):
        if all(math.isfinite(float(text)) for text in values):
            return "double", "the file's own type"
        return "string", "has NaN or infinity, which no number may be: a gap should be empty"
    if given in (None, "number"):
        if all(map(INTEGER.fullmatch, values)):
            return _integer(values, all_of)
        numbers = [NUMBER.fullmatch(text) or INTEGER.fullmatch(text) for text in values]
        if all(numbers):
            return _fraction(values, all_of)
    if given in (None, "text"):
        if all(map(_is_date, values)):
            return "date", f"{all_of} are days"
        if all(_moment(text) is not None for text in values):
            return "timestamp", f"{all_of} are moments"
    words = {text.lower() for text in values}
    if given is None and (words <= {"true", "false"} or words in PAIRS):
        return "boolean", f"{all_of} are {' or '.join(sorted(words))}"
    return "string", _why_text(values, given)


def _integer(values: Sequence[str], all_of: str) -> tuple[str, str]:
    largest = max(abs(int(text)) if len(text) < 40 else 1 << 64 for text in values)
    if not all(len(text) < 40 and -(1 << 63) <= int(text) < 1 << 63 for text in values):
        return "string", "whole numbers of which some do not fit into 64 bits"
    kind = "int" if largest * HEAD_ROOM < 1 << 31 else "bigint"
    return kind, f"{all_of} are whole numbers"


def _fraction(values: Sequence[str], all_of: str) -> tuple[str, str]:
    parts = [text.lstrip("-").partition(".") for text in values]
    whole = max(len(before.lstrip("0")) for before, _, _ in parts)
    decimals = {len(after) for _, point, after in parts if point}
    most = max(decimals)
    if whole + most > 38:
        return "string", "numbers of more than 38 digits"
    if len(decimals) == 1 and most <= MONEY:
        digits = min(38, max(12, whole + most + 3))
        return (
            f"decimal({digits},{most})",
            f"{all_of} are numbers with {most} decimals: exact; double if they are measured",
        )
    if whole + most <= EXACT_DIGITS:
        return "double", f"{all_of} are numbers, with up to {most} decimals"
    return f"decimal({min(38, whole + most + 3)},{most})", f"{all_of} are numbers, of more digits than a double keeps"


def _is_date(text: str) -> bool:
    if not DATE.fullmatch(text):
        return False
    try:
        return date.fromisoformat(text).year in YEARS
    except ValueError:
        return False


def _moment(text: str) -> datetime | None:
    if not TIMESTAMP.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    # A zone that is written into the contract later moves a moment by less than a day.
    return utc if utc.year in YEARS and moment.year in YEARS[1:-1] else None


def _why_text(values: Sequence[str], given: str | None) -> str:
    """What kept a column from being more than text, without telling values."""
    if given is not None:
        return "the file's own type"
    looks: dict[str, Callable[[str], Any]] = {
        "whole numbers": INTEGER.fullmatch,
        "numbers": lambda text: INTEGER.fullmatch(text) or NUMBER.fullmatch(text),
        "days as 2025-01-31": _is_date,
        "moments as 2025-01-31T08:30:00Z": _moment,
    }
    for called, test in looks.items():
        found = sum(bool(test(text)) for text in values)
        if MOSTLY <= found / len(values) < 1:
            return f"{found:,} of {len(values):,} values are {called}, the others are not: text"
    if all(re.fullmatch(r"[+-]?[0-9]+", text) for text in values):
        return "digits with zeros or signs in front: text keeps them"
    if all(map(OTHER_DATES.fullmatch, values)):
        return "days or moments, but not written as 2025-01-31: text, until the sender writes them so"
    return "text"


def _personal(name: str, values: Sequence[str], kind: str) -> str:
    for called, pattern in PERSONAL.items():
        if pattern.search(name):
            return f"its name says that it is {called}"
    if not values:
        return ""
    if kind == "string":
        for called, pattern in LOOKS.items():
            found = sum(bool(pattern.fullmatch(text)) for text in values)
            if found / len(values) >= MOSTLY:
                return f"{found:,} of {len(values):,} values look like {called}"
    cards = sum(map(_is_card, values)) if kind in ("string", "bigint") else 0
    return f"{cards:,} of {len(values):,} values look like numbers of cards" if cards / len(values) >= MOSTLY else ""


def _is_card(text: str) -> bool:
    """A number of 13 to 19 digits whose check digit is right (Luhn)."""
    digits = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[2-6][0-9]{12,18}", digits):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _day(sample: Sample, columns: Sequence[Guessed], named: str | None, load: str | None) -> str | None:
    days = [column.name for column in columns if column.kind == "date" and column.filled == sample.rows]
    if named is not None:
        if load == FULL:
            raise AssayError("A full feed has no day column", "drop --day or --load full")
        if named not in days:
            found = next((column for column in columns if column.name == named), None)
            said = (
                f"is a {found.kind} with a value in {found.filled:,} of {sample.rows:,} rows"
                if found
                else "is no column"
            )
            there = f"name one of {', '.join(days)}" if days else "there is none in the file: --load full"
            raise AssayError(f"{named} {said}; the day of a row is a date that every row has, as 2025-01-31", there)
        return named
    if load == FULL:
        return None
    likely = [name for name in days if DAY.search(name) and not NO_DAY.search(name)]
    if load == DAILY and not days:
        raise AssayError(
            "No column can be the day of a row: none is a date, as 2025-01-31, in every row",
            "let the sender add the day, or take --load full: each file is the whole table then",
        )
    return (likely or days)[0] if load == DAILY else next(iter(likely), None)


def _key(sample: Sample, candidates: Sequence[Guessed], day: str | None) -> tuple[tuple[str, ...], int]:
    """The columns that name a row, the likeliest of those combinations of which no two rows are alike, and how many rows
    share their key, if there is none."""
    if not candidates:
        raise AssayError(
            f"Every column of {sample.file.name} has gaps: nothing names a row",
            "let the sender add a number or a code that every row has",
        )
    fixed = [] if day is None else [day]
    ranked = sorted((column for column in candidates if column.name != day), key=lambda one: _unlikely(sample, one))
    values = {column.name: _keyed(sample.columns[column.name], column.kind) for column in candidates}
    chosen = [column.name for column in ranked[:KEY_COLUMNS]]
    cost = {column.name: _unlikely(sample, column) for column in ranked}
    possible = [
        combination for size in range(0 if fixed else 1, KEY_AT_MOST + 1) for combination in combinations(chosen, size)
    ]
    for combination in sorted(possible, key=lambda names: sum(cost[name] + 1 for name in names)):
        names = [*fixed, *combination]
        # A table of days may have one row a day, which a few rows cannot tell.
        if not combination and sample.rows < ROWS_A_DAY:
            continue
        if _shared(values, names, QUICK_LOOK) == 0 and _shared(values, names, sample.rows) == 0:
            return _in_order(sample, names), 0
    everything = [*fixed, *(column.name for column in ranked)]
    return _in_order(sample, everything), _shared(values, everything, sample.rows)


def _in_order(sample: Sample, names: Iterable[str]) -> tuple[str, ...]:
    there = set(names)
    return tuple(name for name in sample.columns if name in there)


def _unlikely(sample: Sample, column: Guessed) -> int:
    """How odd it would be for a column to name a row: 0 for an id, much for what is measured."""
    if column.kind == "double":
        return 9
    if column.kind.startswith("decimal"):
        return 6
    if column.kind == "boolean":
        return 5
    if column.kind == "string":
        texts = sample.columns[column.name]
        length = sum(len(text or "") for text in texts) / len(texts)
        return (5 if length > LONG_TEXT else 0 if ID.search(column.name) else 1) + 3 * bool(column.personal)
    if column.kind in ("int", "bigint"):
        return 0 if ID.search(column.name) else 4
    return 2 if column.kind == "date" else 4


def _keyed(texts: Sequence[str | None], kind: str) -> list[Any]:
    """Values as Silver compares them: 1.0 is 1.00, and two zones may mean one moment."""
    if kind == "string" or kind == "date":
        return list(texts)
    if kind == "timestamp":
        return [_moment(text or "") for text in texts]
    if kind == "boolean":
        return [(text or "").lower()[:1] in ("t", "y") for text in texts]
    return [float(text or 0) if kind == "double" else Decimal(text or 0) for text in texts]


def _shared(values: dict[str, list[Any]], names: Sequence[str], rows: int) -> int:
    found = list(zip(*(values[name][:rows] for name in names), strict=True))
    return len(found) - len(set(found))
