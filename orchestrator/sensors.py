"""The landing sensors: new file versions become runs.

Belongs here: asking the ledger and requesting runs. Does not belong here: copying or judging files (intake).

The cursor is the highest sequence of the ledger that was requested, one number however many files there are, and the
sequences before it whose day no partition knows yet. Versions that a run of somebody else's already brought to Bronze are
not requested again.
"""

import json
from collections.abc import Sequence
from datetime import date

import dagster as dg

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import Version, archive_arrivals, waiting_versions
from orchestrator.partitions import ONE_DAY, consecutive

# Held by a command that lands and runs by itself, such as the demo: the sensor waits until it is done.
COMMAND_LOCK = "landing"
MAX_REQUESTS = 10
# Dagster ends a tick after 60 s.
TICK_WAIT_SECONDS = 20
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def landing_sensor(
    settings: Settings, contract: Contract, partitions: dg.TimeWindowPartitionsDefinition
) -> dg.SensorDefinition:
    """Watches a feed's landing folder: archives what is new, and requests Bronze and Silver of its days, consecutive days
    in one run."""

    @dg.sensor(
        name=f"landing_{contract.feed}",
        target=dg.AssetSelection.assets(
            ["bronze", contract.feed], ["silver", contract.feed], ["quarantine", contract.feed]
        ),
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
        after, unknown = _read(context.cursor)
        waiting = [
            version
            for version in waiting_versions(settings, contract.feed, min([after, *[one - 1 for one in unknown]]))
            if version.sequence > after or version.sequence in unknown
        ]
        known = [version for version in waiting if partitions.has_partition_key(str(version.day))]
        taken = _within_requests(known)
        after = max([after, *[version.sequence for version in taken]])
        unknown = [version.sequence for version in waiting if version not in taken and version.sequence <= after]
        cursor = json.dumps({"after": after, "unknown": unknown})
        if not taken:
            return dg.SkipReason("no new file version")
        requests = [
            dg.RunRequest(
                run_key=f"{contract.feed}:{first}:{last}:"
                f"{max(version.sequence for version in taken if first <= version.day <= last)}",
                tags={RANGE_START: str(first), RANGE_END: str(last)},
            )
            for first, last in consecutive(version.day for version in taken)
        ]
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return sensor


def _read(cursor: str | None) -> tuple[int, list[int]]:
    state = json.loads(cursor) if cursor else {"after": 0, "unknown": []}
    return state["after"], state["unknown"]


def _within_requests(versions: Sequence[Version]) -> list[Version]:
    """The first versions, in the order they arrived, whose days are no more than `MAX_REQUESTS` ranges."""
    days: set[date] = set()
    ranges = 0
    for number, version in enumerate(versions):
        if version.day not in days:
            # a day between two others joins them, beside one extends it, alone begins another
            ranges += 1 - (version.day - ONE_DAY in days) - (version.day + ONE_DAY in days)
            if ranges > MAX_REQUESTS:
                return list(versions[:number])
            days.add(version.day)
    return list(versions)
