"""The partitions of the graph, all from the contracts.

Belongs here: which partitions exist, and a run's days. Does not belong here: what is done for one.
https://docs.dagster.io/guides/build/partitions-and-backfills
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import dagster as dg

from foundation.contract import Contract

ONE_DAY = timedelta(days=1)
# What no daily feed has days of: a definition without a partition, so that whoever takes one needs no other case.
NO_DAYS = dg.DailyPartitionsDefinition("1970-01-01", end_date="1970-01-01")


def daily_partitions(contracts: Mapping[str, Contract]) -> dg.DailyPartitionsDefinition:
    """The days of all daily feeds: one definition, as a run's selection may hold only one.

    Days of an open-ended feed are known as soon as the earliest feed can have them: the schedule of tomorrow arrives today.
    """
    daily = [contract.days for contract in contracts.values() if contract.days]
    if not daily:
        return NO_DAYS
    starts = min(feed.starts for feed in daily)
    ends = [feed.ends for feed in daily if feed.ends]
    if len(ends) == len(daily):
        return dg.DailyPartitionsDefinition(str(starts), end_date=str(max(ends) + ONE_DAY))
    return dg.DailyPartitionsDefinition(str(starts), end_offset=1 - min(min(feed.due.days for feed in daily), 1))


def monthly_partitions(daily: dg.DailyPartitionsDefinition) -> dg.MonthlyPartitionsDefinition:
    """The months of the days."""
    start = daily.start.date().replace(day=1)
    if daily.end is None:
        return dg.MonthlyPartitionsDefinition(str(start), end_offset=1)
    return dg.MonthlyPartitionsDefinition(str(start), end_date=str(month_after(daily.end.date() - ONE_DAY)))


def run_days(context: dg.AssetExecutionContext) -> list[date]:
    """The days of a run, one or a range, in order."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def consecutive(days: Iterable[date]) -> list[tuple[date, date]]:
    """Days as ranges without gaps, (first, last) each."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and ranges[-1][1] + ONE_DAY == day:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def month_after(day: date) -> date:
    """The first day of the month after a day."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
