"""Standing checks: whether what is due is there, on the platform's clock.

Belongs here: questions to Dagster's own records and the ledger. Does not belong here: checks of rows, which stand where the
rows are made. Dagster's freshness policies know neither partitions nor ASSAY_NOW: one backfilled day of last year makes a
daily asset fresh to them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from foundation import clock
from foundation.contract import Contract
from foundation.settings import Settings
from intake.archive import ACCEPTED, versions_of
from orchestrator.automation import each_hour
from orchestrator.status import State, Status, statuses, wrong
from orchestrator.status_text import names, next_command, spans

PARTITIONS = "partitions_are_there"
DELIVERED = "next_delivery_is_not_overdue"


def graph_of(assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]) -> Callable[[], AssetGraph]:
    """The graph of these assets, put together when it is first asked for."""
    made = [one if isinstance(one, dg.AssetsDefinition) else dg.AssetsDefinition(specs=[one]) for one in assets]
    return cache(lambda: AssetGraph.from_assets(made))


def standing_checks(
    settings: Settings, contracts: Mapping[str, Contract], assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
) -> dg.AssetChecksDefinition:
    """One check on each asset with partitions, that none which is due is late, failed, blocked or has gone quiet; and one on
    each full feed's Silver, that the delivery after the newest one is not overdue. They block nothing: what is there is
    right.

    Args:
        assets: the whole graph, as what is due follows from what is upstream.
    """
    made = [one for one in assets if isinstance(one, dg.AssetsDefinition)]
    partitioned = [key for one in made for key in one.keys if one.specs_by_key[key].partitions_def is not None]
    delivered = [contract for contract in contracts.values() if contract.next_due]
    graph = graph_of(assets)

    @dg.multi_asset_check(
        name="due",
        specs=[*map(_partitions_spec, partitioned), *map(_delivery_spec, delivered)],
        can_subset=True,
    )
    def due(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        chosen = context.selected_asset_check_keys
        now = clock.now(settings)
        found = statuses(
            settings, context.instance, graph(), contracts, {key.asset_key for key in chosen if key.name == PARTITIONS}
        )
        for key in sorted(chosen):
            if key.name == PARTITIONS:
                yield _partitions_result(contracts, key, found[key.asset_key], now)
            else:
                yield _delivery_result(settings, contracts[key.asset_key.path[-1]], key)

    return due


def _partitions_result(
    contracts: Mapping[str, Contract], key: dg.AssetCheckKey, parts: Mapping[str | None, Status], now: datetime
) -> dg.AssetCheckResult:
    due = [one for one in parts.values() if one.due is not None and one.due <= now]
    bad = [one for one in parts.values() if wrong(one, now)]
    listed = list(parts)
    by_state = {state: [one for one in bad if one.state == state] for state in State}
    metadata: dict[str, dg.RawMetadataValue] = {"due": len(due), "wrong": len(bad)}
    for state, some in by_state.items():
        if some:
            metadata |= {f"{_word(state)}_partitions": len(some), _word(state): names(some, listed)}
    if bad:
        # What is blocked waits for another's next command.
        first = next((one for one in bad if one.state != State.BLOCKED), None)
        span = None if first is None else next(one for one in spans(bad, listed) if one.first == first)
        metadata["next"] = "./assay late" if span is None else next_command(span, contracts)
    said = "; ".join(f"{_word(state)}: {', '.join(names(some, listed))}" for state, some in by_state.items() if some)
    return dg.AssetCheckResult(
        passed=not bad,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR,
        description=said or f"all {len(due)} due partitions are there",
        metadata=metadata,
    )


def _word(state: State) -> str:
    """A run under way is wrong only if it has gone quiet."""
    return "quiet" if state == State.RUNNING else state.value


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


def _partitions_spec(key: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        PARTITIONS,
        asset=key,
        description="No partition that is due is late, failed, blocked, or in a run that has gone quiet.",
        automation_condition=each_hour(),
    )


def _delivery_spec(contract: Contract) -> dg.AssetCheckSpec:
    days = contract.next_due.days if contract.next_due else 0
    return dg.AssetCheckSpec(
        DELIVERED,
        asset=dg.AssetKey(["silver", contract.feed]),
        description=f"A delivery is due {days} days after the one before.",
        automation_condition=each_hour(),
    )
