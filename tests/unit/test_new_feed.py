"""A contract guessed from a sample: it is one, it takes every row of its sample, and says what it rests on.

Whether rows pass is asked of the oracle of fates, which shares no code with the platform.
"""

import csv
import gzip
import io
import json
import re
import subprocess
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from foundation.contract import Contract, load_contract
from foundation.errors import AssayError
from intake import sampling
from intake.guessing import guess
from intake.new_feed import contract_text, identifier_for, new_feed
from intake.sampling import read_sample
from tests.integration import fates_oracle as oracle
from tests.integration.fates_oracle import Received, Rules
from tests.integration.random_feeds import BAD, GOOD

ORDERS = """order_day,order_id,email,country,amount,zip,paid,ordered_at,note
2025-03-03,1001,ann@example.com,DE,12.50,01067,yes,2025-03-03T08:15:00+01:00,
2025-03-03,1002,bo@example.com,FR,7.00,75001,no,2025-03-03T09:00:00+01:00,leave at door
2025-03-04,1001,cy@example.com,DE,120.00,10115,yes,2025-03-04T18:45:00+01:00,
"""


def orders(folder: Path, text: str = ORDERS, name: str = "orders.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def made(folder: Path, text: str = ORDERS, **how: Any) -> Contract:
    return new_feed("orders", orders(folder, text), folder=folder / "contracts", **how).contract


def kinds(contract: Contract) -> dict[str, str]:
    return {column.name: column.spark_type for column in contract.columns}


def fates(contract: Contract, columns: dict[str, list[str | None]]) -> Counter[str]:
    """What becomes of the rows of a sample, each in the folder of its own day, by the oracle."""
    rules = [
        Rules(c.name, c.spark_type, c.required, c.key, c.allowed, c.minimum, c.maximum, c.pattern, c.zone)
        for c in contract.columns
    ]
    day = contract.days.column if contract.days else None
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    received = [
        Received(("file", 1, number), date.fromisoformat(row[day] or "") if day else None, row, False)
        for number, row in enumerate(rows)
    ]
    return Counter(one.fate for one in oracle.judge(received, rules, day).values())


def test_types_keys_gaps_the_day_and_what_is_personal(tmp_path: Path) -> None:
    contract = made(tmp_path)
    assert kinds(contract) == {
        "order_day": "date",
        "order_id": "int",
        "email": "string",
        "country": "string",
        "amount": "decimal(12,2)",
        "zip": "string",
        "paid": "boolean",
        "ordered_at": "timestamp",
        "note": "string",
    }
    assert contract.keys == ("order_day", "order_id")
    assert contract.load == "append_daily" and contract.daily.column == "order_day"
    assert contract.daily.starts == date(2025, 3, 3)
    assert [column.name for column in contract.columns if not column.required] == ["note"]
    assert [column.name for column in contract.columns if column.is_sensitive] == ["email", "zip"]


def test_each_guess_says_what_it_rests_on(tmp_path: Path) -> None:
    text = made(tmp_path).file.read_text()
    assert "3 of 3 values are whole numbers" in text
    assert "3 of 3 values look like an e-mail address" in text or "its name says that it is an e-mail address" in text
    assert "# required: true  # filled in 1 of 3 rows" in text
    assert "seen: 7.00 to 120.00" in text
    assert "ann@" not in text and "01067" not in text, "nothing personal is copied"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "int"),
        (["1", "3000000"], "bigint"),
        (["9223372036854775807", "1"], "bigint"),
        (["9223372036854775808", "1"], "string"),
        (["007", "012"], "string"),
        (["+1", "2"], "string"),
        (["1e5", "2e5"], "string"),
        (["1", "N/A"], "string"),
        (["1", "x"], "string"),
        (["0", "1"], "int"),
        (["12.50", "3.10"], "decimal(12,2)"),
        (["12.5", "3.10"], "double"),
        (["1", "2.5"], "decimal(12,1)"),
        (["0.12345678901234567890", "1.5"], "decimal(24,20)"),
        (["00.5", "1.5"], "string"),
        (["true", "False"], "boolean"),
        (["t", "f"], "boolean"),
        (["y", "y"], "string"),
        (["yes", "2"], "string"),
        (["2025-01-31", "1999-12-01"], "date"),
        (["2025-02-30", "1999-12-01"], "string"),
        (["31.01.2025", "01.02.2025"], "string"),
        (["0001-01-01", "2025-01-01"], "string"),
        (["2025-01-31 08:30", "2025-01-31T08:30:00.5Z"], "timestamp"),
        (["2025-01-31 08:30", "2025-01-31"], "string"),
        (["2025-01-31T08:30:00.1234567", "2025-01-31T08:30"], "string"),
        (["9" * 50, "1"], "string"),
        ([" 1", "2"], "string"),
        (["NaN", "1.5"], "string"),
        (["١", "٢"], "string"),
    ],
)
def test_only_what_silver_takes_without_loss_is_more_than_text(tmp_path: Path, values: list[str], kind: str) -> None:
    rows = "\n".join(f"row{number},{value}" for number, value in enumerate(values))
    assert kinds(made(tmp_path, f"row_id,value\n{rows}\n"))["value"] == kind


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufffd\r"), max_size=12)


@st.composite
def columns_of_a_file(draw: st.DrawFn) -> dict[str, list[str | None]]:
    """Columns at random: mostly of one type, written as vendors do, with gaps and mistakes."""
    rows = draw(st.integers(1, 12))
    columns: dict[str, list[str | None]] = {}
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([*GOOD, "free", "number", "money", "day"]))
        pools: dict[str, Any] = {
            "free": TEXTS,
            "number": st.integers(-(10**25), 10**25).map(str),
            "money": st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
            "day": st.dates(date(1890, 1, 1), date(2310, 1, 1)).map(str),
        }
        good = pools[kind] if kind in pools else st.sampled_from([text.replace("\r", "") for text in GOOD[kind]])
        bad = st.sampled_from(
            [one for pool in BAD.values() for one in pool if not re.search("[\0\r\ufffd\ud800-\udfff]", one)]
        )
        value = st.one_of(good, good, good, st.none(), bad) if draw(st.booleans()) else good
        name = draw(st.sampled_from(["day", "id", "c", "email", "amount"])) + str(number) * (number > 0)
        columns[name] = draw(st.lists(value, min_size=rows, max_size=rows))
    return {name: [text or None for text in texts] for name, texts in columns.items()}


@given(columns_of_a_file(), st.booleans())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_row_of_any_sample_is_accepted(
    tmp_path: Path, columns: dict[str, list[str | None]], quoted: bool
) -> None:
    # A blank line is no row of a CSV.
    assume(len(columns) > 1)
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    file = tmp_path / "sample.csv"
    file.write_bytes(out.getvalue().encode())
    sample = read_sample(file)
    assert sample.columns == columns, "the file is read as it was written"
    if not any(all(texts) for texts in columns.values()):
        with pytest.raises(AssayError, match="has gaps: nothing names a row"):
            guess(sample)
        return
    found = guess(sample)
    contract_file = tmp_path / "sample.odcs.yaml"
    contract_file.write_text(contract_text("sample", found, "team:data"))
    assert (
        fates(load_contract(contract_file), columns)
        == Counter(accepted=sample.rows - found.shared, duplicate=found.shared) - Counter()
    ), "only rows that are alike in all that could be a key are duplicates"


def test_what_is_only_suggested_holds_for_the_sample_too(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * 7 - 300},{n / 8},{'abc'[n % 3]},2025-01-01 0{n % 10}:00\n" for n in range(120))
    contract = made(tmp_path, f"row_id,change,share,grade,seen_at\n{rows}")
    text = re.sub(r"^( +)# (logicalTypeOptions|required|enum)", r"\1\2", contract.file.read_text(), flags=re.MULTILINE)
    contract.file.write_text(text)
    stricter = load_contract(contract.file)
    by_name = {column.name: column for column in stricter.columns}
    assert by_name["change"].minimum == -700 and by_name["change"].maximum == 2000
    assert by_name["grade"].allowed == ("a", "b", "c")
    assert by_name["seen_at"].zone == "Europe/Berlin"
    assert fates(stricter, read_sample(tmp_path / "orders.csv").columns) == {"accepted": 120}


def test_few_values_are_a_list_only_if_there_is_enough_to_go_by(tmp_path: Path) -> None:
    few = "row_id,state\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
    many = "row_id,state\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(200))
    assert [column.allowed for column in made(tmp_path, few).columns] == [(), ()]
    assert [column.allowed for column in made(tmp_path, many, force=True).columns] == [(), ("a", "b")]


@pytest.mark.parametrize(
    ("header", "values", "personal"),
    [
        ("contact", ["a@b.com", "c@d.org"], True),
        ("contact", ["+49 351 123456", "+33 1 23456789"], True),
        ("reference", ["4111111111111111", "5500000000000004"], True),
        ("reference", ["4111111111111112", "5500000000000005"], False),
        ("last_name", ["x", "y"], True),
        ("product_name", ["x", "y"], False),
        ("birth_date", ["1980-01-01", "1990-01-01"], True),
        ("amount", ["1.50", "2.50"], False),
    ],
)
def test_what_seems_to_be_about_people_is_classified(
    tmp_path: Path, header: str, values: list[str], personal: bool
) -> None:
    contract = made(tmp_path, f"row_id,{header}\n1,{values[0]}\n2,{values[1]}\n")
    assert contract.columns[1].is_sensitive is personal


def test_a_day_is_guessed_by_name_and_taken_by_order(tmp_path: Path) -> None:
    text = "code,birth_date,shipped\nA,1980-01-01,2025-01-02\nB,1990-01-01,2025-01-03\n"
    assert made(tmp_path, text).load == "full"
    daily = made(tmp_path, text, day="shipped", force=True)
    assert daily.daily.column == "shipped" and daily.keys == ("code", "shipped")
    assert made(tmp_path, ORDERS, load="full", force=True).keys == ("order_day", "order_id")
    with pytest.raises(AssayError, match="code is a string"):
        made(tmp_path, text, day="code", force=True)
    with pytest.raises(AssayError, match="drop --day"):
        made(tmp_path, text, day="shipped", load="full", force=True)
    with pytest.raises(AssayError, match="No column can be the day"):
        made(tmp_path, "code\nA\nB\n", load="append_daily", force=True)


def test_a_day_alone_is_the_key_of_a_table_of_days(tmp_path: Path) -> None:
    rows = "".join(f"2025-01-{n:02},{n % 3}\n" for n in range(1, 21))
    assert made(tmp_path, f"day,visitors\n{rows}").keys == ("day",)


def test_rows_that_nothing_tells_apart_are_said_to_be_duplicates(tmp_path: Path) -> None:
    contract = made(tmp_path, "code,amount\nA,1.5\nB,1.5\nA,1.50\n")
    assert "1 of 3 rows share theirs" in contract.file.read_text()
    assert fates(contract, read_sample(tmp_path / "orders.csv").columns) == {"accepted": 2, "duplicate": 1}


JSON = [
    {"day": "2025-01-01", "id": 9007199254740993, "share": 1e-7, "ok": True, "tags": ["a"], "code": "007", "x": "1"},
    {"day": "2025-01-02", "id": 2, "share": 0.5, "ok": False, "tags": [], "code": "5", "x": 1},
]


def test_json_lines_keep_what_the_sender_said(tmp_path: Path) -> None:
    text = "".join(json.dumps(one) + "\n" for one in JSON)
    assert kinds(made(tmp_path, text)) == {
        "day": "date",
        "id": "bigint",
        "share": "double",
        "ok": "boolean",
        "tags": "string",
        "code": "string",
        "x": "string",
    }


def test_parquet_keeps_its_types_and_what_no_number_may_be_is_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "huge": pa.array([2**64 - 1, 1], pa.uint64()),
            "share": pa.array([0.5, 1e-30]),
            "gap": pa.array([0.5, float("nan")]),
            "price": pa.array([None, 1], pa.decimal128(8, 2)),
            "at": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "exact": pa.array([1, 1001], pa.timestamp("ns")),
            "code": pa.array(["1", "2"]),
        }
    )
    file = tmp_path / "frame.parquet"
    pq.write_table(table, file)
    contract = new_feed("frame", file, folder=tmp_path / "contracts").contract
    assert contract.format == "parquet"
    assert kinds(contract) == {
        "id": "int",
        "huge": "string",
        "share": "double",
        "gap": "string",
        "price": "decimal(12,2)",
        "at": "timestamp",
        "exact": "string",
        "code": "string",
    }


def test_a_packed_sample_is_read_and_a_long_one_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "orders.csv.gz"
    file.write_bytes(gzip.compress(ORDERS.encode()))
    assert new_feed("orders", file, folder=tmp_path).contract.keys == ("order_day", "order_id")
    long = orders(tmp_path, "row_id,note\n" + "".join(f'{n},"two\nlines"\n' for n in range(5000)))
    monkeypatch.setattr(sampling, "MAX_BYTES", 20_000)
    sample = read_sample(long)
    assert not sample.is_whole and 900 < sample.rows < 5000
    assert set(sample.columns["note"]) == {"two\nlines"}
    assert not read_sample(long, most=10).is_whole
    text = new_feed("long", long, folder=tmp_path).contract.file.read_text()
    assert "the first" in text and "later ones may differ" in text


@pytest.mark.parametrize(
    ("content", "said", "next_action"),
    [
        (b"", "is empty", "some rows"),
        (b"\n \n", "nothing but blanks", "some rows"),
        (b"a,b\n", "has a header and no row", "rows"),
        (b"a,b,a\n1,2,3\n", "has 'a' twice in its header", "a name of its own"),
        (b"Order ID,amount,ds\n1,2,3\n", '"Order ID", "ds" cannot be columns', "order_id,amount,ds_of_row"),
        (b"id,order\n1,2\n", '"order" cannot be columns', "id,order_of_row"),
        (b"a;b\n1;2\n", "separates its columns by semicolons", "commas"),
        (b"a,b\n1,2\n1,2,3\n", "has 3 fields in line 3, and 2 in its header", "mend that line"),
        (b'a,b\n1,"2\n', "is no CSV at line", "quotes"),
        (b"a,b\n1,caf\xe9\n", "is not UTF-8: byte 0xe9 in line 2", "iconv"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16", "iconv"),
        (b"a,b\n1,\0\n", "in line 2, which no text may hold", "take it out"),
        (b'[{"a": 1}]', "is one JSON array", "one object a line"),
        (b'{"a": 1}\n{"a": \n', "is no JSON in line 2", "one object a line"),
        (b'{"a": NaN}\n', "NaN is no number of JSON", "one object a line"),
        (b'{"a": 1, "a": 2}\n', "a stands there twice", "one object a line"),
        (b"\x1f\x8bnothing", "packed with gzip and not called so", ".gz"),
        (b"PAR1nothing", "is no Parquet file", "again"),
        (b"a,b\n1,\n,2\n", "has gaps: nothing names a row", "every row has"),
    ],
)
def test_a_sample_that_cannot_be_a_feed_is_answered_with_what_to_do(
    tmp_path: Path, content: bytes, said: str, next_action: str
) -> None:
    file = tmp_path / "sample.csv"
    file.write_bytes(content)
    with pytest.raises(AssayError) as refused:
        new_feed("sample", file, folder=tmp_path / "contracts")
    assert said in refused.value.what and next_action in refused.value.next_action
    assert not (tmp_path / "contracts").exists(), "nothing was written"


def test_a_header_that_was_mended_as_suggested_is_taken(tmp_path: Path) -> None:
    with pytest.raises(AssayError) as refused:
        made(tmp_path, "Order ID,order id,2nd,ds\n1,2,3,4\n")
    found = re.search(r"header ([\w,]+),", refused.value.next_action)
    assert found is not None
    assert len(made(tmp_path, f"{found[1]}\n1,2,3,4\n").columns) == 4


@pytest.mark.parametrize("name", ["two words.csv", "two words.csv.gz"])
@pytest.mark.parametrize(("text", "rows"), [("Order ID,Day\n1,2\n", 1), ("1,2025-01-31\n2,2025-02-01\n", 2)])
def test_the_command_that_mends_a_header_does_so_and_loses_no_row(
    tmp_path: Path, name: str, text: str, rows: int
) -> None:
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with pytest.raises(AssayError) as refused:
        new_feed("orders", file, folder=tmp_path / "contracts")
    command = re.split(r"or here: |above it: ", refused.value.next_action)[-1]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert read_sample(tmp_path / "mended.csv").rows == rows
    assert new_feed("orders", tmp_path / "mended.csv", folder=tmp_path / "contracts").contract.keys


def test_a_header_of_several_lines_has_no_command_of_one(tmp_path: Path) -> None:
    with pytest.raises(AssayError) as refused:
        made(tmp_path, 'id,"two\nlines"\n1,2\n')
    assert "id,two_lines" in refused.value.next_action and "sed" not in refused.value.next_action


def test_a_parquet_file_that_could_not_land_is_refused_however_long(tmp_path: Path) -> None:
    rows = sampling.MAX_ROWS + 1
    pq.write_table(
        pa.table({"id": range(rows), "at": pa.array([0] * rows, pa.time64("us"))}), tmp_path / "times.parquet"
    )
    with pytest.raises(AssayError, match="has at as time64"):
        new_feed("times", tmp_path / "times.parquet", folder=tmp_path / "contracts")


def test_a_duration_is_the_number_that_the_file_has(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "took": pa.array([5, 86_400], pa.duration("s"))})
    pq.write_table(table, tmp_path / "arrow.parquet")
    # What everybody else reads, who has no schema of Arrow.
    pq.write_table(table, tmp_path / "plain.parquet", store_schema=False)
    plain = pq.read_table(tmp_path / "plain.parquet")["took"]
    assert read_sample(tmp_path / "arrow.parquet").columns["took"] == [str(value) for value in plain.to_pylist()]
    assert kinds(new_feed("waits", tmp_path / "arrow.parquet", folder=tmp_path).contract)["took"] == "int"


def test_nothing_is_written_over_unless_told(tmp_path: Path) -> None:
    contract = made(tmp_path)
    contract.file.write_text("mine")
    with pytest.raises(AssayError, match=r"contracts/orders.odcs.yaml is there"):
        made(tmp_path)
    assert contract.file.read_text() == "mine"
    assert made(tmp_path, force=True).keys


@pytest.mark.parametrize("name", ["Orders", "2nd", "my-feed", "order", "../x", ""])
def test_a_feed_has_a_name_that_is_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssayError, match="cannot be a feed's name"):
        new_feed(name, orders(tmp_path), folder=tmp_path / "contracts")


@pytest.mark.parametrize("text", ["Order ID", "customerName", "2nd", "ds", "select", "Größe (cm)", "%", "é"])
def test_any_header_has_a_name_to_suggest(text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", identifier_for(text, "column"))
