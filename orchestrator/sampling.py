"""The days that a change is tried on: few, and the hard ones among them.

Belongs here: choosing them, from what is known of the base. Does not belong here: what is made of them.

The clocks change by each feed's own zone, which its contract names in `due`; all else is of the ledger and of what Iceberg
and quarantine have counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from foundation.contract import Contract, load_contracts
from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.settings import Settings, base_settings
from intake.archive import ACCEPTED, Version, versions_of
from spark_assets.quarantined import count_quarantined

ONE_DAY, ONE_HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class HardDay:
    """A day, and why it was chosen."""

    day: date
    why: str


def hard_days(settings: Settings) -> list[HardDay]:
    """At most seven hard days of the base, in order: of each kind the newest, or the most of it. A day between two of them is
    with them: a range of three days is one run, and costs less than two runs of one day.

    Raises:
        AssayError: there is no day to choose from.
    """
    base = base_settings(settings) if settings.base else settings
    feeds = [contract for contract in load_contracts().values() if contract.days]
    files = {contract.feed: versions_of(base, contract.feed, None) for contract in feeds}
    rows = _sum(_rows_by_day(base, contract) for contract in feeds)
    if not rows:
        raise AssayError(
            f"{base.home} has no day in Silver, so there is none to try a change on",
            "make one: ./assay demo, or land files",
        )
    quarantined = _sum(count_quarantined(base, contract).rows for contract in feeds)
    zones = sorted({str(contract.daily.due.zone) for contract in feeds})
    return choose(rows, quarantined, files, zones)


def choose(
    rows: Mapping[date, int],
    quarantined: Mapping[date, int],
    files: Mapping[str, Sequence[Version]],
    zones: Iterable[str],
) -> list[HardDay]:
    """The days, by what is known of all; the same for the same facts.

    Args:
        rows: of each day in Silver; only these days are chosen.
        quarantined: rows by day.
        files: every version of every file by feed, oldest first.
        zones: whose clocks count.
    """
    days = sorted(rows)
    found: dict[date, list[str]] = {}

    def take(day: date | None, why: str) -> None:
        if day is not None and day in rows:
            found.setdefault(day, []).append(why)

    lengths = {(day, zone): length_of(day, ZoneInfo(zone)) for day in days for zone in zones}
    for some in ("shorter", "longer"):
        wanted = [
            one for one, length in lengths.items() if (length < ONE_DAY if some == "shorter" else length > ONE_DAY)
        ]
        if wanted:
            day, zone = max(wanted)
            take(day, f"the clocks of {zone} change, it has {lengths[day, zone] / ONE_HOUR:g} hours")
    busiest = _most(rows)
    take(busiest, f"the busiest day, {rows[busiest]:,} rows" if busiest else "")
    bad = _most({day: count for day, count in quarantined.items() if day in rows})
    take(bad, f"most rows in quarantine, {quarantined[bad]:,}" if bad else "")
    again, feed, why = max(
        (one for feed, versions in files.items() for one in _again(feed, versions) if one[0] in rows),
        default=(None, "", ""),
    )
    take(again, f"{feed}: {why}")
    take(days[0], "the first day")
    take(days[-1], "the last day")
    for first, last in pairwise(sorted(found)):
        if last - first == 2 * ONE_DAY:
            take(first + ONE_DAY, "between two of these, so that they are one range")
    return [HardDay(day, "; ".join(found[day])) for day in sorted(found)]


def length_of(day: date, zone: ZoneInfo) -> timedelta:
    """How long a day is in a zone, from midnight to midnight."""
    begins, ends = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + ONE_DAY))
    return ends - begins


def _again(feed: str, versions: Sequence[Version]) -> Iterable[tuple[date, str, str]]:
    """The days whose files were corrected, or came after files of a later day."""
    newest: date | None = None
    seen: set[str] = set()
    for one in versions:
        if one.state != ACCEPTED:
            continue
        if one.path in seen:
            yield one.day, feed, "a file was corrected"
        elif newest is not None and one.day < newest:
            yield one.day, feed, "a file came after those of later days"
        seen.add(one.path)
        newest = max(newest or one.day, one.day)


def _rows_by_day(settings: Settings, contract: Contract) -> Counter[date]:
    """The rows of each day in Silver, as Iceberg counts them by partition: no row is read."""
    found: Counter[date] = Counter()
    try:
        table = load_table(settings, "silver", contract.feed)
    except AssayError:
        return found  # it was never made
    for part in table.inspect.partitions().to_pylist():
        day = part["partition"].get(contract.daily.column)
        if day is not None:
            found[day] += part["record_count"]
    return found


def _most(counts: Mapping[date, int]) -> date | None:
    """The day with the most, of several the first."""
    return min(counts, key=lambda day: (-counts[day], day), default=None)


def _sum(counted: Iterable[Mapping[date, int]]) -> Counter[date]:
    found: Counter[date] = Counter()
    for one in counted:
        found.update(one)
    return found
