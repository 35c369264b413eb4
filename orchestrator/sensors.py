"""The landing sensors: new file versions become runs.

Belongs here: asking the ledger and requesting runs. Does not belong here: copying or judging files (intake).

The cursor is the highest sequence of the ledger that was requested, one number however many files there are. Versions
that a run of somebody else's already brought to Bronze are not requested again.
"""

import dagster as dg

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import archive_arrivals, waiting_versions
from orchestrator.partitions import consecutive

# Held by a command that lands and runs by itself, such as the demo: the sensor waits until it is done.
COMMAND_LOCK = "landing"
MAX_REQUESTS = 10
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
                archive_arrivals(settings, contract)
        except AssayError as held:
            return dg.SkipReason(str(held))
        after = int(context.cursor or 0)
        waiting = waiting_versions(settings, contract.feed, after)
        known = [version for version in waiting if partitions.has_partition_key(str(version.day))]
        if not known:
            return dg.SkipReason("no new file version")
        ranges = consecutive(version.day for version in known)[:MAX_REQUESTS]
        taken = [version for version in known if version.day <= ranges[-1][1]]
        requests = [
            dg.RunRequest(
                run_key=f"{contract.feed}:{first}:{last}:"
                f"{max(version.sequence for version in taken if first <= version.day <= last)}",
                tags={RANGE_START: str(first), RANGE_END: str(last)},
            )
            for first, last in ranges
        ]
        # What was left for the next tick must stay above the cursor.
        left = [version.sequence for version in known if version not in taken]
        cursor = min(left) - 1 if left else max(version.sequence for version in waiting)
        return dg.SensorResult(run_requests=requests, cursor=str(max(after, cursor)))

    return sensor
