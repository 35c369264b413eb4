"""Whether a file can be read as its contract says: looked at once, in pieces, before its rows are anybody's concern.

Belongs here: what makes a whole file unreadable (damaged, not its format, other columns). Does not belong here: what is
wrong with single rows, which Silver's quarantine tells.
"""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.contract import Contract

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1 << 20
# A header line longer than this is not a header.
HEADER_BYTES = 1 << 16
# Characters of a column's name, at most: Python's own limit of a field.
MAX_NAME = 1 << 17
# Text may be 100 times its gzip, not 1,000: more is a bomb, and is refused before the disk notices.
MAX_EXPANSION = 200
# Spark's parser ends the whole job at a line with more fields than this: one such file would sink its neighbours.
MAX_FIELDS = 20_480
# A quote that neither opens nor closes a field.
INCH = re.compile(rb'(?<=[^,\r\n"])"(?=[^,\r\n"])')
LINE_END = re.compile(rb"[\r\n]")
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}

Verdict = tuple[str | None, Sequence[str] | None]


def inspect(file: Path, path: str, contract: Contract, day: date) -> Verdict:
    """Why a file cannot be read as its contract says (None if it can), and its columns in its own order (None if it has no
    header, as JSON lines). Memory does not grow with the file.

    Args:
        path: its name in landing; only one that ends in .gz is taken for gzip.
        day: the day that it is for; columns that came later than that may be missing.
    """
    if contract.format == "parquet":
        return _parquet(file, contract, day)
    head = b""
    quotes = longest = current = 0
    begun = header_over = rows = False
    try:
        for chunk in _text(file, path.endswith(".gz")):
            if len(head) < HEADER_BYTES:
                head += chunk
            if header_over:
                rows = rows or bool(chunk.strip())
            else:
                line, *others = LINE_END.split(chunk if begun else chunk.lstrip(), maxsplit=1)
                begun = begun or bool(line)
                header_over = begun and bool(others)
                rows = any(other.strip() for other in others)
            quotes += chunk.count(b'"')
            first, *others = chunk.split(b"\n")
            longest = max(longest, current + len(first), *map(len, others))
            current = len(others[-1]) if others else current + len(first)
    except _Bomb:
        return f"unpacks to more than {MAX_EXPANSION} times its size", None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"damaged gzip: {error}", None
    if not begun:
        return "empty file", None
    if contract.format == "json":
        array = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        return ("is one JSON array; send one object a line" if array else None), None
    reason, names = _header(head, contract, day)
    # A newer version without a row would leave nothing in Bronze that says that the older one's rows are gone.
    if reason is None and not rows:
        reason = "has a header and no row"
    # RFC 4180 writes a quote within a value twice, so that a sound file has an even number of them.
    if reason is None and quotes % 2:
        opened = _unclosed_line(file, path.endswith(".gz"))
        reason = f"a quote is opened in line {opened} and never closed" if opened else None
    # so many fields have one comma less
    if reason is None and longest >= MAX_FIELDS and (wide := _wide_line(file, path.endswith(".gz"))):
        reason = f"line {wide} has more than {MAX_FIELDS:,} fields"
    return reason, names


class _Bomb(Exception):
    pass


def _text(file: Path, packed: bool) -> Iterator[bytes]:
    limit = max(file.stat().st_size, 4096) * MAX_EXPANSION
    total = 0
    with _open(file, packed) as reader:
        while chunk := reader.read(CHUNK):
            total += len(chunk)
            if packed and total > limit:
                raise _Bomb
            yield chunk


def _open(file: Path, packed: bool) -> gzip.GzipFile | BufferedReader:
    return gzip.open(file, "rb") if packed else file.open("rb")


def _unclosed_line(file: Path, packed: bool) -> int:
    """The last line, the header is 1, that begins outside of quotes and ends inside: the later ones are within it. 0 if the
    quotes are even without those in the middle of a text, such as an inch sign."""
    inside, opened = False, 0
    with _open(file, packed) as reader:
        number = 1
        # in pieces, as a line may be as long as the file
        while piece := reader.readline(CHUNK):
            if (piece.count(b'"') - len(INCH.findall(piece))) % 2:
                inside = not inside
                opened = number if inside else opened
            number += piece.endswith(b"\n")
    return opened if inside else 0


def _wide_line(file: Path, packed: bool) -> int:
    """The line in which a row gets more fields than a row can have, 0 if there is none. Commas of a quoted value are not
    counted, and a quote opens one at the beginning of a field only: an inch sign within a text must hide nothing."""
    inside, before, number, commas = False, b"\n", 1, 0
    with _open(file, packed) as reader:
        while piece := reader.readline(CHUNK):
            ends = piece.endswith(b"\n")
            if ends and before == b"\n" and not inside and len(piece) < MAX_FIELDS and not piece.count(b'"') % 2:
                number += 1  # a row of its own, too short
                continue
            for position, part in enumerate(piece.split(b'"')):
                if position:
                    # a second quote right after one that closed is a quote within the value
                    inside, before = not inside and before in b',\r\n"', b'"'
                if not inside:
                    *rows, row = part.split(b"\r")  # old line ends
                    for ended in rows:
                        if commas + ended.count(b",") >= MAX_FIELDS:
                            return number
                        commas = 0
                    commas += row.count(b",")
                    if commas >= MAX_FIELDS:
                        return number
                before = part[-1:] or before
            number += ends
            commas = commas if inside or not ends else 0
    return 0


def _header(head: bytes, contract: Contract, day: date) -> Verdict:
    try:
        header = head.splitlines()[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"header is not UTF-8: {error.reason} at byte {error.start}", None
    csv.field_size_limit(MAX_NAME)  # of the process, and others read longer texts
    try:
        names = next(csv.reader([header]), [])
    except csv.Error as error:
        return f"header is no CSV: {error}", None
    first = contract.received[0].name
    for mark, called in OTHER_DELIMITERS.items():
        if len(names) == 1 and mark in header and first in next(csv.reader([header], delimiter=mark)):
            return f"its columns are separated by {called}, not commas", None
    return _columns(names, contract, day)


def _columns(names: Sequence[str], contract: Contract, day: date) -> Verdict:
    expected = {column.name: column for column in contract.received}
    missing = [
        name for name, column in expected.items() if name not in names and not (column.since and day < column.since)
    ]
    extra = [name for name in names if name not in expected]
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name in expected)
    detail = [f"lacks {', '.join(missing)}"] * bool(missing)
    detail += [f"has unknown {', '.join(map(_shown, extra))[:200]}"] * bool(extra)
    detail += [f"has {', '.join(twice)} twice"] * bool(twice)
    return (f"header {' and '.join(detail)}" if detail else None), names


def _shown(name: str) -> str:
    """A column's name; one that would not be seen, or not as it is, in quotes."""
    return name if name and name == name.strip() and name.isprintable() else repr(name)


def _parquet(file: Path, contract: Contract, day: date) -> Verdict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.stat().st_size:
        return "empty file", None
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as reader:
            schema = reader.schema_arrow
            for _ in reader.iter_batches():
                pass  # a damaged page shows only when it is read
            count = reader.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        return f"is no Parquet file: {str(error).splitlines()[0][:200]}", None
    reason, names = _columns(schema.names, contract, day)
    if reason is None and not count:
        reason = "has no row"
    strange = [f"{one.name} as {one.type}" for one in schema if not _is_readable(one.type)]
    if reason is None and strange:
        reason = f"has {', '.join(strange)[:200]}, which Spark does not read; send it as text"
    return reason, names


def _is_readable(kind: "pa.DataType") -> bool:
    """Whether Spark knows the type: one file with another would end its neighbours' job as well."""
    import pyarrow as pa

    if pa.types.is_time(kind) or pa.types.is_float16(kind):
        return False
    if pa.types.is_decimal(kind):
        return kind.precision <= 38
    return all(_is_readable(kind.field(number).type) for number in range(kind.num_fields))
