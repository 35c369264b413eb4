"""The first rows of a file that no contract knows yet, as the texts that Bronze would hold of them.

Belongs here: formats, and what of a file a person must mend before it can be a feed. Does not belong here: what its columns
are (guessing.py).
"""

import csv
import gzip
import io
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from foundation.errors import AssayError

# Judged in three seconds (100,000 rows of ten columns: in twelve); what types and keys rest on is there long before.
MAX_BYTES = 16 << 20
MAX_ROWS = 20_000
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
JQ = "jq -c '.[]'"
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Sample:
    """Some rows of a file.

    Args:
        format: `csv`, `json` or `parquet`.
        columns: name to the texts of its rows, None where nothing stands.
        types: the type that the file itself gives a column: `number`, `boolean`, `text` or `nested` of JSON and Parquet;
            nothing of CSV, where everything is text that may be anything.
        rows: how many were read.
        is_whole: whether that is all there are.
    """

    file: Path
    format: str
    columns: dict[str, list[str | None]]
    types: dict[str, str]
    rows: int
    is_whole: bool


def read_sample(file: Path, most: int = MAX_ROWS) -> Sample:
    """The first rows of a file, CSV, JSON lines (both also as `.gz`) or Parquet, by its content.

    Args:
        most: how many rows to read.

    Raises:
        AssayError: it is no file, empty, damaged, or not as the platform reads files; it says where and what to do.
    """
    if not file.is_file():
        raise AssayError(f"{file} is no file", "name a file with some rows of the feed: --from sample.csv")
    with file.open("rb") as reader:
        start = reader.read(4)
    if not start:
        _refuse(file, "is empty", "name a file with a header and some rows")
    if start == PARQUET:
        return _parquet(file, most)
    packed = file.name.endswith(".gz")
    if start.startswith(GZIP) and not packed:
        _refuse(
            file, "is packed with gzip and not called so", f"rename it: {shlex.join(['mv', str(file), f'{file}.gz'])}"
        )
    try:
        with gzip.open(file) if packed else file.open("rb") as reader:
            content = reader.read(MAX_BYTES)
            is_whole = not reader.read(1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        _refuse(file, f"is a damaged gzip: {error}", "pack it again")
    if not is_whole:  # the last line was cut
        content = content[: content.rfind(b"\n") + 1]
    text = _decoded(file, content)
    if not text.strip():
        _refuse(file, "holds nothing but blanks", "name a file with a header and some rows")
    if text.lstrip().startswith("["):
        _refuse(file, "is one JSON array", f"write one object a line: {piped(file, JQ, 'lines.jsonl')}")
    return (_json if text.lstrip().startswith("{") else _csv)(file, text, is_whole, most)


def _refuse(file: Path, what: str, next_action: str) -> NoReturn:
    raise AssayError(f"{file.name} {what}", next_action)


def piped(file: Path, command: str, target: str) -> str:
    """A command line that writes a file, packed or not, to another one, for a person to type."""
    name = shlex.quote(str(file))
    return f"zcat {name} | {command} > {target}" if file.name.endswith(".gz") else f"{command} {name} > {target}"


def _decoded(file: Path, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(file, "is UTF-16", f"write it as UTF-8: {piped(file, 'iconv -f UTF-16 -t UTF-8', 'utf8.csv')}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(
            file,
            f"is not UTF-8: byte {content[error.start]:#04x} in line {line}",
            f"write it as UTF-8, from the encoding that it has: {piped(file, 'iconv -f WINDOWS-1252 -t UTF-8', 'utf8.csv')}",
        )
    for character in ("\0", "\ufffd"):
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            _refuse(file, f"has {character!r} in line {line}, which no text may hold", "take it out of the file")
    return text


def _csv(file: Path, text: str, is_whole: bool, most: int) -> Sample:
    csv.field_size_limit(MAX_BYTES)
    # What ends a line of the file is a line break within a value as well, and Spark reads both as \n.
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n"), newline=""), strict=True)
    names: list[str] = []
    columns: dict[str, list[str | None]] = {}
    count = 0
    try:
        for row in reader:
            if not row:
                continue
            if not names:
                names = row
                _header(file, names)
                columns = {name: [] for name in names}
                continue
            if count == most:
                is_whole = False
                break
            if len(row) != len(names):
                _refuse(
                    file,
                    f"has {len(row)} fields in line {reader.line_num}, and {len(names)} in its header",
                    "mend that line, or take it out of the sample; a text with a comma stands in quotes",
                )
            for name, value in zip(names, row, strict=True):
                columns[name].append(value or None)
            count += 1
    except csv.Error as error:
        # The rest of a file that was cut within quotes is no mistake of the file's.
        if is_whole or not count:
            _refuse(
                file,
                f"is no CSV at line {reader.line_num}: {error}",
                "mend the quotes there: one within is written twice",
            )
    return _some(Sample(file, "csv", columns, {}, count, is_whole))


def _header(file: Path, names: Sequence[str]) -> None:
    for mark, called in DELIMITERS.items():
        if len(names) == 1 and mark in names[0]:
            _refuse(file, f"separates its columns by {called}", "write it with commas: the platform reads no other CSV")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        _refuse(file, f"has {', '.join(map(repr, twice))} twice in its header", "give each column a name of its own")


def _some(sample: Sample) -> Sample:
    if not sample.rows:
        _refuse(
            sample.file,
            "has a header and no row",
            "a sample needs rows: a few hundred are plenty, one day of them is good",
        )
    return sample


def _json(file: Path, text: str, is_whole: bool, most: int) -> Sample:
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(objects) == most:
            is_whole = False
            break
        try:
            one = json.loads(
                line, object_pairs_hook=_once, parse_int=_Number, parse_float=_Number, parse_constant=_no_number
            )
        except ValueError as error:
            _refuse(file, f"is no JSON in line {number}: {error}", "write one object a line")
        if not isinstance(one, dict):
            _refuse(file, f"has no object in line {number}", "write one object a line")
        if HALF_A_CHARACTER.search(json.dumps(one, ensure_ascii=False)):
            _refuse(file, f"has half of an escaped character in line {number}", "write such characters as UTF-8")
        objects.append(one)
    names = list(dict.fromkeys(name for one in objects for name in one))
    types = {name: _json_type(one[name] for one in objects if one.get(name) is not None) for name in names}
    columns = {name: [_json_text(one.get(name)) for one in objects] for name in names}
    return Sample(file, "json", columns, types, len(objects), is_whole)


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return dict(pairs)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON; a gap is null")


def _json_type(values: Any) -> str:
    kinds = {
        "number" if isinstance(value, _Number) else "boolean" if isinstance(value, bool) else
        "text" if isinstance(value, str) else "nested"
        for value in values
    }  # fmt: skip
    return kinds.pop() if len(kinds) == 1 else "nested" if "nested" in kinds else "mixed"


def _json_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parquet(file: Path, most: int) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as reader:
            count = reader.metadata.num_rows
            schema = reader.schema_arrow
            batches = []
            for batch in reader.iter_batches(batch_size=min(most, 10_000)):
                batches.append(batch)
                if sum(len(one) for one in batches) >= most:
                    break
    except (pa.ArrowException, OSError) as error:
        _refuse(file, f"is no Parquet file: {str(error).splitlines()[0][:200]}", "write it again")
    _header(file, schema.names)
    table = pa.Table.from_batches(batches, schema).slice(0, most)
    types = {one.name: _parquet_type(one.type) for one in schema}
    columns = {name: _parquet_texts(table.column(name)) for name in schema.names}
    return _some(Sample(file, "parquet", columns, types, len(table), len(table) == count))


def _parquet_type(kind: Any) -> str:
    from pyarrow import types

    if types.is_boolean(kind):
        return "boolean"
    if types.is_floating(kind):
        return "float"
    if types.is_integer(kind) or types.is_decimal(kind) or types.is_duration(kind):
        return "number"
    return "nested" if types.is_nested(kind) else "text"


def _parquet_texts(column: Any) -> list[str | None]:
    """As spark_assets/bronze.py writes a typed value, as far as types and keys are concerned."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind):
        # A nanosecond's last three digits stay if they say something: Silver has no place for them.
        return [
            value if value is None else re.sub(r"(\.\d{6})000\b", r"\1", value)
            for value in column.cast(pa.string()).to_pylist()
        ]
    if pa.types.is_duration(kind):
        column = column.cast(pa.int64())  # the file has numbers, and Spark knows no more of them
    return [_parquet_text(value) for value in column.to_pylist()]


def _parquet_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return f"{value:f}" if hasattr(value, "as_tuple") else str(value)
