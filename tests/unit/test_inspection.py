"""Inspection: a file that cannot be read as its contract says is refused in words that its sender understands; all else
passes, at no more memory than a few megabytes."""

import gzip
import io
import os
import random
import resource
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.contract import Contract
from foundation.settings import Settings
from intake.archive import archive_arrivals, versions_of
from intake.inspection import CHUNK, MAX_FIELDS, inspect
from tests.unit.feeds import FEED, FIRST, HEADER, csv_bytes, day_number, forked, put

A = csv_bytes("a")
HEAD = f"{HEADER}\n".encode()
ROW = b"2013-01-01,a,1\n"
PACKED = gzip.compress(csv_bytes(*(f"code{number}" for number in range(1000))), mtime=0)


@pytest.fixture
def reason_of(tmp_path: Path, contract: Contract) -> Callable[..., str | None]:
    """Why a file of these bytes is refused, None if it is not."""

    def reason(content: bytes, name: str = "x.csv", day: date = FIRST, of: Contract = contract) -> str | None:
        file = tmp_path / "inspected"
        file.write_bytes(content)
        return inspect(file, f"{FEED}/{name}", of, day)[0]

    return reason


Reason = Callable[..., str | None]

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "truncated gzip": ("x.csv.gz", PACKED[:-20], "damaged gzip: Compressed file ended"),
    "gzip without its last byte": ("x.csv.gz", PACKED[:-1], "damaged gzip: Compressed file ended"),
    "gzip with a flipped bit": ("x.csv.gz", PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:], "damaged gzip: CRC"),
    "gzip with a broken middle": ("x.csv.gz", PACKED[:200] + b"\xff" * 50 + PACKED[250:], "damaged gzip"),
    "no gzip at all": ("x.csv.gz", A, "damaged gzip: Not a gzipped file"),
    "gzip bomb": ("x.csv.gz", gzip.compress(A + b"0" * 30_000_000, mtime=0), "unpacks to more than 200 times its size"),
    "empty": ("x.csv", b"", "empty file"),
    "empty gzip": ("x.csv.gz", gzip.compress(b"", mtime=0), "empty file"),
    "no bytes of gzip": ("x.csv.gz", b"", "empty file"),
    "missing column": ("x.csv", b"day,code\n2013-01-01,a\n", "header lacks amount"),
    "two missing columns": ("x.csv", b"day\n2013-01-01\n", "header lacks code, amount"),
    "extra column": ("x.csv", b"day,code,amount,more,most\n", "header has unknown more, most"),
    "renamed column": ("x.csv", b"day,code,sum\n2013-01-01,a,1\n", "header lacks amount and has unknown sum"),
    "column in capitals": ("x.csv", b"Day,code,amount\n", "header lacks day and has unknown Day"),
    "column with a blank": ("x.csv", b"day, code,amount\n", "header lacks code and has unknown ' code'"),
    "column without a name": ("x.csv", b"day,code,amount,\n2013-01-01,a,1,\n", "header has unknown ''"),
    "column with a tab": ("x.csv", b"day,code,amount\t\n", r"header lacks amount and has unknown 'amount\t'"),
    "column twice": ("x.csv", b"day,code,amount,amount\n2013-01-01,a,1,1\n", "header has amount twice"),
    "no header": ("x.csv", b"2013-01-01,a,1\n", "lacks day, code, amount and has unknown 2013-01-01, a, 1"),
    "only a line break": ("x.csv", b"\n", "empty file"),
    "header only": ("x.csv", HEAD, "has a header and no row"),
    "header only, packed": ("x.csv.gz", gzip.compress(HEAD, mtime=0), "has a header and no row"),
    "header only, and blank lines": ("x.csv", HEAD + b"\r\n \n", "has a header and no row"),
    "header without a line end": ("x.csv", HEADER.encode(), "has a header and no row"),
    "derived column sent": ("x.csv", f"{HEADER},double_amount\n".encode(), "header has unknown double_amount"),
    "semicolons": ("x.csv", A.replace(b",", b";"), "its columns are separated by semicolons, not commas"),
    "tabs": ("x.csv", A.replace(b",", b"\t"), "its columns are separated by tabs, not commas"),
    "bars": ("x.csv", A.replace(b",", b"|"), "its columns are separated by bars, not commas"),
    "semicolons and quotes": (
        "x.csv",
        b'"day";"code";"amount"\n"2013-01-01";"a";"1"\n',
        "its columns are separated by semicolons, not commas",
    ),
    "Latin-1 header": ("x.csv", "day,code,montant_donné\n".encode("latin-1"), "header is not UTF-8"),
    "UTF-16": ("x.csv", A.decode().encode("utf-16"), "header is not UTF-8"),
    "a header of a megabyte": ("x.csv", b"x" * 1_000_000, "header is no CSV: field larger than field limit"),
    "a header of 100,000 columns": ("x.csv", b",".join([b"x"] * 100_000), "lacks day, code, amount and has unknown x"),
    "a picture": ("x.csv", b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(5_000), "header is not UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_a_reason(reason_of: Reason, name: str) -> None:
    file, content, reason = REFUSED[name]
    assert reason in (reason_of(content, file) or "accepted")


@pytest.mark.parametrize("name", REFUSED)
def test_a_reason_is_one_short_line(reason_of: Reason, name: str) -> None:
    file, content, _ = REFUSED[name]
    said = reason_of(content, file) or ""
    assert len(said) < 350
    assert said.isprintable()


PASSES = {
    "as it should be": ("x.csv", A),
    "packed": ("x.csv.gz", gzip.compress(A, mtime=0)),
    "byte order mark": ("x.csv", b"\xef\xbb\xbf" + A),
    "byte order mark and quotes": ("x.csv", b'\xef\xbb\xbf"day",code,amount\n' + ROW),
    "Windows line ends": ("x.csv", A.replace(b"\n", b"\r\n")),
    "quoted header": ("x.csv", A.replace(b"day,code", b'"day","code"')),
    "last line without a line end": ("x.csv", A[:-1]),
    "no UTF-8 below the header": ("x.csv", A + b"2013-01-01,\xe9,1\n"),
    "NUL bytes below the header": ("x.csv", A + b"2013-01-01,\0,1\n"),
    "quotes within a value": ("x.csv", A + b'2013-01-01,"so-called ""a""",1\n'),
    "a line break within a value": ("x.csv", A + b'2013-01-01,"a\nb",1\n'),
    "a line of another length": ("x.csv", A + b"2013-01-01,a,1,2,3\n\n2013-01-01\n"),
    "gzip in two parts": ("x.csv.gz", gzip.compress(A, mtime=0) + gzip.compress(ROW, mtime=0)),
    "gzip with noughts behind it": ("x.csv.gz", gzip.compress(A, mtime=0) + b"\0" * 100),
    "well packed, no bomb": ("x.csv.gz", gzip.compress(csv_bytes(*["a" * 50] * 10_000), mtime=0)),
    "a line of 10 MB": ("x.csv", HEAD + b"2013-01-01," + b"a" * 10_000_000 + b",1\n" + ROW),
    "a text of 10 MB with commas": (
        "x.csv",
        HEAD + b'2013-01-01,"' + b"one, two\n, three; " * 500_000 + b'",1\n' + ROW,
    ),
    "a text with quotes and commas": ("x.csv", HEAD + b'2013-01-01,"' + b'""one"", ' * MAX_FIELDS + b'",1\n' + ROW),
    "20,480 lines of old line ends": ("x.csv", (HEAD + ROW * MAX_FIELDS).replace(b"\n", b"\r")),
    "a line of 20,480 fields": ("x.csv", HEAD + b"," * (MAX_FIELDS - 1) + b"\n"),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_can_be_read_passes(reason_of: Reason, name: str) -> None:
    file, content = PASSES[name]
    assert reason_of(content, file) is None


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (A, ("day", "code", "amount")),
        (b"code,amount,day\na,1,2013-01-01\n", ("code", "amount", "day")),
        (b'\xef\xbb\xbf"amount","day","code"\r\n1,2013-01-01,a\r\n', ("amount", "day", "code")),
    ],
    ids=["as in the contract", "reordered", "reordered, quoted, with a byte order mark"],
)
def test_columns_may_come_in_any_order_and_the_ledger_has_that_of_the_file(
    settings: Settings, contract: Contract, content: bytes, header: tuple[str, ...]
) -> None:
    put(settings, content)
    archive_arrivals(settings, contract)
    (version,) = versions_of(settings, FEED, None)
    assert (version.state, version.header) == ("accepted", header)


def sound(lines: int) -> bytes:
    """So many rows, each with a quoted value."""
    return b'2013-01-01,"a ""b"" c",1\n' * lines


@pytest.mark.parametrize(
    ("content", "line"),
    {
        "in the last line": (HEAD + ROW * 7 + b'2013-01-01,"a,1\n', 9),
        "in the first row": (HEAD + b'2013-01-01,"a,1\n' + ROW * 7, 2),
        "before lines with sound quotes": (HEAD + sound(3) + b'2013-01-01,"a,1\n' + sound(5), 5),
        "after a value of two lines": (HEAD + b'2013-01-01,"a\nb",1\n' + b'2013-01-01,"a,1\n' + sound(5), 4),
        "before a border of two chunks": (HEAD + b'2013-01-01,"a,1\n' + sound(2 * CHUNK // 25), 2),
        "after a border of two chunks": (HEAD + sound(100_000) + b'2013-01-01,"a,1\n' + sound(9), 100_002),
        "at a border of two chunks": (HEAD + b"x" * (CHUNK - len(HEAD) - 1) + b'"\n' + ROW, 2),
        "after a border of two chunks, in its line": (HEAD + b"x" * (CHUNK - len(HEAD)) + b'"\n' + ROW, 2),
        "after a line with a value of 3 MB": (HEAD + b'x,"' + b"y" * 3 * CHUNK + b'",1\nx,"y,1\n' + ROW, 3),
    }.values(),
    ids=lambda value: "" if isinstance(value, bytes) else f"line {value}",
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_quote_that_is_never_closed_is_refused_with_its_line(
    reason_of: Reason, content: bytes, line: int, packed: bool
) -> None:
    # level 0: repeated rows pack so well that they are taken for a bomb
    said = reason_of(gzip.compress(content, 0), "x.csv.gz") if packed else reason_of(content)
    assert said == f"a quote is opened in line {line} and never closed"


@pytest.mark.parametrize(
    ("content", "line"),
    {
        "empty fields": (HEAD + ROW + b"," * MAX_FIELDS + b"\n" + ROW, 3),
        "Windows line ends": (HEAD + b"," * MAX_FIELDS + b"\r\n" + ROW, 2),
        "no line end": (HEAD + ROW * 3 + b"," * MAX_FIELDS, 5),
        "a border of two chunks within": (HEAD + b"x" * (CHUNK - 100) + b"," * MAX_FIELDS + b"\n", 2),
        "quoted fields": (HEAD + b'"a,b",' * MAX_FIELDS + b"\n", 2),
        "behind a quote that opens nothing": (HEAD + b'2013-01-01,5" pipe' + b"," * MAX_FIELDS + b'3" pipe\n', 2),
        "behind a value of two lines": (HEAD + b'2013-01-01,"a\nb"' + b",1" * MAX_FIELDS + b"\n", 3),
    }.values(),
    ids=lambda value: "" if isinstance(value, bytes) else f"line {value}",
)
def test_a_line_with_more_fields_than_spark_reads_is_refused_with_its_number(
    reason_of: Reason, content: bytes, line: int
) -> None:
    assert reason_of(content) == f"line {line} has more than 20,480 fields"


@pytest.fixture
def grown(contract: Contract) -> Contract:
    """The contract after its feed gained a column on the fourth day."""
    note = replace(contract.columns[2], name="note", spark_type="string", since=day_number(3))
    return replace(contract, columns=(*contract.received, note))


def test_a_column_that_came_later_may_be_missing_on_earlier_days_only(reason_of: Reason, grown: Contract) -> None:
    assert [reason_of(A, day=day_number(number), of=grown) for number in (0, 2)] == [None, None]
    assert [reason_of(A, day=day_number(number), of=grown) for number in (3, 9)] == ["header lacks note"] * 2


@pytest.mark.parametrize("number", [0, 3])
def test_a_column_that_came_later_may_be_there_on_every_day(reason_of: Reason, grown: Contract, number: int) -> None:
    assert reason_of(b"day,code,amount,note\n2013-01-01,a,1,n\n", day=day_number(number), of=grown) is None


JSON_LINE = b'{"day": "2013-01-01", "code": "a", "amount": 1}\n'


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (JSON_LINE * 2, None),
        (b"\xef\xbb\xbf" + JSON_LINE, None),
        (b"\n" + JSON_LINE, None),
        (JSON_LINE + b"no JSON at all\n", None),
        (b"[" + JSON_LINE + b"]", "is one JSON array; send one object a line"),
        (b"\xef\xbb\xbf \n [\n" + JSON_LINE + b"]", "is one JSON array; send one object a line"),
        (b"", "empty file"),
    ],
    ids=["lines", "byte order mark", "empty line", "a bad line", "array", "array behind a byte order mark", "empty"],
)
@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
def test_json_is_one_object_a_line(
    reason_of: Reason, contract: Contract, content: bytes, refused: str | None, name: str
) -> None:
    sent = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    assert reason_of(sent, name, of=replace(contract, format="json")) == refused


def parquet(contract: Contract, rows: int = 5_000) -> bytes:
    """A file of the contract's columns. The codes are noise, so that they fill pages and do not pack."""
    noise = random.Random(1)
    table = pa.table(
        {
            "amount": pa.array([noise.randrange(1 << 30) for _ in range(rows)], pa.int32()),
            "day": pa.array([FIRST] * rows, pa.date32()),
            "code": pa.array([noise.randbytes(8).hex() for _ in range(rows)]),
        }
    )
    assert set(table.column_names) == {column.name for column in contract.received}
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


@pytest.fixture
def columnar(contract: Contract) -> Contract:
    return replace(contract, format="parquet")


def test_a_sound_parquet_file_passes_and_the_ledger_has_its_columns(settings: Settings, columnar: Contract) -> None:
    put(settings, parquet(columnar), name="x.parquet")
    (version,) = archive_arrivals(settings, columnar)
    assert (version.state, version.header) == ("accepted", ("amount", "day", "code"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-20] + b"\xff" * 12 + content[-8:],
        lambda content: content[:-8] + b"\xff\xff\xff\x7f" + content[-4:],
        lambda content: A,
        lambda content: b"PAR1",
        lambda content: content[:5_000] + b"\xff" * 200 + content[5_200:],
        lambda content: content[:5_000] + bytes([content[5_000] ^ 1]) + content[5_001:],
    ],
    ids=[
        "last byte lost",
        "second half lost",
        "footer overwritten",
        "length of the footer wrong",
        "CSV",
        "four bytes",
        "page overwritten",
        "one bit of a page",
    ],
)
def test_damaged_parquet_is_refused(reason_of: Reason, columnar: Contract, spoil: Callable[[bytes], bytes]) -> None:
    said = reason_of(spoil(parquet(columnar)), "x.parquet", of=columnar)
    assert (said or "accepted").startswith("is no Parquet file: ")


def test_parquet_columns_are_compared_as_those_of_a_header(reason_of: Reason, columnar: Contract) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"day": [FIRST], "code": ["a"], "sum": [1]}), sink)
    assert reason_of(sink.getvalue(), "x.parquet", of=columnar) == "header lacks amount and has unknown sum"
    assert reason_of(b"", "x.parquet", of=columnar) == "empty file"


MANY_MB = 120


def test_archiving_a_large_file_needs_little_memory(settings: Settings, contract: Contract) -> None:
    source = put(settings, HEAD)
    # rows and long lines in turn, which are cut at other places than the chunks, and one line of half of it all
    block = ROW * 5_000 + b"2013-01-01," + b"b" * CHUNK + b",1\n"
    with source.open("ab") as file:
        for _ in range(MANY_MB // 2):
            file.write(block)
        file.write(b"2013-01-01," + b"c" * (MANY_MB // 2 * CHUNK) + b",1\n")

    def work() -> None:
        before = psutil.Process().memory_info().rss
        (version,) = archive_arrivals(settings, contract)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert version.reason is None
        assert version.size > MANY_MB * 1_000_000
        (settings.home / "growth").write_text(str(peak - before))

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == 0
    assert int((settings.home / "growth").read_text()) < 60_000_000


def test_an_inch_sign_within_a_text_opens_nothing(reason_of: Reason) -> None:
    inch = b'2013-01-01,5" pipe,1\n'
    assert reason_of(HEAD + ROW + inch + ROW) is None
    assert (
        reason_of(HEAD + inch + b'2013-01-01,"open,1\n' + inch + ROW) == "a quote is opened in line 3 and never closed"
    )
