"""Standing checks: whether what is due is there, on the platform's clock.

Belongs here: questions to Dagster's own records and the ledger. Does not belong here: checks of rows, which stand where the
rows are made. Dagster's freshness policies know neither partitions nor ASSAY_NOW: one backfilled day of last year makes a
daily asset fresh to them.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import dagster as dg

from foundation import clock
from foundation.contract import Contract
from foundation.settings import Settings
from intake.archive import ACCEPTED, versions_of
from orchestrator.automation import each_hour
from orchestrator.partitions import ONE_DAY, consecutive

DUE = "due_days_are_there"
DELIVERED = "next_delivery_is_not_overdue"
NAMED_RANGES = 10


def due_checks(settings: Settings, contracts: Mapping[str, Contract]) -> dg.AssetChecksDefinition:
    """One check on each feed's Silver: of a daily feed that every day that is due was published, of a full feed that the
    delivery after the newest one is not overdue. It blocks nothing: what is there is right."""
    specs = [_spec(contract) for contract in contracts.values() if contract.days or contract.next_due]

    @dg.multi_asset_check(name="due", specs=specs, can_subset=True)
    def due(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for key in context.selected_asset_check_keys:
            contract = contracts[key.asset_key.path[-1]]
            if contract.days:
                there = {date.fromisoformat(day) for day in context.instance.get_materialized_partitions(key.asset_key)}
                yield _days_result(settings, contract, key, there)
            else:
                yield _delivery_result(settings, contract, key)

    return due


def due_days(settings: Settings, contract: Contract) -> list[date]:
    """The days of a daily feed whose due moment has passed."""
    now = clock.now(settings)
    last = min(contract.daily.ends or date.max, now.date() + timedelta(days=400))
    days: list[date] = []
    day = contract.daily.starts
    while day <= last and contract.daily.due.of(day) <= now:
        days.append(day)
        day += ONE_DAY
    return days


def _days_result(
    settings: Settings, contract: Contract, key: dg.AssetCheckKey, there: set[date]
) -> dg.AssetCheckResult:
    days = due_days(settings, contract)
    missing = [day for day in days if day not in there]
    ranges = [str(first) if first == last else f"{first}...{last}" for first, last in consecutive(missing)]
    metadata: dict[str, dg.RawMetadataValue] = {"due_days": len(days), "missing_days": len(missing)}
    if missing:
        first, last = consecutive(missing)[0]
        metadata["missing"] = ranges[:NAMED_RANGES] + ["…"] * (len(ranges) > NAMED_RANGES)
        metadata["next"] = (
            f"./assay dagster asset materialize --select bronze/{contract.feed},silver/{contract.feed},"
            f"quarantine/{contract.feed} --partition-range {first}...{last}"
        )
    return dg.AssetCheckResult(
        passed=not missing,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(missing)} of {len(days)} due days are missing: {', '.join(ranges[:NAMED_RANGES])}"
        if missing
        else f"all {len(days)} due days are there",
        metadata=metadata,
    )


def _delivery_result(settings: Settings, contract: Contract, key: dg.AssetCheckKey) -> dg.AssetCheckResult:
    arrived = [version for version in versions_of(settings, contract.feed, None) if version.state == ACCEPTED]
    if not arrived or contract.next_due is None:
        text, passed = f"nothing was ever delivered: ./assay land {contract.feed}", False
    else:
        newest = arrived[-1].arrived_at.date()
        due = contract.next_due.of(newest)
        passed = clock.now(settings) <= due
        text = f"the last delivery came on {newest}, the next one {'is' if passed else 'was'} due by {due:%Y-%m-%d %H:%M} UTC"
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text,
    )


def _spec(contract: Contract) -> dg.AssetCheckSpec:
    if contract.days:
        due = contract.days.due
        when = f"Day D is due at D{due.days:+d} {due.at:%H:%M} {due.zone}."
    else:
        when = f"A delivery is due {contract.next_due.days if contract.next_due else 0} days after the one before."
    return dg.AssetCheckSpec(
        DUE if contract.days else DELIVERED,
        asset=dg.AssetKey(["silver", contract.feed]),
        description=when,
        automation_condition=each_hour(),
    )
