"""What is told: each problem once, again when it changed or a day has passed, and once more when it is over."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import AssayError
from foundation.settings import Settings, load
from orchestrator.alert_delivery import addresses, of_owner
from orchestrator.alerts import (
    CHANGE_AFTER_SECONDS,
    CHANGED,
    FAILED,
    FAILED_CHECK,
    FAILED_RUN,
    MOST_LETTERS,
    MOST_OPEN,
    NEW,
    OVER,
    REMIND_AFTER_SECONDS,
    STILL,
    TEXT_CHARACTERS,
    Change,
    Memory,
    Problem,
    as_text,
    compare,
    from_text,
    letters,
    ranges,
    short,
    split_next,
)
from orchestrator.spikes import spikes

OPS, ANALYTICS = "team:operations", "team:analytics"
NOON = 1_700_000_000.0
DAYS = [str(date(2013, 1, 1) + timedelta(days=number)) for number in range(400)]
SECRET = "hunter2secret"


def failed(subject: str = "silver/events", *partitions: str, owner: str = OPS) -> Problem:
    return Problem(
        FAILED,
        subject,
        (owner,),
        "a file is broken",
        f"./assay partitions {subject}",
        since=NOON,
        partitions=partitions,
        count=len(partitions),
    )


def words(changes: Sequence[Change]) -> list[tuple[str, str]]:
    return [(change.word, change.problem.subject) for change in changes]


def test_a_problem_is_told_once() -> None:
    memory = Memory(after=0)
    assert words(compare(memory, [failed()], NOON)) == [(NEW, "silver/events")]
    for seconds in (30, 3_600, REMIND_AFTER_SECONDS - 1):
        assert compare(memory, [failed()], NOON + seconds) == []


def test_after_a_day_it_is_told_again_and_then_after_another() -> None:
    memory = Memory(after=0)
    compare(memory, [failed()], NOON)
    times = [hour for hour in range(73) if compare(memory, [failed()], NOON + 3_600 * hour)]
    assert times == [24, 48, 72]


def test_what_is_over_is_told_once_and_what_comes_back_is_new() -> None:
    memory = Memory(after=0)
    compare(memory, [failed()], NOON)
    assert words(compare(memory, [], NOON + 30)) == [(OVER, "silver/events")]
    assert compare(memory, [], NOON + 60) == []
    assert words(compare(memory, [failed()], NOON + 90)) == [(NEW, "silver/events")]


def test_a_problem_that_grows_is_told_again_after_an_hour_as_it_is_then() -> None:
    memory = Memory(after=0)
    told = []
    for minute in range(0, 121, 5):
        changes = compare(memory, [failed("silver/events", *DAYS[: minute + 1])], NOON + 60 * minute)
        told += [(minute, change.word, change.problem.count) for change in changes]
    assert told == [(0, NEW, 1), (60, CHANGED, 61), (120, CHANGED, 121)]


def test_a_change_that_was_undone_within_the_hour_is_not_told() -> None:
    memory = Memory(after=0)
    compare(memory, [failed("silver/events", "2013-01-01")], NOON)
    compare(memory, [failed("silver/events", "2013-01-01", "2013-01-02")], NOON + 30)
    after = NOON + CHANGE_AFTER_SECONDS
    assert compare(memory, [failed("silver/events", "2013-01-01")], after) == []


def test_a_reminder_says_that_nothing_changed() -> None:
    memory = Memory(after=0)
    compare(memory, [failed()], NOON)
    assert words(compare(memory, [failed()], NOON + REMIND_AFTER_SECONDS)) == [(STILL, "silver/events")]


def test_a_failed_run_is_told_and_not_kept() -> None:
    memory = Memory(after=0)
    run = replace(failed("run 1234abcd"), kind=FAILED_RUN)
    assert words(compare(memory, [run], NOON)) == [(NEW, "run 1234abcd")]
    assert memory.open == {}


def test_an_owner_gets_one_message_and_nobody_elses_problems() -> None:
    problems = [failed(f"silver/t{n}") for n in range(3)] + [failed("mart/x", owner=ANALYTICS)]
    found = letters([Change(NEW, problem) for problem in problems], NOON, "local", "")
    assert [letter.owner for letter in found] == [ANALYTICS, OPS]
    assert [letter.title for letter in found] == [
        "Assay: 1 problem of analytics (mart/x)",
        "Assay: 3 problems of operations (silver/t0, silver/t1, silver/t2)",
    ]
    assert "silver" not in found[0].body
    assert "mart" not in found[1].body


def test_four_hundred_days_are_one_line() -> None:
    problem = replace(failed(), partitions=ranges([*DAYS[:5], *DAYS[6:400]], DAYS), count=399)
    (letter,) = letters([Change(NEW, problem)], NOON, "production", "http://127.0.0.1:3000")
    assert letter.title == "Assay production: 1 problem of operations (silver/events)"
    assert letter.body.splitlines() == [
        "NEW  silver/events: failed: 2013-01-01...2013-01-05, 2013-01-07...2014-02-04 (399 partitions)",
        "    since 2023-11-14 22:13 UTC",
        "    a file is broken",
        "    Next: ./assay partitions silver/events",
        "    http://127.0.0.1:3000/assets/silver/events",
    ]


def test_a_message_with_what_is_over_only_says_so() -> None:
    (letter,) = letters([Change(OVER, failed())], NOON, "local", "")
    assert letter.title == "Assay: 1 over of operations (silver/events)"
    assert letter.body == "OVER  silver/events: failed, since 2023-11-14 22:13 UTC"


@given(st.sets(st.integers(0, 399)))
def test_ranges_are_the_partitions(chosen: set[int]) -> None:
    found: list[str] = []
    for text in ranges({DAYS[n] for n in chosen}, DAYS):
        first, _, last = text.partition("...")
        found += DAYS[DAYS.index(first) : DAYS.index(last or first) + 1]
    assert found == [DAYS[n] for n in sorted(chosen)]
    assert len(ranges({DAYS[n] for n in chosen}, DAYS)) == sum(n - 1 not in chosen for n in chosen)


def test_a_partition_that_is_none_any_more_is_named() -> None:
    assert ranges(["2013-01-01", "old", "2013-01-02"], DAYS) == ("2013-01-01...2013-01-02", "old")


def test_the_memory_is_kept_as_it_is_and_stays_small() -> None:
    memory = Memory(after=7)
    many = [replace(failed(f"silver/{n}", *DAYS[:10]), what="x" * TEXT_CHARACTERS) for n in range(1_000)]
    changes = compare(memory, many, NOON)
    assert len(changes) == len(memory.open) == MOST_OPEN
    memory.letters = letters(changes, NOON, "local", "http://127.0.0.1:3000") * MOST_LETTERS
    text = as_text(memory)
    assert from_text(text) == memory
    assert len(text) < 300_000


def test_what_a_person_is_to_do_is_taken_out_of_an_error() -> None:
    error = AssayError("silver/events 2013-01-05: 20 of 80 rows were quarantined", "./assay quarantine events")
    assert split_next(str(error)) == (
        "silver/events 2013-01-05: 20 of 80 rows were quarantined.",
        "./assay quarantine events",
    )
    assert split_next("no more") == ("no more", "")
    assert len(short("x" * 10_000)) == TEXT_CHARACTERS + 1


# Quarantine spikes ------------------------------------------------------------------------------------------------------
def oracle(rows: dict[date, int], day: date) -> bool:
    """The rule, slowly: sorted by hand, no library."""
    before: list[int] = []
    for step in range(1, 1_000):
        if len(before) == 28:
            break
        if day - timedelta(days=step) in rows:
            before.append(rows[day - timedelta(days=step)])
    if len(before) < 7 or rows[day] < 10:
        return False
    before.sort()
    middle = len(before) // 2
    usual = before[middle] if len(before) % 2 else (before[middle - 1] + before[middle]) / 2
    return rows[day] > usual * 3


@given(
    st.dictionaries(
        st.integers(0, 90).map(lambda number: date(2013, 1, 1) + timedelta(days=number)),
        st.integers(0, 12) | st.integers(0, 100),
        min_size=1,
    )
)
def test_a_spike_is_ten_rows_and_three_times_the_median_of_four_weeks(rows: dict[date, int]) -> None:
    assert set(spikes(rows, sorted(rows))) == {day for day in rows if oracle(rows, day)}


# Addresses --------------------------------------------------------------------------------------------------------------
def with_alerts(monkeypatch: pytest.MonkeyPatch, value: str) -> Settings:
    monkeypatch.setenv("ASSAY_ALERTS", value)
    return load()


@pytest.mark.parametrize("value", [f"mailto://u:{SECRET}@h", f"a=json://h/x b c=mailto://u:{SECRET}@h", "a = json://h"])
def test_a_malformed_setting_is_refused_by_name_without_its_secret(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(AssayError, match="ASSAY_ALERTS: entry") as refused:
        with_alerts(monkeypatch, value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("value", [SECRET, "alerts.yaml", "./alerts.yaml"])
def test_what_is_neither_an_address_nor_an_absolute_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    with pytest.raises(AssayError, match="ASSAY_ALERTS holds no address") as refused:
        with_alerts(monkeypatch, value)
    assert SECRET not in str(refused.value)


def test_an_address_that_apprise_does_not_know_is_refused_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_alerts(monkeypatch, f"{OPS}=json://h/x {ANALYTICS}=nowhere://u:{SECRET}@h")
    with pytest.raises(AssayError, match=ANALYTICS) as refused:
        addresses(settings)
    assert SECRET not in str(refused.value)


def test_settings_are_shown_without_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in repr(with_alerts(monkeypatch, f"{OPS}=mailto://u:{SECRET}@h.org"))


def test_an_owner_without_an_address_is_told_at_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    book = addresses(
        with_alerts(monkeypatch, f"{OPS}=json://u:{SECRET}@one/{SECRET} {OPS}=json://two *=json://three:81")
    )
    names = {owner: [one.name for one in of_owner(book, owner)] for owner in (OPS, ANALYTICS)}
    assert names == {OPS: ["json://one", "json://two"], ANALYTICS: ["json://three:81"]}


def test_an_apprise_file_is_read_with_its_tags_as_owners(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("alerts") / "alerts.yaml"
    file.write_text("urls:\n  - json://one:\n      - tag: team:operations\n  - json://two\n")
    book = addresses(with_alerts(monkeypatch, str(file)))
    assert [of_owner(book, owner)[0].name for owner in (OPS, ANALYTICS)] == ["json://one", "json://two"]
    file.write_text("urls: []\n")
    with pytest.raises(AssayError, match="no address"):
        addresses(load())
    file.unlink()
    with pytest.raises(AssayError, match="not there"):
        addresses(load())


def test_a_check_that_changes_its_words_changed() -> None:
    memory = Memory(after=0)
    check = replace(failed(), kind=FAILED_CHECK, check="rows", what="3 rows")
    compare(memory, [check], NOON)
    changes = compare(memory, [replace(check, what="4 rows")], NOON + CHANGE_AFTER_SECONDS)
    assert words(changes) == [(CHANGED, "silver/events")]
