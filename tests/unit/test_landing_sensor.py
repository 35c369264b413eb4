"""The landing sensors: every new version becomes a run of its day, once, and none is forgotten."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import pytest

from foundation.contract import Contract
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import archive_arrivals, mark_in_bronze, waiting_versions
from orchestrator.sensors import COMMAND_LOCK, MAX_REQUESTS, RANGE_END, RANGE_START, landing_sensor
from tests.unit.feeds import FEED, csv_bytes, day_number, put

YEAR = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")


class Landing:
    """A sensor and its cursor, as the daemon keeps it from tick to tick."""

    def __init__(self, settings: Settings, contract: Contract, partitions: dg.DailyPartitionsDefinition = YEAR) -> None:
        self.settings = settings
        self.contract = contract
        self.partitions = partitions
        self.cursor: str | None = None
        self.keys: set[str] = set()

    def send(self, numbers: Sequence[int], *codes: str) -> None:
        for number in numbers:
            put(self.settings, csv_bytes(*(codes or ("a",)), day=day_number(number)), day_number(number))

    def requests(self) -> list[dg.RunRequest]:
        """One tick: the runs that the daemon would start, which are those with a key that it did not see yet."""
        sensor = landing_sensor(self.settings, self.contract, self.partitions)
        with dg.DagsterInstance.ephemeral() as instance:
            result = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=self.cursor))
        self.skipped = result.skip_message
        self.cursor = result.cursor or self.cursor
        new = [request for request in result.run_requests or [] if request.run_key not in self.keys]
        self.keys |= {str(request.run_key) for request in new}
        return new

    def tick(self) -> list[tuple[date, date]]:
        """One tick: the ranges of days that are asked for."""
        return [
            (date.fromisoformat(request.tags[RANGE_START]), date.fromisoformat(request.tags[RANGE_END]))
            for request in self.requests()
        ]

    def days(self) -> list[date]:
        """One tick: the days that are asked for."""
        return [first + timedelta(days=n) for first, last in self.tick() for n in range((last - first).days + 1)]


@pytest.fixture
def landing(settings: Settings, contract: Contract) -> Landing:
    return Landing(settings, contract)


def test_nothing_landed_nothing_is_asked_for(landing: Landing) -> None:
    assert landing.tick() == []
    assert landing.skipped


def test_days_without_a_gap_are_one_run(landing: Landing) -> None:
    landing.send(range(5))
    assert landing.tick() == [(day_number(0), day_number(4))]


def test_a_gap_makes_two_runs(landing: Landing) -> None:
    landing.send([0, 1, 3])
    assert landing.tick() == [(day_number(0), day_number(1)), (day_number(3), day_number(3))]


def test_a_year_is_one_run(landing: Landing) -> None:
    landing.send(range(365))
    assert landing.tick() == [(date(2013, 1, 1), date(2013, 12, 31))]


def test_what_was_asked_for_is_not_asked_for_again(landing: Landing) -> None:
    landing.send(range(5))
    landing.tick()
    assert landing.tick() == []
    assert landing.skipped
    landing.send([7])
    assert landing.days() == [day_number(7)]


def test_two_files_of_a_day_are_one_run(landing: Landing) -> None:
    for name in ("a.csv", "b.csv"):
        put(landing.settings, csv_bytes("a"), name=name)
    assert landing.days() == [day_number(0)]


def test_a_file_that_returns_to_old_bytes_is_asked_for_three_times(landing: Landing) -> None:
    asked = []
    for code in ("a", "b", "a"):
        landing.send([0], code)
        asked += landing.requests()
    assert len({request.run_key for request in asked}) == len(asked) == 3


def test_a_rejected_file_is_not_asked_for(landing: Landing) -> None:
    put(landing.settings, b"")
    assert landing.tick() == []


def test_what_a_command_brought_to_bronze_is_not_asked_for(landing: Landing) -> None:
    landing.send(range(3))
    versions = archive_arrivals(landing.settings, landing.contract)
    mark_in_bronze(landing.settings, [version.sequence for version in versions[:2]], 42)
    assert landing.days() == [day_number(2)]


def test_while_a_command_lands_by_itself_the_sensor_waits(landing: Landing) -> None:
    landing.send(range(3))
    with writer_lock(landing.settings, COMMAND_LOCK):
        assert landing.tick() == []
        assert COMMAND_LOCK in str(landing.skipped)
        assert waiting_versions(landing.settings, FEED, 0) == []
    assert landing.tick() == [(day_number(0), day_number(2))]


def test_more_ranges_than_a_tick_may_ask_for_come_with_the_next_ticks(landing: Landing) -> None:
    numbers = range(0, 2 * (2 * MAX_REQUESTS + 3), 2)
    landing.send(numbers)
    ticks = [landing.days() for _ in range(4)]
    assert [len(days) for days in ticks] == [MAX_REQUESTS, MAX_REQUESTS, 3, 0]
    assert [day for days in ticks for day in days] == [day_number(number) for number in numbers]


def test_what_arrives_while_ranges_are_left_is_asked_for_too(landing: Landing) -> None:
    landing.send(range(100, 100 + 2 * (MAX_REQUESTS + 5), 2))
    asked = set(landing.days())
    landing.send([0, 1])
    for _ in range(3):
        asked |= set(landing.days())
    assert asked == {day_number(number) for number in [*range(100, 100 + 2 * (MAX_REQUESTS + 5), 2), 0, 1]}


def test_a_day_that_no_partition_knows_does_not_stop_the_others(landing: Landing) -> None:
    put(landing.settings, csv_bytes("a", day=date(2014, 5, 1)), date(2014, 5, 1))
    assert landing.tick() == []
    landing.send([3])
    assert landing.days() == [day_number(3)]
    assert landing.tick() == []
    landing.send([4])
    assert landing.days() == [day_number(4)]


def test_late_days_that_fail_do_not_keep_back_those_that_were_left(landing: Landing) -> None:
    left = range(100, 100 + 2 * (2 * MAX_REQUESTS), 2)
    landing.send(left)
    asked = set(landing.days())
    # Before the second half is asked for, as many earlier days arrive; none of the runs gets to Bronze.
    late = range(0, 2 * MAX_REQUESTS, 2)
    landing.send(late)
    for _ in range(10):
        asked |= set(landing.days())
    assert asked == {day_number(number) for number in (*late, *left)}


def test_a_day_that_becomes_known_later_is_asked_for_then(settings: Settings, contract: Contract) -> None:
    landing = Landing(settings, contract, dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-05"))
    landing.send([0, 10])
    assert landing.days() == [day_number(0)]
    landing.partitions = YEAR  # ten days later, or after the contract's `ends` was moved
    landing.send([11])
    assert landing.days() == [day_number(10), day_number(11)]


def test_more_days_than_a_tick_may_ask_for_become_known_at_once(settings: Settings, contract: Contract) -> None:
    landing = Landing(settings, contract, dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-05"))
    early = range(10, 10 + 2 * (MAX_REQUESTS + 5), 2)
    landing.send(early)
    assert landing.tick() == []
    landing.send([0])
    assert landing.days() == [day_number(0)]
    landing.partitions = YEAR
    assert {day for _ in range(4) for day in landing.days()} == {day_number(number) for number in early}
