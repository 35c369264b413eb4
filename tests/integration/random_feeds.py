"""Contracts at random, and files that fit them or do not.

Belongs here: what a vendor might declare and send. Does not belong here: what shall become of it (fates_oracle).
"""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.integration.fates_oracle import Rules

DAYS = (date(2013, 3, 10), date(2013, 11, 3))  # New York's and Lord Howe's clocks change there or near
# Bytes that are no UTF-8 are written as lone surrogates until they become bytes.
RAW = "\udce9"
GOOD = {
    "int": ["0", "7", "-7", "+7", "007", "2147483647", "-2147483648", "42"],
    "bigint": ["0", "1", "01", "-9223372036854775808", "9223372036854775807", "+12", "9007199254740993"],
    "double": ["0", "-0.0", "1.5", "1.", ".5", "1e3", "-2.5E-3", "1e-400", "5e-324", "0.1", "1.7976931348623157e308"],
    "boolean": ["true", "FALSE", "t", "F", "yes", "No", "y", "n", "1", "0"],
    "date": ["2013-01-01", "1900-01-01", "2299-12-31", "2012-02-29", "2000-02-29"],
    "timestamp": [
        "2013-03-10 02:30:00",
        "2013-03-10T02:30",
        "2013-11-03T01:30:00.5",
        "2013-10-06 02:15:00",
        "2013-07-01T12:00:00Z",
        "2013-07-01 12:00:00.123456+05:30",
        "2013-07-01T12:00-0330",
        "1900-06-01T00:00:00",
        "2299-12-31T11:59:59.999999",
        "2300-01-01T00:30:00+01:00",
        "2013-07-01T12:00:00+18:00",
    ],
    "string": [
        "plain",
        "with, comma",
        'a "quote"',
        '"',
        '""',
        "two\nlines",
        "two\r\nlines",
        "one\rreturn",
        " spaces ",
        "\ttab",
        "ünï😀",
        "back\\slash",
        '\\"',
        "#comment",
        "a\u2028b",
        "null",
        "NaN",
        "'single'",
        "x" * 5000,
        "\u00a0",
    ],
}
BAD = {
    "int": ["2147483648", "1.0", "1e3", "0x10", "1_000", "1,000", "٣", "--1", "7\n"],
    "bigint": ["9223372036854775808", "1.5", "0x10", "1_000", "12L", "7\n"],
    "double": ["NaN", "inf", "-Infinity", "1e400", "0x10", "0x1p3", "1d", "1_000", "1e", ".", "1,5", "2\n"],
    "boolean": ["maybe", "2", "tru", "on", " true ", "true\n"],
    "date": [
        "2013-02-30",
        "2013",
        "2013-1-1",
        "0001-01-01",
        "9999-12-31",
        "0000-02-29",
        "2300-01-01",
        "1899-12-31",
        "2013-01-01T00:00:00",
        "01/02/2013",
        "2013-13-01",
        "2013-01-01\n",
        "+2013-01-01",
    ],
    "timestamp": [
        "2013-01-01",
        "2013-01-01T25:00:00",
        "2013-01-01T12:60:00",
        "2013-01-01T12:00:60",
        "0001-01-01T00:00",
        "9999-12-31T23:59:59-05:00",
        "0001-01-01T00:00:00+05:00",
        "2013-02-30T00:00:00",
        "2013-01-01T12:00:00.1234567",
        "2013-01-01T12:00:00+18:30",
        "2013-01-01T12:00:00+05:60",
        "2013-01-01T12:00:00 Europe/Berlin",
        "12:00:00",
        "2299-12-31T23:30:00-01:00",
        "2013-01-01T12:00:00\n",
        "2013-01-01T12:00:00+1",
    ],
    "string": ["bad \ufffd", "nul \0 here", f"caf{RAW} latin"],
}
ANYWHERE = ["", " ", "x", " 1", "1 ", "1\0", "\ufffd", f"1{RAW}", "\u00a01", "null", "None", "'", '"', "\n", "١"]
ENUMS = ("red", "green", "dark blue")
NESTED = [
    '{"a": [1, {"b": null}], "n": 1.10, "t": "x, \\"y\\""}',
    "[]",
    '{"exact": 0.12345678901234567890, "large": 123456789012345678901234567890}',
    '[true, "\\u00e9\\n", {}]',
]
PATTERNS = {
    r"[A-Z]{2}\d*": ["AB", "XY12", "A", "AB\n", "ABx", "AB\u2028", "AB1\r\n"],
    r"a|b": ["a", "b", "ab", "xa", "b "],
    r"\w+@\w+\.\w+": ["a@b.com", "x@y", "ä@b.de", "a@b.com "],
}


@dataclass(frozen=True)
class Cell:
    """A value as sent. `text` is what it reads as; `raw` how it stands in JSON; `native` in a typed Parquet column. Of a
    number without quotes only its value is sent, `is_exact` is false: how it was written does not have to be kept."""

    text: str | None
    raw: str | None = None
    native: Any = None
    is_exact: bool = True


@dataclass(frozen=True)
class Layout:
    """How a file is written: its format, its columns in its own order, and what ends a line."""

    form: str
    names: Sequence[str]
    end: str


@dataclass(frozen=True)
class Line:
    """A row as sent. `spoiled` is what the vendor did to it: nothing, or how it came to be no row of its format."""

    cells: dict[str, Cell]
    spoiled: str = ""

    def reads_as(self, layout: Layout) -> dict[str, str | None]:
        """The text of each column, in a file of this layout."""
        texts = {name: cell.text and cell.text.replace(RAW, "\ufffd") for name, cell in self.cells.items()}
        if layout.form == "csv" and layout.end == "\r\n":
            # what ends a line of the file is a line break within a value as well, and reads as one
            texts = {name: text and text.replace("\r\n", "\n") for name, text in texts.items()}
        match self.spoiled:
            case "short":
                return texts | {layout.names[-1]: None}
            case "cut" | "array" | "control" | "latin":
                return dict.fromkeys(texts)
            case "twice":
                return texts | {"k_code": "1"}
            case _:
                return texts


def any_columns(random: Random, load: str) -> list[Rules]:
    """Every type at least once, in any order, each with rules of its own."""
    kinds = ["int", "bigint", "double", "boolean", "date", "timestamp", "string", _any_decimal(random)]
    kinds += random.choices([*kinds, "timestamp", _any_decimal(random)], k=random.randint(1, 4))
    columns = [_any_rules(random, f"c{number}_{kind.partition('(')[0]}", kind) for number, kind in enumerate(kinds)]
    keys = [Rules("k_code", "int", required=True, key=True)]
    if random.random() < 0.5:
        kind = random.choice(["string", "timestamp", "double", "boolean", "decimal(6,2)"])
        keys.append(
            Rules("k_more", kind, required=True, key=True, zone="America/New_York" * (kind == "timestamp") or None)
        )
    columns += keys + [Rules("day", "date", required=True, key=True)] * (load == "append_daily")
    random.shuffle(columns)
    return columns


def _any_decimal(random: Random) -> str:
    precision = random.choice([1, 5, 10, 18, 19, 38])
    return f"decimal({precision},{random.choice([0, min(2, precision), precision])})"


def _any_rules(random: Random, name: str, kind: str) -> Rules:
    required = random.random() < 0.3
    allowed: tuple[str, ...] = ()
    minimum = maximum = pattern = zone = None
    if kind in ("int", "bigint", "double") or kind.startswith("decimal"):
        minimum = random.choice([None, None, 0, -7, 0.5])
        maximum = random.choice([None, None, 42, 1000])
        if kind == "int" and random.random() < 0.2:
            allowed = ("7", "42", "007")
    if kind == "timestamp":
        zone = random.choice([None, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
    if kind == "string":
        match random.randrange(4):
            case 0:
                allowed = ENUMS
            case 1:
                pattern = random.choice(sorted(PATTERNS))
            case _:
                pass
    return Rules(name, kind, required, False, allowed, minimum, maximum, pattern, zone)


def any_line(random: Random, columns: Sequence[Rules], day: date | None, form: str) -> Line:
    """Two in three are rows that a good vendor would send."""
    clean = random.random() < 0.65
    cells = {column.name: _any_cell(random, column, day, clean, form) for column in columns}
    spoiled = ""
    if form != "parquet" and not clean and random.random() < 0.15:
        spoiled = random.choice(
            ["short", "long"] if form == "csv" else ["cut", "unknown", "array", "glued", "control", "twice", "latin"]
        )
    return Line(cells, spoiled)


def _any_cell(random: Random, column: Rules, day: date | None, clean: bool, form: str) -> Cell:
    if form == "parquet" and _is_native(column):
        return _native_cell(random, column, day, clean)
    if not column.required and random.random() < 0.08:
        return Cell(None)
    if clean or random.random() < 0.8:
        good = _good(random, column, day)
        text = random.choice([text for text in good if _keeps(column, text)] or good if clean else good)
    elif random.random() < 0.15:
        text = None
    else:
        other_day = [str(DAYS[0]), "2013-03-11"] if column.name == "day" else []
        decimals = ["1.239", "1e2", "12345678901234567890", ".5", "0.5", "9" * 39, "1.", "-.05"] * (
            "decimal" in column.kind
        )
        text = random.choice(BAD.get(column.kind, []) + ANYWHERE + other_day + decimals)
    if text == "" and form == "csv":
        return Cell(None)  # CSV cannot tell an empty text from none
    if form == "json" and column.kind == "string" and not (column.allowed or column.pattern) and random.random() < 0.3:
        nested = random.choice(NESTED)
        return Cell(nested, nested, is_exact=False)
    raw = _raw(random, column, text) if form == "json" else None
    if text is not None and raw == text and text not in ("true", "false"):
        return Cell(_plain(text), raw, is_exact=False)
    return Cell(text, raw)


def _plain(number: str) -> str:
    """A number as text of the same value, without zeros that say nothing."""
    if "." not in number or "e" in number.lower():
        return number
    return number.rstrip("0").removesuffix(".")


def _keeps(column: Rules, text: str) -> bool:
    """Whether a text of the column's type keeps its rules as well."""
    if column.pattern:
        return re.fullmatch(column.pattern, text, re.ASCII) is not None
    least, most = (float("-inf") if column.minimum is None else column.minimum), column.maximum or float("inf")
    return column.minimum is column.maximum is None or least <= float(text) <= most


def _good(random: Random, column: Rules, day: date | None) -> list[str]:
    if column.name == "day":
        return [str(day)]
    if column.name == "k_code":
        number = random.randrange(30)
        return [str(number), f"+{number}", f"0{number}"]
    if column.allowed:
        return list(column.allowed)
    if column.pattern:
        return PATTERNS[column.pattern]
    if column.kind.startswith("decimal"):
        precision, scale = (int(part) for part in column.kind[8:-1].split(","))
        whole = "9" * (precision - scale)
        most = f"{whole}.{'9' * scale}" if scale else whole
        return [
            most,
            f"-{most}",
            f"{most}{'000' * (scale > 0)}",
            "0",
            "+0",
            "0.000",
            *[f"0.{'0' * (scale - 1)}1"] * (scale > 0),
        ]
    return GOOD[column.kind]


def _raw(random: Random, column: Rules, text: str | None) -> str | None:
    """How JSON may say it: a number need not stand in quotes."""
    if text is None:
        return None
    try:
        number = json.loads(text, parse_float=Decimal, parse_constant=lambda _: None)
    except ValueError:
        number = None
    # Of a number only the value is sent, not how it is written: where that matters, it stands in quotes.
    as_written = column.kind in ("string", "date", "timestamp") or column.allowed
    as_written = as_written or ("e" in text.lower() and column.kind != "double")
    if isinstance(number, bool) and column.kind == "boolean" and text == text.strip() and random.random() < 0.5:
        return text
    if isinstance(number, int | Decimal) and text == text.strip() and not as_written and random.random() < 0.5:
        return text
    return json.dumps(text, ensure_ascii=random.random() < 0.5 and RAW not in text)


def _is_native(column: Rules) -> bool:
    return (
        column.name.startswith("c") and sum(map(ord, column.name)) % 3 > 0 and column.kind not in ("string", "boolean")
    )


def _native_cell(random: Random, column: Rules, day: date | None, clean: bool) -> Cell:
    if not column.required and random.random() < 0.1:
        return Cell(None)
    nasty = not clean and random.random() < 0.25
    value: Any
    if column.kind in ("int", "bigint"):
        value = random.choice([2**31, -(2**40)] if nasty else [0, 7, -7, 42, 2**31 - 1])
        return Cell(str(value), native=value, is_exact=False)
    if column.kind == "double":
        value = random.choice([float("nan"), float("inf")] if nasty else [0.0, 1.5, -0.0, 1e300, 5e-324, 0.1])
        return Cell(repr(value), native=value, is_exact=False)
    if column.kind == "date":
        value = random.choice([date(1, 1, 1), date(9999, 12, 31)] if nasty else [date(2013, 1, 1), date(1900, 1, 1)])
        return Cell(value.isoformat(), native=value, is_exact=False)
    if column.kind == "timestamp":
        naive = [datetime(2013, 3, 10, 2, 30), datetime(2013, 11, 3, 1, 30, 0, 5), datetime(2013, 7, 1)]
        value = random.choice([datetime(1, 1, 2), datetime(9999, 12, 30)] if nasty else naive)
        if not column.zone:
            return Cell(value.isoformat(sep=" ") + "Z", native=value.replace(tzinfo=UTC), is_exact=False)
        return Cell(value.isoformat(sep=" "), native=value, is_exact=False)
    value = random.choice([Decimal("1.239000"), Decimal("12345678.5")] if nasty else [Decimal("0"), Decimal("1")])
    return Cell(format(value.quantize(Decimal("0.000001")), "f"), native=value, is_exact=False)


def any_layout(random: Random, columns: Sequence[Rules], form: str) -> Layout:
    names = random.sample([column.name for column in columns], len(columns))
    return Layout(form, names, random.choice(["\n", "\r\n"]))


def as_bytes(random: Random, columns: Sequence[Rules], layout: Layout, lines: Sequence[Line]) -> bytes:
    """A file of these lines."""
    if layout.form == "parquet":
        return _parquet(random, columns, layout.names, lines)
    text = _csv(random, layout, lines) if layout.form == "csv" else _json_lines(layout, lines)
    # the last line may end or not
    text = text if random.random() < 0.5 else text.removesuffix(layout.end)
    return text.encode("utf-8", "surrogateescape")


def _csv(random: Random, layout: Layout, lines: Sequence[Line]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(
        file, lineterminator=layout.end, quoting=csv.QUOTE_ALL if random.random() < 0.5 else csv.QUOTE_MINIMAL
    )
    writer.writerow(layout.names)
    for line in lines:
        cells = [line.cells[name].text for name in layout.names]
        cells = {"short": cells[:-1], "long": [*cells, "one", "more"]}.get(line.spoiled, cells)
        writer.writerow(["" if cell is None else cell for cell in cells])
        file.write(layout.end * (random.random() < 0.05))  # an empty line is no row
    return file.getvalue()


def _json_lines(layout: Layout, lines: Sequence[Line]) -> str:
    return "".join(_json(line) + layout.end for line in lines)


def _json(line: Line) -> str:
    pairs = [f"{json.dumps(name)}: {cell.raw}" for name, cell in line.cells.items() if cell.raw is not None]
    pairs += [f"{json.dumps(name)}: null" for name, cell in line.cells.items() if cell.raw is None and len(name) % 2]
    whole = "{" + ", ".join(pairs) + "}"
    match line.spoiled:
        case "cut":
            return whole[:-2]
        case "unknown":
            return whole[:-1] + ', "surprise": 1}'
        case "array":
            return f"[{whole}]"
        case "glued":
            return whole + whole
        case "control":
            return whole[:-1] + ', "k_code": "a\tb"}'
        case "twice":
            return whole[:-1] + ', "k_code": 1}'
        case "latin":
            return f"nonsense {RAW}"
        case _:
            return whole


def _parquet(random: Random, columns: Sequence[Rules], names: Sequence[str], lines: Sequence[Line]) -> bytes:
    by_name = {column.name: column for column in columns}
    arrays: list[pa.Array] = []
    for name in names:
        cells = [line.cells[name] for line in lines]
        column = by_name[name]
        if not _is_native(column):
            texts = [cell.text.replace(RAW, "\ufffd") if cell.text is not None else None for cell in cells]
            arrays.append(pa.array(texts, pa.string()))
            continue
        kinds = {
            "int": pa.int64(),
            "bigint": pa.int64(),
            "double": pa.float64(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us", None if column.zone else "UTC"),
        }
        arrays.append(pa.array([cell.native for cell in cells], kinds.get(column.kind, pa.decimal128(38, 6))))
    file = io.BytesIO()
    # Several row groups: a row's number counts on through them.
    pq.write_table(pa.Table.from_arrays(arrays, list(names)), file, row_group_size=random.choice([7, 1000]))
    return file.getvalue()
