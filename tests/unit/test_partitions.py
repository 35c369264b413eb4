"""Partitions: the days and months that exist, and days as ranges without gaps."""

from calendar import monthrange
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.contract import Contract
from orchestrator.partitions import NO_DAYS, consecutive, daily_partitions, month_after, monthly_partitions

ONE_DAY = timedelta(days=1)
DAYS = st.dates(date(2012, 12, 1), date(2013, 3, 31))


def days_of(ranges: list[tuple[date, date]]) -> list[date]:
    return [first + ONE_DAY * number for first, last in ranges for number in range((last - first).days + 1)]


def two_feeds(contract: Contract) -> dict[str, Contract]:
    """A feed of 2013 that ends and one that does not."""
    return {"events": contract, "others": replace(contract, feed="others", days=replace(contract.daily, ends=None))}


@given(st.lists(DAYS))
def test_ranges_hold_exactly_the_days_each_once(days: list[date]) -> None:
    assert days_of(consecutive(days)) == sorted(set(days))


@given(st.lists(DAYS))
def test_between_two_ranges_is_at_least_one_day(days: list[date]) -> None:
    ranges = consecutive(days)
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + ONE_DAY < after[0] for before, after in pairwise(ranges))


def test_a_range_goes_over_the_end_of_a_year() -> None:
    assert consecutive([date(2013, 1, 1), date(2012, 12, 31)]) == [(date(2012, 12, 31), date(2013, 1, 1))]


def test_the_daily_partitions_are_the_365_days_of_2013(contract: Contract) -> None:
    keys = daily_partitions({"events": contract}).get_partition_keys()
    assert keys == [str(date.fromordinal(date(2013, 1, 1).toordinal() + number)) for number in range(365)]


def test_the_monthly_partitions_are_the_12_months_of_2013(contract: Contract) -> None:
    keys = monthly_partitions(daily_partitions({"events": contract})).get_partition_keys()
    assert keys == [f"2013-{month:02}-01" for month in range(1, 13)]


def test_one_feed_without_an_end_keeps_the_days_coming(contract: Contract) -> None:
    assert daily_partitions(two_feeds(contract)).end is None


@pytest.mark.parametrize("full_feeds", [0, 1])
def test_without_a_daily_feed_there_is_no_day_and_no_month(contract: Contract, full_feeds: int) -> None:
    contracts = {"events": replace(contract, load="full", days=None)} if full_feeds else {}
    assert daily_partitions(contracts) is NO_DAYS
    assert daily_partitions(contracts).get_partition_keys() == []
    assert monthly_partitions(daily_partitions(contracts)).get_partition_keys() == []


@pytest.mark.parametrize("days_after", [-2, -1, 0, 1, 2])
def test_a_feed_without_an_end_has_its_newest_partition_when_that_is_due(contract: Contract, days_after: int) -> None:
    daily = replace(contract.daily, ends=None, due=replace(contract.daily.due, days=days_after))
    contracts = {"events": replace(contract, days=daily)}
    for hour in (0, 12, 23):
        today = datetime(2020, 6, 15, hour, tzinfo=UTC)
        keys = daily_partitions(contracts).get_partition_keys(current_time=today)
        # On this day the file of `days_after` days before is due; a day not over yet is known only if it is announced.
        assert str(today.date() - ONE_DAY * days_after) in keys
        assert keys[-1] == str(today.date() - ONE_DAY * min(days_after, 1))


@given(st.dates(date(1990, 1, 1), date(2100, 12, 1)))
def test_the_month_after_begins_when_the_month_ends(day: date) -> None:
    assert month_after(day) == day.replace(day=monthrange(day.year, day.month)[1]) + ONE_DAY
