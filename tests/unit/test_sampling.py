"""The days that a change is tried on."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from intake.archive import ACCEPTED, REJECTED, Version
from orchestrator.sampling import choose, length_of

YEAR = [date(2013, 1, 1) + timedelta(days=number) for number in range(365)]
NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"


def arrived(sequence: int, day: date, path: str, state: str = ACCEPTED) -> Version:
    moment = datetime(2013, 1, 1, tzinfo=UTC)
    return Version(sequence, "orders", day, path, str(sequence), 1, 1, state, None, None, None, None, None, moment)


def test_a_year_has_both_clock_changes_the_busiest_day_and_its_ends() -> None:
    rows = dict.fromkeys(YEAR, 100) | {date(2013, 11, 27): 200, date(2013, 12, 20): 200}
    found = {str(one.day): one.why for one in choose(rows, {date(2013, 5, 5): 3}, {}, [NEW_YORK])}
    assert found == {
        "2013-01-01": "the first day",
        "2013-03-10": "the clocks of America/New_York change, it has 23 hours",
        "2013-05-05": "most rows in quarantine, 3",
        "2013-11-03": "the clocks of America/New_York change, it has 25 hours",
        "2013-11-27": "the busiest day, 200 rows",
        "2013-12-31": "the last day",
    }


def test_a_day_of_several_reasons_is_named_once_with_all() -> None:
    (only,) = choose({YEAR[0]: 5}, {YEAR[0]: 1}, {}, [NEW_YORK])
    assert only.why == "the busiest day, 5 rows; most rows in quarantine, 1; the first day; the last day"


def test_corrected_and_late_files_count_and_rejected_ones_do_not() -> None:
    rows = dict.fromkeys(YEAR[:10], 1)
    corrected = [arrived(1, YEAR[3], "a"), arrived(2, YEAR[4], "b"), arrived(3, YEAR[3], "a")]
    late = [arrived(1, YEAR[5], "a"), arrived(2, YEAR[2], "b")]
    refused = [arrived(1, YEAR[5], "a"), arrived(2, YEAR[5], "a", REJECTED)]
    for versions, expected in (
        (corrected, {"orders: a file was corrected": YEAR[3]}),
        (late, {"orders: a file came after those of later days": YEAR[2]}),
        (refused, {}),
    ):
        found = choose(rows, {}, {"orders": versions}, [])
        assert {one.why: one.day for one in found if one.why.startswith("orders")} == expected


def test_a_day_between_two_sampled_ones_makes_them_one_range() -> None:
    rows = {YEAR[0]: 1, YEAR[1]: 1, YEAR[2]: 5, YEAR[4]: 1}
    found = {one.day: one.why for one in choose(rows, {}, {}, [])}
    assert set(found) == {YEAR[0], YEAR[1], YEAR[2], YEAR[4]}, "the fourth day is not there"
    assert found[YEAR[1]].startswith("between")


@given(st.dictionaries(st.sampled_from(YEAR), st.integers(1, 9), min_size=1), st.data())
def test_few_days_that_are_there_and_the_same_again(rows: dict[date, int], data: st.DataObject) -> None:
    quarantined = data.draw(st.dictionaries(st.sampled_from(YEAR), st.integers(1, 9)))
    found = choose(rows, quarantined, {}, [NEW_YORK, BERLIN])
    assert found == choose(dict(reversed(rows.items())), quarantined, {}, [BERLIN, NEW_YORK])
    assert 1 <= len([one for one in found if not one.why.startswith("between")]) <= 7
    assert {one.day for one in found} <= set(rows)
    assert found[0].day == min(rows)
    assert found[-1].day == max(rows)


def test_the_lengths_of_days_are_those_that_the_clocks_show() -> None:
    lengths = {day: length_of(day, ZoneInfo(BERLIN)) / timedelta(hours=1) for day in YEAR}
    assert {str(day): hours for day, hours in lengths.items() if hours != 24} == {"2013-03-31": 23, "2013-10-27": 25}
