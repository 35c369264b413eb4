"""Whatever a vendor sends, its neighbours are published, and who is to act learns which file, which row and what to do.

Each case is a day of its own: two sound files, and one that is not. All days are ingested and refined as one.
"""

import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_assets.bronze import BronzeOutcome, ingest
from spark_assets.publish import SilverWrite, refine
from tests.integration.own_feeds import LINEAGE, OwnFeeds, Place, column, day_column, table_rows

pytestmark = pytest.mark.usefixtures("sensors_wait")

FIRST = date(2013, 1, 1)
COLUMNS = [
    day_column(),
    column("code", "string", primaryKey=True),
    column("price", "double"),
    column("seen", "date"),
    column("note", "string"),
]
HEADER = "day,code,price,seen,note"
ROW = "{day},c1,1.5,2013-01-01,fine"


@dataclass(frozen=True)
class Case:
    """A file: its text, where `{day}` stands for its day, and what was done to that. Then why it is rejected as a whole, or
    which of its rows are quarantined for which reasons, and how many are accepted."""

    name: str
    content: bytes
    rejected: str = ""
    quarantined: Mapping[int, list[str]] = field(default_factory=dict)
    accepted: int = 0
    done: Callable[[bytes], bytes] = bytes

    def sent_on(self, day: date) -> bytes:
        return self.done(self.content.replace(b"{day}", str(day).encode()))


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def truncated(content: bytes) -> bytes:
    return gzip.compress(content)[:-12]


CSV = {
    "header only": Case("bad.csv", text(HEADER), rejected="has a header and no row"),
    "nothing at all": Case("bad.csv", b"", rejected="empty file"),
    "truncated gzip": Case("bad.csv.gz", text(HEADER, *[ROW] * 99), rejected="damaged gzip", done=truncated),
    "no gzip though called so": Case("bad.csv.gz", text(HEADER, ROW), rejected="damaged gzip"),
    "gzip though not called so": Case("bad.csv", text(HEADER, ROW), rejected="header", done=gzip.compress),
    "two gzips in one": Case(
        "good.csv.gz",
        text(HEADER, ROW, ROW.replace("c1", "c2")),
        accepted=2,
        done=lambda content: gzip.compress(content[:40]) + gzip.compress(content[40:]),
    ),
    "a gzip bomb": Case(
        "bad.csv.gz", text(HEADER) + b"x" * (5 << 20), rejected="200 times its size", done=gzip.compress
    ),
    "semicolons": Case(
        "bad.csv", text(HEADER.replace(",", ";"), ROW.replace(",", ";")), rejected="semicolons, not commas"
    ),
    "tabs": Case("bad.csv", text(HEADER.replace(",", "\t"), ROW.replace(",", "\t")), rejected="tabs, not commas"),
    "a column too many": Case("bad.csv", text(f"{HEADER},surprise", f"{ROW},1"), rejected="has unknown surprise"),
    "a column too few": Case("bad.csv", text(HEADER[:-5], ROW[:-5]), rejected="lacks note"),
    "a column twice": Case("bad.csv", text(f"{HEADER},code", f"{ROW},c1"), rejected="has code twice"),
    "no header": Case("bad.csv", text(ROW, ROW), rejected="lacks day, code, price, seen, note"),
    "columns in another order": Case(
        "good.csv", text("note,seen,price,code,day", "fine,2013-01-01,1.5,c1,{day}"), accepted=1
    ),
    "a byte order mark": Case("good.csv", b"\xef\xbb\xbf" + text(HEADER, ROW), accepted=1),
    "a header that is no UTF-8": Case("bad.csv", text(HEADER)[:-1] + b"\xe9\n", rejected="header is not UTF-8"),
    "a Latin-1 byte in a value": Case(
        "good.csv",
        text(HEADER) + text(ROW).replace(b"fine", b"caf\xe9") + text(ROW.replace("c1", "c2")),
        quarantined={1: ["not_text:note"]},
        accepted=1,
    ),
    "NUL in a value": Case(
        "good.csv",
        text(HEADER, ROW.replace("fine", "f\0ne"), "\0" + ROW, ROW.replace("c1", "c2")),
        quarantined={1: ["not_text:note"], 2: ["not_date:day"]},
        accepted=1,
    ),
    "a quote that is never closed": Case(
        "bad.csv",
        text(HEADER, ROW, ROW.replace("fine", '"fine'), *[ROW] * 9),
        rejected="a quote is opened in line 3 and never closed",
    ),
    "an inch sign": Case("good.csv", text(HEADER, ROW.replace("fine", '5" nail'), ROW.replace("c1", "c2")), accepted=2),
    "an inch sign in quotes": Case(
        "good.csv", text(HEADER, ROW.replace("fine", '"5" nail"'), ROW.replace("c1", "c2")), accepted=2
    ),
    "a line of 10 MB": Case("good.csv", text(HEADER, ROW.replace("fine", "x" * (10 << 20))), accepted=1),
    "a line of 30,000 fields": Case("bad.csv", text(HEADER, ROW, "," * 30_000), rejected="line 3 has more than 20,480"),
    "numbers that are none": Case(
        "good.csv",
        text(HEADER, *[ROW.replace("1.5", bad) for bad in ("NaN", "inf", "1e400", "0x10", "1_000")]),
        quarantined={number: ["not_double:price"] for number in range(1, 6)},
    ),
    "year 1 and year 9999": Case(
        "good.csv",
        text(HEADER, ROW.replace("2013-01-01", "0001-01-01"), ROW.replace("2013-01-01", "9999-12-31"))
        + text("0001-01-01,c1,,,", "9999-12-31,c2,,,"),
        quarantined={
            1: ["out_of_range:seen"],
            2: ["out_of_range:seen"],
            3: ["out_of_range:day", "wrong_partition:day"],
            4: ["out_of_range:day", "wrong_partition:day"],
        },
    ),
    "rows too short and too long": Case(
        "good.csv",
        text(HEADER, "{day},c1,1.5,2013-01-01", f"{ROW},more", "nonsense", ROW),
        quarantined={1: ["malformed_row"], 2: ["malformed_row"], 3: ["malformed_row", "missing:code", "not_date:day"]},
        accepted=1,
    ),
    **{
        f"the name {name}": Case(name, text(HEADER, ROW), accepted=1)
        for name in (
            "a b.csv",
            'it\'s "so".csv',
            "100%.csv",
            "%20.csv",
            "up..down...csv",
            "😀.csv",
            "a:b?c#d&e=f.csv",
            "*.csv",
        )
    },
    "a sound file, though all its rows are bad": Case(
        "bad.csv",
        text(HEADER, *[ROW.replace("{day}", "soon").replace("c1", f"c{number}") for number in range(20)]),
        quarantined={number: ["not_date:day"] for number in range(1, 21)},
    ),
}
OBJECT = '{"day": "{day}", "code": "c1", "price": 1.5, "seen": "2013-01-01", "note": "fine"}'
JSON = {
    "one array": Case("bad.json", f"[{OBJECT},\n{OBJECT}]".encode(), rejected="is one JSON array"),
    "a byte order mark in JSON": Case("good.json", b"\xef\xbb\xbf" + text(OBJECT), accepted=1),
    "truncated gzip of JSON": Case("bad.json.gz", text(*[OBJECT] * 99), rejected="damaged gzip", done=truncated),
    "lines that are no object": Case(
        "good.json",
        b"nonsense \xe9\n" + text("[1]", "12", "", OBJECT[:-1], OBJECT * 2, OBJECT),
        quarantined={
            **{number: ["malformed_row", "missing:code", "missing:day"] for number in (1, 2, 3, 5)},
            6: ["malformed_row"],
        },
        accepted=1,
    ),
    "UTF-16": Case(
        "bad.json",
        OBJECT.encode(),
        quarantined={1: ["malformed_row", "missing:code", "missing:day"]},
        done=lambda content: content.decode().encode("utf-16"),
    ),
    "half an emoji": Case(
        "good.json",
        text(
            *[OBJECT.replace("fine", escapes) for escapes in ("\\ud83d", "\\ude00", "\\ude00\\ud83d")],
            OBJECT.replace("fine", "\\ud83d\\ude00 \\\\ud83d"),
        ),
        quarantined={row: ["malformed_row"] for row in (1, 2, 3)},
        accepted=1,
    ),
}


def table_file(**columns: pa.Array) -> Callable[[bytes], bytes]:
    """Makes a Parquet file of one row, of that day, sound but for these columns."""

    def made(day: bytes) -> bytes:
        sound = {
            "day": pa.array([day.decode()]),
            "code": pa.array(["c1"]),
            "price": pa.array([1.5]),
            "seen": pa.array([date(2013, 1, 1)]),
            "note": pa.array(["fine"]),
        }
        file = io.BytesIO()
        pq.write_table(pa.table({**sound, **columns}), file)
        return file.getvalue()

    return made


DAY = b"{day}"
PARQUET = {
    "no Parquet": Case("bad.parquet", text(HEADER, ROW), rejected="is no Parquet file"),
    "half a Parquet file": Case(
        "bad.parquet", DAY, rejected="is no Parquet file", done=lambda day: table_file()(day)[:300]
    ),
    "a column too many in Parquet": Case(
        "bad.parquet", DAY, rejected="has unknown more", done=table_file(more=pa.array([1]))
    ),
    "a column of gaps without a type": Case("good.parquet", DAY, accepted=1, done=table_file(price=pa.nulls(1))),
    "a decimal of 50 digits": Case(
        "bad.parquet", DAY, rejected="price", done=table_file(price=pa.array([Decimal("1.5")], pa.decimal256(50, 2)))
    ),
    "a time of day": Case(
        "bad.parquet", DAY, rejected="has note as time64[us]", done=table_file(note=pa.array([time(12)]))
    ),
    "a time of day within a list": Case(
        "bad.parquet", DAY, rejected="has note as list", done=table_file(note=pa.array([[time(12)]]))
    ),
    "a half": Case("bad.parquet", DAY, rejected="price", done=table_file(price=pa.array([1.5], pa.float16()))),
    "an unsigned long": Case("good.parquet", DAY, accepted=1, done=table_file(price=pa.array([2**63], pa.uint64()))),
    "bytes": Case(
        "good.parquet", DAY, quarantined={1: ["not_text:note"]}, done=table_file(note=pa.array([b"caf\xe9"]))
    ),
    "year 1 in Parquet": Case(
        "good.parquet", DAY, quarantined={1: ["out_of_range:seen"]}, done=table_file(seen=pa.array([date(1, 1, 1)]))
    ),
}
CASES = {"csv": CSV, "json": JSON, "parquet": PARQUET}
SOUND = {
    form: [Case(f"sound{number}.{form}", content.replace(b"c1", b"s%d" % number), done=done) for number in (1, 2)]
    for form, content, done in (("csv", text(HEADER, ROW), bytes), ("json", text(OBJECT), bytes))
} | {
    "parquet": [
        Case(f"sound{number}.parquet", DAY, done=table_file(code=pa.array([f"s{number}"]))) for number in (1, 2)
    ]
}
ALL = [(form, about) for form, cases in CASES.items() for about in cases]
REFUSED = "a sound file, though all its rows are bad"


@dataclass(frozen=True)
class Results:
    """What became of all days of a format."""

    feed: str
    bronze: BronzeOutcome
    silver: SilverWrite
    published: Mapping[Place, Mapping[str, Any]]
    quarantined: Mapping[Place, Mapping[str, Any]]
    paths: Mapping[str, str]


def day_of(form: str, about: str) -> date:
    return FIRST + timedelta(days=list(CASES[form]).index(about))


@pytest.fixture(scope="module")
def results(feeds: OwnFeeds) -> Mapping[str, Results]:
    return {form: sent_and_refined(feeds, form) for form in CASES}


def sent_and_refined(feeds: OwnFeeds, form: str) -> Results:
    feed = feeds.name(f"bad_{form}")
    contract = feeds.contract(feed, COLUMNS, form=form, max_quarantined=0.8)
    paths: dict[str, str] = {}
    for about, case in CASES[form].items():
        day = day_of(form, about)
        for one in (*SOUND[form], case):
            paths[about] = str(feeds.put(feed, one.name, one.sent_on(day), day, as_it_is=True))
    days = [day_of(form, about) for about in CASES[form]]
    bronze = ingest(feeds.settings, contract, days, LINEAGE)
    silver = refine(feeds.settings, contract, days, LINEAGE)
    published, quarantined = (table_rows(feeds.settings, layer, feed) for layer in ("silver", "quarantine"))
    return Results(feed, bronze, silver, published, quarantined, paths)


@pytest.mark.parametrize(("form", "about"), ALL)
def test_what_is_wrong_is_named_by_file_and_row_and_all_else_is_published(
    results: Mapping[str, Results], form: str, about: str
) -> None:
    case, found, day = CASES[form][about], results[form], day_of(form, about)
    path = found.paths[about]
    rejected = found.bronze.parts[day].error
    if case.rejected:
        assert rejected is not None
        assert f"landing/{path} was rejected: " in rejected.what and case.rejected in rejected.what
        assert "all other files are in" in rejected.what and "ask for the file again" in rejected.next_action
        assert f"--select bronze/{found.feed} --partition {day}" in rejected.next_action
    else:
        assert rejected is None, str(rejected)
    quarantined = {row: sorted(one["reasons"]) for (file, _, row), one in found.quarantined.items() if file == path}
    assert quarantined == case.quarantined
    if about != REFUSED:
        assert found.silver.parts[day].error is None
        assert sum(file == path for file, _, _ in found.published) == case.accepted
        sound = {row["code"] for (file, _, _), row in found.published.items() if file != path and row["day"] == day}
        assert sound == {"s1", "s2"}


def test_a_day_of_bad_rows_is_held_back_and_says_where_to_look(results: Mapping[str, Results]) -> None:
    found, day = results["csv"], day_of("csv", REFUSED)
    error = found.silver.parts[day].error
    assert error is not None
    assert f"silver/{found.feed} {day}: 20 of 22 rows were quarantined, more than 80%: not_date:day (20)" in error.what
    assert f"./assay quarantine {found.feed}" in error.next_action and "ask for a corrected file" in error.next_action
    assert not [row for row in found.published.values() if row["day"] == day]


def test_a_value_of_10_mb_is_kept_whole(results: Mapping[str, Results]) -> None:
    found = results["csv"]
    path = found.paths["a line of 10 MB"]
    assert [len(row["note"]) for (file, _, _), row in found.published.items() if file == path] == [10 << 20]
