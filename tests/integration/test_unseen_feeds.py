"""Feeds that nobody wrote code for: a contract and a file become Silver, with values written here by hand.

The deliveries of full feeds as well, of which the newest counts as a whole.
"""

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.contract import Contract
from foundation.lake import load_table
from spark_assets.bronze import BronzeOutcome, ingest
from spark_assets.publish import SilverWrite, refine
from tests.integration.own_feeds import LINEAGE, OwnFeeds, column, day_column, table_rows, values

pytestmark = pytest.mark.usefixtures("sensors_wait")


def refined(feeds: OwnFeeds, contract: Contract, days: Sequence[date] | None) -> tuple[BronzeOutcome, SilverWrite]:
    return ingest(feeds.settings, contract, days, LINEAGE), refine(feeds.settings, contract, days, LINEAGE)


def test_a_shop_s_orders_need_a_contract_and_a_file(feeds: OwnFeeds) -> None:
    day = date(2013, 11, 3)  # New York's clocks go back at two
    feed = feeds.name("orders")
    contract = feeds.contract(
        feed,
        [
            day_column("order_day"),
            column("order_id", "string", primaryKey=True, options={"pattern": r"[A-Z]{2}-\d+"}),
            column("email", "string", classification="pii", required=True, options={"pattern": r"[^@\s]+@[^@\s]+"}),
            column("total", "decimal(8,2)", required=True, options={"minimum": 0}),
            column("state", "string", enum=[{"value": "paid"}, {"value": "sent back"}]),
            column("ordered_at", "timestamp", options={"defaultTimezone": "America/New_York"}),
            column("gift", "boolean"),
            column("note", "string"),
        ],
    )
    feeds.put(
        feed,
        "orders 1.csv.gz",
        b"order_id,order_day,email,total,state,ordered_at,gift,note\n"
        b'AB-1,2013-11-03,ann@example.com,19.90,paid,2013-11-03 00:30:00,yes,"for ""Bo"",\nwith love"\n'
        b"AB-2,2013-11-03,bo@example.com,0.10,sent back,2013-11-03 01:30:00,,\n"
        b"AB-3,2013-11-03,cy@example.com,999999.99,,2013-11-03T01:30:00-05:00,no,caf\xc3\xa9\n"
        b"AB-4,2013-11-03,not an address,5.001,lost,2013-11-03 12:00,no,\n"
        b"AB-5,2013-11-04,di@example.com,-1,paid,,,\n",
        day,
    )
    feeds.put(
        feed,
        "orders 2.csv",
        b"order_day,order_id,email,total,state,ordered_at,gift,note\n"
        b"2013-11-03,AB-2,bo@example.com,0.20,paid,2013-11-03 02:00,,again\n",
        day,
    )
    _, outcome = refined(feeds, contract, [day])

    assert outcome.parts[day].error is None
    silver = table_rows(feeds.settings, "silver", feed)
    columns = ("order_id", "email", "total", "state", "ordered_at", "gift", "note")
    assert sorted(values(silver, *columns)) == [
        ("AB-1", "ann@example.com", Decimal("19.90"), "paid", utc(3, 4, 30), True, 'for "Bo",\nwith love'),
        ("AB-2", "bo@example.com", Decimal("0.20"), "paid", utc(3, 7, 0), None, "again"),
        ("AB-3", "cy@example.com", Decimal("999999.99"), None, utc(3, 6, 30), False, "café"),
    ]
    quarantine = table_rows(feeds.settings, "quarantine", feed)
    [(first_file, first, _)] = {(file, sequence, 0) for file, sequence, _ in quarantine}
    second = max(sequence for _, sequence, _ in silver)
    assert {row: (one["fate"], sorted(one["reasons"])) for (_, _, row), one in quarantine.items()} == {
        2: ("duplicate", [f"duplicate_of:{feed}/ds=2013-11-03/orders 2.csv:{second}:1"]),
        4: ("quarantined", ["not_allowed:state", "not_decimal(8,2):total", "pattern:email"]),
        5: ("quarantined", ["out_of_range:total", "wrong_partition:order_day"]),
    }
    assert first_file == f"{feed}/ds=2013-11-03/orders 1.csv.gz" and first < second


def utc(day: int, hour: int, minute: int) -> datetime:
    return datetime(2013, 11, day, hour, minute, tzinfo=UTC)


SENSORS = [
    column("sensor", "string", primaryKey=True),
    column("reading", "bigint", primaryKey=True),
    column("value", "decimal(20,18)"),
    column("measured_at", "timestamp", required=True),
    column("payload", "string"),
]


def sensor_lines(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def test_sensors_events_keep_their_payload_and_every_digit(feeds: OwnFeeds) -> None:
    feed = feeds.name("sensors")
    contract = feeds.contract(feed, SENSORS, form="json", load="full")
    feeds.put(
        feed,
        "events.jsonl",
        sensor_lines(
            '{"sensor": "a", "reading": 9007199254740993, "value": 0.123456789012345678, "measured_at": '
            '"2013-11-03T01:30:00+02:00", "payload": {"axes": [1, 2.50, null], "who": {"name": "J\\u00fcrgen"}}}',
            '{"reading": 2, "sensor": "a", "measured_at": "2013-11-03 01:30:00.25", "payload": "plain", "value": "1.5"}',
            '{"sensor": "b", "reading": 1.5, "value": 1e400, "measured_at": "soon", "surprise": true}',
        ),
    )
    _, outcome = refined(feeds, contract, None)

    assert outcome.parts[None].error is None
    assert values(
        table_rows(feeds.settings, "silver", feed), "sensor", "reading", "value", "measured_at", "payload"
    ) == [
        (
            "a",
            9007199254740993,
            Decimal("0.123456789012345678"),
            datetime(2013, 11, 2, 23, 30, tzinfo=UTC),
            '{"axes":[1,2.5,null],"who":{"name":"Jürgen"}}',
        ),
        ("a", 2, Decimal("1.5"), datetime(2013, 11, 3, 1, 30, 0, 250000, tzinfo=UTC), "plain"),
    ]
    [(reasons, line)] = values(table_rows(feeds.settings, "quarantine", feed), "reasons", "corrupt_record")
    assert sorted(reasons) == [
        "malformed_row",
        "not_bigint:reading",
        "not_decimal(20,18):value",
        "not_timestamp:measured_at",
    ]
    assert '"surprise": true' in line


def test_a_data_frame_s_parquet_with_nanoseconds_keeps_every_moment(feeds: OwnFeeds) -> None:
    feed = feeds.name("frames")
    columns = [column("number", "int", primaryKey=True), column("naive", "timestamp"), column("zoned", "timestamp")]
    columns[1]["logicalTypeOptions"] = {"defaultTimezone": "Europe/Berlin"}
    contract = feeds.contract(feed, columns, form="parquet", load="full")
    # microseconds side by side: none may become its neighbour; 1969 is negative
    moments = [1373025600_123456000 + 1000 * number for number in range(8)]
    file = io.BytesIO()
    table = {
        "number": pa.array(range(10)),
        "naive": pa.array([*moments, -1_000, None], pa.timestamp("ns")),
        "zoned": pa.array([*moments, -1_000, moments[0] + 789], pa.timestamp("ns", "Europe/Berlin")),
    }
    pq.write_table(pa.table(table), file)
    feeds.put(feed, "frame.parquet", file.getvalue())
    _, outcome = refined(feeds, contract, None)

    assert outcome.parts[None].error is None
    silver = table_rows(feeds.settings, "silver", feed)
    assert values(silver, "number", "naive", "zoned") == [
        *[
            (number, datetime(2013, 7, 5, 10, 0, 0, micro, UTC), datetime(2013, 7, 5, 12, 0, 0, micro, UTC))
            for number, micro in enumerate(range(123456, 123464))
        ],
        (8, datetime(1969, 12, 31, 22, 59, 59, 999999, UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    ]
    # what a microsecond cannot hold is not rounded in silence
    [kept] = values(table_rows(feeds.settings, "quarantine", feed), "zoned", "reasons")
    assert kept == ("2013-07-05T12:00:00.123456789Z", ["not_timestamp:zoned"])


def reading(number: int, value: int) -> str:
    return f'{{"sensor": "s", "reading": {number}, "value": {value}, "measured_at": "2013-01-01T00:00:00Z"}}'


def test_of_a_full_feed_the_newest_delivery_counts_as_a_whole(feeds: OwnFeeds) -> None:
    feed = feeds.name("whole")
    contract = feeds.contract(feed, SENSORS, form="json", load="full")

    def seen() -> list[tuple[Any, ...]]:
        return sorted(values(table_rows(feeds.settings, "silver", feed), "reading", "value"))

    original = sensor_lines(reading(1, 1), reading(2, 1), reading(3, 1))
    feeds.put(feed, "readings.jsonl", original)
    refined(feeds, contract, None)
    assert seen() == [(1, 1), (2, 1), (3, 1)]

    feeds.put(feed, "other.jsonl", sensor_lines(reading(2, 2), reading(4, 2)))
    _, second = refined(feeds, contract, None)
    assert seen() == [(2, 2), (4, 2)], "under whatever name it comes"
    assert second.parts[None].rows == {"accepted": 2, "quarantined": 0, "superseded": 3, "duplicate": 0}

    feeds.put(feed, "readings.jsonl", sensor_lines(reading(5, 3)))
    refined(feeds, contract, None)
    assert seen() == [(5, 3)]

    feeds.put(feed, "readings.jsonl", original)
    refined(feeds, contract, None)
    assert seen() == [(1, 1), (2, 1), (3, 1)], "a reverted one is a delivery of its own"

    path = feeds.put(feed, "other.jsonl", b"[" + original)
    ingested, kept = refined(feeds, contract, None)
    error = ingested.parts[None].error
    assert error is not None and f"landing/{path} was rejected: is one JSON array" in error.what
    assert f"--select bronze/{feed}" in error.next_action and "--partition" not in error.next_action
    assert kept.parts[None].error is None
    assert seen() == [(1, 1), (2, 1), (3, 1)], "a rejected one leaves the last good one"


def test_ingesting_and_refining_a_full_feed_again_changes_nothing(feeds: OwnFeeds) -> None:
    feed = feeds.name("again")
    contract = feeds.contract(feed, SENSORS, form="json", load="full")
    feeds.put(feed, "one.jsonl", sensor_lines(reading(1, 1), reading(2, 1)))
    feeds.put(feed, "two.jsonl", sensor_lines(reading(1, 2), reading(1, 3), reading(2, 4), '{"sensor": "s"}'))

    def state() -> list[Any]:
        layers = ("bronze", "silver", "quarantine")
        tables = [load_table(feeds.settings, layer, feed) for layer in layers]
        content = [sorted(table_rows(feeds.settings, layer, feed).items()) for layer in layers]
        return [
            content,
            [table.schema().as_struct() for table in tables],
            [set(table.metadata.refs) for table in tables],
        ]

    ingested, first = refined(feeds, contract, None)
    before = state()
    again, second = refined(feeds, contract, None)
    assert state() == before
    assert again.snapshot_id == ingested.snapshot_id, "Bronze has no reason to write"
    assert again.parts[None].rows == ingested.parts[None].rows == 6
    assert second.parts[None].rows == first.parts[None].rows
    # what the first snapshot held is still what it held
    table = load_table(feeds.settings, "silver", feed)
    assert table.scan(snapshot_id=first.silver_snapshot_id).to_arrow().sort_by("source_row").to_pylist() == (
        table.scan(snapshot_id=second.silver_snapshot_id).to_arrow().sort_by("source_row").to_pylist()
    )
