"""The landing sensors: new file versions become runs.

Belongs here: asking the ledger and requesting runs. Does not belong here: copying or judging files (intake).

The ledger is the truth: a version is owed a run until Silver holds or refused it. The cursor remembers what was asked for
the days that are still owed one, so that its size is that of the work under way, not of the feed. A day is asked for
again when something changed (a new version, its rows reached Bronze, the contract or the transform), and otherwise, as its
run may have died with an engine, after 2, 10 and 60 minutes, and then no more.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

import dagster as dg

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import ACCEPTED, Version, archive_arrivals, listing, unfinished_versions
from orchestrator.partitions import ONE_DAY, consecutive
from spark_assets.publish import rules_sign

# Held by a command that lands and runs by itself, such as the demo: the sensor waits until it is done.
COMMAND_LOCK = "landing"
MAX_REQUESTS = 10
# Dagster ends a tick after 60 s.
TICK_WAIT_SECONDS = 20
RETRY_AFTER_SECONDS = (120, 600, 3600)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
FEED_TAG = "assay/feed"
# Of a full feed, which has no days.
WHOLE = date.min
# Tags of a run's own: a day that stands among a hundred problems is not read.
NAMED_PROBLEMS = 5
UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class Asked:
    """What was asked for a day. `at` is in seconds since 1970, of the real clock: a demo's stands still."""

    sequence: int
    from_bronze: bool
    rules: str
    attempt: int
    at: float


def landing_sensor(
    settings: Settings, contract: Contract, partitions: dg.TimeWindowPartitionsDefinition
) -> dg.SensorDefinition:
    """Watches a feed's landing folder: archives what is new, and requests Bronze and Silver of its days, consecutive days
    in one run."""

    @dg.sensor(
        name=f"landing_{contract.feed}",
        target=dg.AssetSelection.assets(*_keys(contract, from_bronze=True)),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"New file versions in landing/{contract.feed} become runs.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            with writer_lock(settings, COMMAND_LOCK, wait_seconds=0):
                archive_arrivals(settings, contract, wait_seconds=TICK_WAIT_SECONDS)
        except AssayError as held:
            return dg.SkipReason(str(held))
        problems = listing(settings, contract).misplaced
        for problem in problems[:NAMED_PROBLEMS]:
            context.log.warning(f"landing/{problem}")
        cursor = json.loads(context.cursor) if context.cursor else {}
        rules = rules_sign(contract)
        unfinished = unfinished_versions(settings, contract.feed, cursor.get("after", 0), rules)
        owed = _by_day(contract, partitions, unfinished)
        before = {date.fromisoformat(day): Asked(**asked) for day, asked in cursor.get("asked", {}).items()}
        busy = _days_under_way(context.instance, contract)
        wanted = {
            day: asked
            for day, versions in owed.items()
            if (asked := _ask(versions, before.get(day), rules, day in busy))
        }
        chosen = _within_requests(wanted)
        # Rejected versions are owed one run only: the highest sequence before the first that still waits for it, or for
        # its day to be a partition.
        left = wanted.keys() - chosen
        waiting = [
            version.sequence
            for version in unfinished
            if (day := _day(contract, version)) in left or (day not in owed and version.state != ACCEPTED)
        ]
        seen = [version.sequence for versions in owed.values() for version in versions]
        after = max(cursor.get("after", 0), min(waiting) - 1 if waiting else max(seen, default=0))
        asked = {day: one for day, one in before.items() if day in owed} | {day: wanted[day] for day in chosen}
        state = json.dumps({"after": after, "asked": {str(day): asdict(one) for day, one in sorted(asked.items())}})
        if not chosen:
            context.update_cursor(state)
            return dg.SkipReason(
                "; ".join([f"{len(owed)} days wait for their runs"] * bool(owed)) or "no new file version"
            )
        return dg.SensorResult(run_requests=_requests(contract, {day: wanted[day] for day in chosen}), cursor=state)

    return sensor


def _keys(contract: Contract, from_bronze: bool) -> list[dg.AssetKey]:
    layers = ("bronze", "silver", "quarantine") if from_bronze else ("silver", "quarantine")
    return [dg.AssetKey([layer, contract.feed]) for layer in layers]


def _day(contract: Contract, version: Version) -> date:
    """The day of a version's run."""
    return WHOLE if contract.days is None else version.day


def _by_day(
    contract: Contract, partitions: dg.TimeWindowPartitionsDefinition, versions: Sequence[Version]
) -> dict[date, list[Version]]:
    """Versions by the day of their run. Days that no partition knows yet wait until one does."""
    # Days have no gaps; to ask for each whether it is a partition takes seconds for a few thousand.
    first, last = partitions.get_first_partition_window(), partitions.get_last_partition_window()
    days: dict[date, list[Version]] = {}
    for version in versions:
        day = _day(contract, version)
        if contract.days is None or (first and last and first.start.date() <= day <= last.start.date()):
            days.setdefault(day, []).append(version)
    return days


def _days_under_way(instance: dg.DagsterInstance, contract: Contract) -> set[date]:
    """The days whose run was requested and has not ended."""
    filters = dg.RunsFilter(tags={FEED_TAG: contract.feed}, statuses=list(UNDER_WAY))
    days: set[date] = set()
    for run in instance.get_runs(filters):
        if RANGE_START not in run.tags:
            days.add(WHOLE)
            continue
        first, last = date.fromisoformat(run.tags[RANGE_START]), date.fromisoformat(run.tags[RANGE_END])
        days |= {first + ONE_DAY * number for number in range((last - first).days + 1)}
    return days


def _ask(versions: Sequence[Version], before: Asked | None, rules: str, busy: bool) -> Asked | None:
    """What to ask for a day now, or None."""
    newest = max(version.sequence for version in versions)
    from_bronze = any(version.state != ACCEPTED or version.bronze_snapshot is None for version in versions)
    fresh = Asked(newest, from_bronze, rules, 0, time.time())
    if before is None or newest > before.sequence:
        return fresh
    # a rejected version's one run said why, and would say it again
    if busy or all(version.state != ACCEPTED for version in versions):
        return None
    if before.rules != rules or (before.from_bronze and not from_bronze):
        return fresh
    if before.attempt >= len(RETRY_AFTER_SECONDS) or time.time() < before.at + RETRY_AFTER_SECONDS[before.attempt]:
        return None
    return Asked(newest, from_bronze, rules, before.attempt + 1, time.time())


def _kind(asked: Asked) -> tuple[bool, str, int]:
    """Days that can be asked for in one run are alike in this."""
    return asked.from_bronze, asked.rules, asked.attempt


def _within_requests(wanted: Mapping[date, Asked]) -> set[date]:
    """The days, in the order their newest versions arrived, that make no more than `MAX_REQUESTS` runs."""
    chosen: set[date] = set()
    ranges = 0
    for day in sorted(wanted, key=lambda day: wanted[day].sequence):
        beside = [one for one in _neighbours(day) if one in chosen and _kind(wanted[one]) == _kind(wanted[day])]
        # a day between two others joins them, beside one extends it, alone begins another
        ranges += 1 - len(beside)
        if ranges > MAX_REQUESTS:
            break
        chosen.add(day)
    return chosen


def _neighbours(day: date) -> list[date]:
    return [] if day == WHOLE else [day - ONE_DAY, day + ONE_DAY]


def _requests(contract: Contract, asked: Mapping[date, Asked]) -> list[dg.RunRequest]:
    requests: list[dg.RunRequest] = []
    for kind in sorted({_kind(one) for one in asked.values()}):
        for first, last in consecutive(day for day, one in asked.items() if _kind(one) == kind):
            newest = max(one.sequence for day, one in asked.items() if first <= day <= last and _kind(one) == kind)
            from_bronze, rules, attempt = kind
            days = {} if first == WHOLE else {RANGE_START: str(first), RANGE_END: str(last)}
            stage = "bronze" if from_bronze else "silver"
            requests.append(
                dg.RunRequest(
                    run_key=f"{contract.feed}:{first}:{last}:{newest}:{stage}:{rules}:{attempt}",
                    asset_selection=_keys(contract, from_bronze),
                    tags={FEED_TAG: contract.feed, **days},
                )
            )
    return requests
