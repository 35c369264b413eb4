"""The landing sensors: every version gets the runs that it is owed, none is forgotten, and none is asked for without end."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from foundation.contract import Contract, load_contract
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake import archive
from intake.archive import Version, archive_arrivals, mark_in_bronze, mark_judged, rejudge, unfinished_versions
from orchestrator.sensors import (
    COMMAND_LOCK,
    FEED_TAG,
    MAX_REQUESTS,
    NAMED_PROBLEMS,
    RANGE_END,
    RANGE_START,
    landing_sensor,
)
from spark_assets.publish import rules_sign
from tests.unit.feeds import FEED, HEADER, csv_bytes, day_number, forked, full_document, put, written

YEAR = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
MINUTE = 60.0
LAKE = ["bronze", "quarantine", "silver"]


class Landing:
    """A sensor with its cursor, its clock and its runs, as the daemon keeps them from tick to tick."""

    def __init__(
        self,
        settings: Settings,
        contract: Contract,
        instance: dg.DagsterInstance,
        partitions: dg.DailyPartitionsDefinition = YEAR,
    ) -> None:
        self.settings = settings
        self.contract = contract
        self.instance = instance
        self.partitions = partitions
        self.cursor: str | None = None
        self.keys: set[str] = set()
        self.now = 1_700_000_000.0

    def send(self, numbers: Iterable[int], *codes: str) -> None:
        for number in numbers:
            put(self.settings, csv_bytes(*(codes or ("a",)), day=day_number(number)), day_number(number))

    def evaluate(self) -> Sequence[dg.RunRequest]:
        """One evaluation; the cursor goes on only if the daemon takes its result."""
        sensor = landing_sensor(self.settings, self.contract, self.partitions)
        result = sensor.evaluate_tick(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        self.skipped, self.left = result.skip_message, result.cursor
        return result.run_requests or []

    def requests(self) -> list[dg.RunRequest]:
        """One tick: the runs that the daemon would start, which are those with a key that it did not see yet."""
        found = self.evaluate()
        self.cursor = self.left or self.cursor
        new = [request for request in found if request.run_key not in self.keys]
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

    def owed(self) -> list[Version]:
        return unfinished_versions(self.settings, FEED, 1 << 60, rules_sign(self.contract))

    def to_bronze(self, versions: Iterable[Version]) -> None:
        mark_in_bronze(self.settings, [version.sequence for version in versions], 1)

    def judge(self, versions: Iterable[Version], taken: bool) -> None:
        """What a run leaves in the ledger when Silver took or refused the rows."""
        found = list(versions)
        self.to_bronze(found)
        sequences = [version.sequence for version in found]
        mark_judged(self.settings, sequences, rules_sign(self.contract), 2 if taken else None)

    def start(self, request: dg.RunRequest) -> str:
        """The run of a request, as the daemon makes it; its id."""
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing")
        return self.instance.create_run_for_job(
            dg.GraphDefinition(name="nothing").to_job(),
            tags=dict(request.tags),
            remote_job_origin=RemoteJobOrigin(repository, "nothing"),  # without it a run cannot be queued
        ).run_id

    def end(self, run_id: str) -> None:
        run = self.instance.get_run_by_id(run_id)
        assert run
        self.instance.report_run_failed(run)

    def asked(self) -> dict[str, dict[str, object]]:
        """What the cursor remembers, by day."""
        return json.loads(self.cursor or '{"asked": {}}')["asked"]


@pytest.fixture
def landing(settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> "Iterable[Landing]":
    with dg.DagsterInstance.ephemeral() as instance:
        made = Landing(settings, contract, instance)
        monkeypatch.setattr(time, "time", lambda: made.now)
        yield made


def test_nothing_landed_nothing_is_asked_for(landing: Landing) -> None:
    assert landing.tick() == []
    assert landing.skipped == "no new file version"


def ours(request: dg.RunRequest) -> dict[str, str]:
    """The tags that the sensor gives, without Dagster's own."""
    return {name: value for name, value in request.tags.items() if name in (FEED_TAG, RANGE_START, RANGE_END)}


def test_days_without_a_gap_are_one_run_of_bronze_silver_and_quarantine(landing: Landing) -> None:
    landing.send(range(5))
    (request,) = landing.requests()
    assert ours(request) == {FEED_TAG: FEED, RANGE_START: "2013-01-01", RANGE_END: "2013-01-05"}
    assert sorted(key.to_user_string() for key in request.asset_selection or []) == [f"{at}/{FEED}" for at in LAKE]


def test_a_gap_makes_two_runs(landing: Landing) -> None:
    landing.send([0, 1, 3])
    assert landing.tick() == [(day_number(0), day_number(1)), (day_number(3), day_number(3))]


def test_a_year_is_one_run(landing: Landing) -> None:
    landing.send(range(365))
    assert landing.tick() == [(date(2013, 1, 1), date(2013, 12, 31))]


def test_what_was_asked_for_is_not_asked_for_again_while_others_arrive(landing: Landing) -> None:
    landing.send(range(5))
    landing.tick()
    assert landing.tick() == []
    assert landing.skipped == "5 days wait for their runs"
    landing.send([7])
    assert landing.days() == [day_number(7)]


def test_two_files_of_a_day_are_one_run(landing: Landing) -> None:
    for name in ("a.csv", "b.csv"):
        put(landing.settings, csv_bytes("a"), name=name)
    assert landing.days() == [day_number(0)]


@pytest.mark.parametrize("fate", ["taken", "refused", "still running"])
def test_a_file_that_returns_to_old_bytes_is_asked_for_three_times(landing: Landing, fate: str) -> None:
    asked: list[dg.RunRequest] = []
    for code in ("a", "b", "a"):
        landing.send([0], code)
        asked += landing.requests()
        landing.start(asked[-1])
        if fate != "still running":
            landing.judge(landing.owed(), fate == "taken")
    assert len({request.run_key for request in asked}) == len(asked) == 3
    assert landing.tick() == []


def test_a_rejected_version_is_asked_for_once_so_that_its_run_says_why(landing: Landing) -> None:
    put(landing.settings, b"")
    assert landing.days() == [day_number(0)]
    landing.now += 1_000 * MINUTE
    assert landing.tick() == []
    assert landing.asked() == {}
    landing.contract = replace(landing.contract, max_quarantined=0.5)
    assert landing.tick() == []
    put(landing.settings, b"day,code\n")
    assert landing.days() == [day_number(0)]


def test_rejected_versions_are_asked_for_once_even_if_many_others_wait(landing: Landing) -> None:
    rejected = range(0, 60, 2)
    put(landing.settings, b"", day_number(58), "first.csv")  # its day comes last, and has the first sequence
    archive_arrivals(landing.settings, landing.contract)
    for number in rejected:
        put(landing.settings, b"", day_number(number))
    asked: Counter[date] = Counter()
    for _ in range(9):
        asked.update(landing.days())
        landing.now += 3 * MINUTE
    assert asked == Counter(day_number(number) for number in rejected)


def test_a_rejected_file_that_a_corrected_contract_can_read_is_asked_for(landing: Landing) -> None:
    put(landing.settings, f"{HEADER},note\n2013-01-01,a,1,n\n".encode())
    assert landing.days() == [day_number(0)]
    note = replace(landing.contract.columns[2], name="note")
    landing.contract = replace(landing.contract, columns=(*landing.contract.received, note))
    rejudge(landing.settings, landing.contract)
    assert landing.days() == [day_number(0)]


def test_what_a_command_brought_to_silver_is_not_asked_for(landing: Landing) -> None:
    landing.send(range(3))
    landing.judge(archive_arrivals(landing.settings, landing.contract)[:2], True)
    assert landing.days() == [day_number(2)]


def test_while_a_command_lands_by_itself_the_sensor_waits(landing: Landing) -> None:
    landing.send(range(3))
    with writer_lock(landing.settings, COMMAND_LOCK):
        assert landing.tick() == []
        assert COMMAND_LOCK in str(landing.skipped)
        assert landing.owed() == []
    assert landing.tick() == [(day_number(0), day_number(2))]


def test_a_run_that_failed_is_asked_for_again_after_2_10_and_60_minutes_and_then_no_more(landing: Landing) -> None:
    landing.send([0, 1])
    days = [day_number(0), day_number(1)]
    keys = []
    for wait in (0, 2, 10, 60):
        if wait:
            landing.now += wait * MINUTE - 1
            assert landing.tick() == []
            landing.now += 1
        (request,) = landing.requests()
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (str(days[0]), str(days[1]))
        keys.append(request.run_key)
        landing.end(landing.start(request))
        assert landing.tick() == []
    assert len(set(keys)) == 4
    landing.now += 100_000 * MINUTE
    assert landing.tick() == []
    assert landing.skipped == "2 days wait for their runs"


@pytest.mark.parametrize(
    "event",
    [
        None,
        dg.DagsterEventType.RUN_ENQUEUED,
        dg.DagsterEventType.RUN_STARTING,
        dg.DagsterEventType.RUN_START,
        dg.DagsterEventType.RUN_CANCELING,
    ],
)
def test_a_run_that_is_under_way_is_waited_for(landing: Landing, event: dg.DagsterEventType | None) -> None:
    landing.send([0, 1, 5])
    first, second = landing.requests()
    run = landing.start(first)
    if event:
        landing.instance.report_dagster_event(dg.DagsterEvent(event.value, "nothing"), run)
    landing.end(landing.start(second))
    landing.now += 1_000 * MINUTE
    assert landing.days() == [day_number(5)], "the other run has ended"
    landing.contract = replace(landing.contract, max_quarantined=0.5)
    assert landing.days() == [day_number(5)]
    landing.end(run)
    assert landing.days() == [day_number(0), day_number(1)]


def test_the_run_of_another_feed_is_not_waited_for(landing: Landing) -> None:
    landing.send([0])
    (request,) = landing.requests()
    landing.start(request._replace(tags={**request.tags, FEED_TAG: "another"}))
    landing.now += 2 * MINUTE
    assert landing.days() == [day_number(0)]


def test_a_day_whose_retries_ended_is_asked_for_at_once_when_the_contract_changed(landing: Landing) -> None:
    landing.send([0])
    for wait in (0, 2, 10, 60):
        landing.now += wait * MINUTE
        assert landing.days() == [day_number(0)]
    landing.contract = replace(landing.contract, max_quarantined=0.5)
    assert landing.days() == [day_number(0)]
    assert landing.tick() == []
    landing.now += 2 * MINUTE
    assert landing.days() == [day_number(0)], "the changed contract has retries of its own"


def test_a_new_version_is_asked_for_at_once_though_its_day_waits_or_runs(landing: Landing) -> None:
    landing.send([0])
    (request,) = landing.requests()
    landing.start(request)
    landing.send([0], "b")
    assert landing.days() == [day_number(0)]


def test_from_silver_only_is_asked_for_when_bronze_has_all_versions_of_the_day(landing: Landing) -> None:
    for name in ("a.csv", "b.csv"):
        put(landing.settings, csv_bytes(name), name=name)
    (whole,) = landing.requests()
    run = landing.start(whole)
    one, other = landing.owed()
    landing.to_bronze([one])
    assert landing.tick() == []
    landing.to_bronze([other])
    assert landing.tick() == [], "its run is under way, and will do Silver itself"
    landing.end(run)
    (silver_only,) = landing.requests()
    assert sorted(key.to_user_string() for key in silver_only.asset_selection or []) == [
        f"quarantine/{FEED}",
        f"silver/{FEED}",
    ]
    landing.end(landing.start(silver_only))
    landing.now += 2 * MINUTE
    (again,) = landing.requests()
    assert again.asset_selection == silver_only.asset_selection


def test_days_that_need_bronze_and_days_that_need_silver_only_are_runs_of_their_own(landing: Landing) -> None:
    landing.send(range(4))
    landing.to_bronze(archive_arrivals(landing.settings, landing.contract)[1:3])
    found = {
        (request.tags[RANGE_START], request.tags[RANGE_END]): len(list(request.asset_selection or []))
        for request in landing.requests()
    }
    assert found == {("2013-01-01", "2013-01-01"): 3, ("2013-01-02", "2013-01-03"): 2, ("2013-01-04", "2013-01-04"): 3}


def test_a_version_that_silver_refused_is_asked_for_when_the_rules_change(landing: Landing) -> None:
    landing.send([0])
    landing.tick()
    landing.judge(landing.owed(), taken=False)
    landing.now += 1_000 * MINUTE
    assert landing.tick() == []
    landing.contract = replace(landing.contract, max_quarantined=0.5)
    (request,) = landing.requests()
    assert len(list(request.asset_selection or [])) == 2, "its rows are in Bronze"
    landing.judge(landing.owed(), taken=True)
    landing.contract = replace(landing.contract, max_quarantined=0.6)
    assert landing.tick() == [], "Silver holds it"


def test_a_version_that_was_refused_is_asked_for_when_the_transform_changes(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_assets.publish.TRANSFORMS", tmp_path)
    landing.send([0])
    landing.tick()
    landing.judge(landing.owed(), taken=False)
    assert landing.tick() == []
    (tmp_path / f"{FEED}.py").write_text("def transform(df, refs): return df\n")
    assert landing.days() == [day_number(0)]


def test_a_day_that_silver_holds_is_forgotten_by_the_cursor(landing: Landing) -> None:
    landing.send([0, 5])
    landing.tick()
    assert set(landing.asked()) == {"2013-01-01", "2013-01-06"}
    landing.judge(landing.owed()[:1], taken=True)
    landing.tick()
    assert set(landing.asked()) == {"2013-01-06"}


def test_a_lost_cursor_asks_for_nothing_that_silver_holds(landing: Landing) -> None:
    landing.send([0, 5])
    landing.tick()
    landing.judge(landing.owed()[:1], taken=True)
    landing.cursor = None
    landing.keys.clear()
    assert landing.days() == [day_number(5)]


def test_the_cursor_of_the_first_version_is_understood(landing: Landing) -> None:
    landing.send([0])
    landing.cursor = json.dumps({"after": 7, "unknown": [3]})
    assert landing.days() == [day_number(0)]


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


def arrive(settings: Settings, days: Sequence[date], files: int) -> None:
    """Writes so many files into the ledger, over the days in turn, as if the archive had them."""
    rows = [
        {
            "feed": FEED,
            "ds": days[number % len(days)],
            "path": f"{FEED}/{number}.csv",
            "sha256": f"{number:064}",
            "size": 1,
            "mtime_ns": 1,
            "state": "accepted",
            "arrived_at": datetime(2013, 1, 1, tzinfo=UTC),
            "header": "[]",
        }
        for number in range(files)
    ]
    with archive._ledger(settings) as connection:
        connection.execute(archive.versions.insert(), rows)


@pytest.mark.parametrize("gap", [1, 3], ids=["days without a gap", "each day alone"])
def test_of_10_000_files_every_day_is_asked_for_once_in_small_steps(landing: Landing, gap: int) -> None:
    landing.partitions = dg.DailyPartitionsDefinition("1990-01-01", end_date="2020-01-01")
    days = [date(1991, 1, 1) + timedelta(days=gap * number) for number in range(10_000 if gap == 1 else 35)]
    arrive(landing.settings, days, 10_000)
    asked: Counter[date] = Counter()
    while requests := landing.requests():
        assert len(requests) <= MAX_REQUESTS
        for request in requests:
            first, last = (date.fromisoformat(request.tags[tag]) for tag in (RANGE_START, RANGE_END))
            asked.update(first + timedelta(days=number) for number in range((last - first).days + 1))
        landing.now += 0.5  # all of it takes less than a retry
    assert asked == Counter(days)
    landing.judge(landing.owed(), taken=True)
    assert landing.tick() == []
    assert len(landing.cursor or "") < 50


def test_two_ticks_at_once_ask_for_the_same_runs(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.send([*range(0, 10, 3), 20, 21])
    put(landing.settings, b"", day_number(30))
    archive_arrivals(landing.settings, landing.contract)
    reader, writer = os.pipe()

    def ask_too() -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            other = Landing(landing.settings, landing.contract, instance)
            os.write(writer, json.dumps([str(request.run_key) for request in other.evaluate()]).encode())

    other = forked(ask_too)
    first = [request.run_key for request in landing.evaluate()]
    landing.now += 1.5
    second = [request.run_key for request in landing.evaluate()]
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    assert first == second == json.loads(os.read(reader, 65_536))
    assert len(first) == len(set(first)) == 6


def test_a_tick_whose_cursor_was_lost_asks_for_the_same_runs(landing: Landing) -> None:
    landing.send([0, 5])
    asked = [request.run_key for request in landing.evaluate()]
    assert [request.run_key for request in landing.evaluate()] == asked
    landing.tick()
    landing.now += 2 * MINUTE
    again = [request.run_key for request in landing.evaluate()]
    assert [request.run_key for request in landing.evaluate()] == again
    assert not set(again) & set(asked)


def test_a_feeds_folder_that_is_a_file_wedges_nothing(landing: Landing) -> None:
    landing.send([0])
    archive_arrivals(landing.settings, landing.contract)
    folder = landing.settings.landing / FEED
    folder.rename(folder.with_name("aside"))
    folder.write_bytes(b"")
    assert landing.days() == [day_number(0)], "it is in the archive"
    assert landing.tick() == []
    folder.unlink()
    folder.with_name("aside").rename(folder)
    landing.send([1])
    assert landing.days() == [day_number(1)]


def test_what_is_misplaced_in_landing_is_told_a_few_at_a_time(landing: Landing) -> None:
    landing.send([0])
    for number in range(NAMED_PROBLEMS + 3):
        (landing.settings.landing / FEED / f"lost{number}").touch()
    told: list[str] = []
    sensor = landing_sensor(landing.settings, landing.contract, landing.partitions)
    context = dg.build_sensor_context(instance=landing.instance)
    context.log.warning = told.append  # pyright: ignore[reportAttributeAccessIssue]
    (request,) = sensor.evaluate_tick(context).run_requests or []
    assert request.tags[RANGE_START] == "2013-01-01"
    assert len(told) == NAMED_PROBLEMS
    assert told[0] == f"landing/{FEED}/lost0 is no folder of a day, such as ds=2013-01-15"


def test_a_nearly_full_disk_is_told_by_the_sensor(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.send([0])
    with monkeypatch.context() as patch:
        patch.setattr(archive, "DISK_RESERVE", 1 << 60)
        assert landing.tick() == []
        assert "make room on that disk" in str(landing.skipped)
    assert landing.days() == [day_number(0)]


@pytest.mark.parametrize("content", [csv_bytes("a", day=date(2014, 5, 1)), b""], ids=["accepted", "rejected"])
def test_a_day_that_no_partition_knows_does_not_stop_the_others_and_is_asked_for_once_one_does(
    landing: Landing, content: bytes
) -> None:
    put(landing.settings, content, date(2014, 5, 1))
    assert landing.tick() == []
    for number in (3, 4):
        landing.send([number])
        assert landing.days() == [day_number(number)]
        landing.judge([version for version in landing.owed() if version.day == day_number(number)], True)
        assert landing.tick() == []
    landing.partitions = dg.DailyPartitionsDefinition("2013-01-01", end_date="2015-01-01")
    assert landing.days() == [date(2014, 5, 1)]
    assert landing.tick() == []


def test_more_days_than_a_tick_may_ask_for_become_known_at_once(landing: Landing) -> None:
    landing.partitions = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-05")
    early = range(10, 10 + 2 * (MAX_REQUESTS + 5), 2)
    landing.send(early)
    assert landing.tick() == []
    landing.send([0])
    assert landing.days() == [day_number(0)]
    landing.partitions = YEAR  # later, or after the contract's `ends` was moved
    assert {day for _ in range(4) for day in landing.days()} == {day_number(number) for number in early}


def test_a_full_feed_is_one_run_without_a_range_however_many_files_came(landing: Landing, tmp_path: Path) -> None:
    landing.contract = load_contract(written(tmp_path, full_document()))
    (landing.settings.landing / FEED).mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (landing.settings.landing / FEED / name).write_bytes(csv_bytes(name))
    (request,) = landing.requests()
    assert ours(request) == {FEED_TAG: FEED}
    assert request.partition_key is None
    assert sorted(key.to_user_string() for key in request.asset_selection or []) == [f"{at}/{FEED}" for at in LAKE]
    run = landing.start(request)
    landing.now += 1_000 * MINUTE
    assert landing.requests() == [], "its run is under way"
    landing.end(run)
    (again,) = landing.requests()
    assert ours(again) == {FEED_TAG: FEED}
    landing.judge(landing.owed(), taken=True)
    assert landing.requests() == []
    assert landing.asked() == {}
    (landing.settings.landing / FEED / "c.csv").write_bytes(csv_bytes("c"))
    assert len(landing.requests()) == 1
