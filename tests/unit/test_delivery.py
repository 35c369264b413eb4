"""A person's file becomes files of landing: whole, or a file a day, with every row in the folder of its day."""

import csv
import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings
from intake.delivery import deliver
from tests.unit.feeds import FEED

ROWS = 'day,code,amount\n2013-01-01,"a,\nb",1\n\n2013-01-02,c,2\n2013-01-01,"d ""e""",3\n'


def landed(settings: Settings) -> dict[str, list[list[str]]]:
    found = {}
    for file in sorted((settings.landing / FEED).rglob("*.csv*")):
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows = list(csv.reader(text.decode().splitlines(keepends=True)))
        found[str(file.relative_to(settings.landing / FEED))] = rows
    return found


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_file_of_several_days_is_cut_and_no_value_changes(
    settings: Settings, contract: Contract, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(gzip.compress(ROWS.encode()) if name.endswith(".gz") else ROWS.encode())
    deliver(settings, contract, file)
    header = ["day", "code", "amount"]
    assert landed(settings) == {
        f"ds=2013-01-01/{name}": [header, ["2013-01-01", "a,\nb", "1"], ["2013-01-01", 'd "e"', "3"]],
        f"ds=2013-01-02/{name}": [header, ["2013-01-02", "c", "2"]],
    }


def test_a_file_of_a_day_that_is_named_is_copied_as_it_is(
    settings: Settings, contract: Contract, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"anything")
    (there,) = deliver(settings, contract, file, date(2013, 1, 5))
    assert there == settings.landing / FEED / "ds=2013-01-05" / "rows.csv" and there.read_bytes() == b"anything"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("day,code,amount\n2013-01-01,a,1\nsoon,b,2\n", "row 2 has day 'soon'"),
        ("day,code,amount\n20130101,a,1\n", "row 1 has day '20130101'"),  # Silver takes it for no day
        ("code,amount\na,1\n", "has no column day"),
        ("day,code,amount\n", "has no row"),
    ],
)
def test_a_file_that_cannot_be_cut_lands_nothing(
    settings: Settings, contract: Contract, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(AssayError, match=said):
        deliver(settings, contract, file)
    assert not (settings.landing / FEED).exists()


@pytest.mark.parametrize("name", ["_rows.csv", ".rows.csv", "rows.csv.tmp"])
def test_a_file_that_the_sensor_would_not_see_does_not_land(
    settings: Settings, contract: Contract, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(ROWS)
    with pytest.raises(AssayError, match="would never be read"):
        deliver(settings, contract, tmp_path / name)
    assert not (settings.landing / FEED).exists()


def test_a_damaged_gzip_is_said_to_be_one(settings: Settings, contract: Contract, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv.gz"
    packed = bytearray(gzip.compress(ROWS.encode() * 50))
    packed[12:40] = b"\xff" * 28
    file.write_bytes(packed)
    with pytest.raises(AssayError, match=r"rows.csv.gz cannot be read"):
        deliver(settings, contract, file)


def test_long_texts_and_odd_line_ends_within_them_are_kept(
    settings: Settings, contract: Contract, tmp_path: Path
) -> None:
    long = "x" * 200_000
    (tmp_path / "rows.csv").write_text(f"day,code,amount\n2013-01-01,{long},1\n")
    csv.field_size_limit(131_072)  # Python's own
    (there,) = deliver(settings, contract, tmp_path / "rows.csv")
    assert long in there.read_text()
    line = '{"day": "2013-01-01", "code": "a\u2028b\x85"}\n'
    (tmp_path / "rows.jsonl").write_text(line)
    (there,) = deliver(settings, replace(contract, format="json"), tmp_path / "rows.jsonl")
    assert there.read_text() == line
