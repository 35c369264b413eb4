"""The gate before each step: no partition is built of one that failed, in this run or any later one, by dbt and Python alike.

Belongs here: which days of a step may be built, and how the others are said. Does not belong here: what failed or is blocked
(status.py).

Dagster's own blocking checks stop the run that they fail in. A later run, or one typed by hand, would build on the bad rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from foundation.errors import AssayError
from orchestrator.attempts import Part
from orchestrator.sensors import RANGE_END, RANGE_START
from orchestrator.status import blocked, built_without
from orchestrator.timeline import GOES_ON_WITHOUT

BUILT_WITHOUT = "built_without"
NAMED = 10


def shut_days(context: dg.AssetExecutionContext, days: Sequence[date]) -> dict[date | None, AssayError]:
    """The days of this step that must not be built, and why. What the step itself makes again holds nothing up.

    Args:
        days: those of the run; months by their first day. None stands for all of an asset without partitions.
    """
    graph, own = _graph(context), context.selected_asset_keys
    wanted: list[str | None] = [str(day) for day in days] or [None]
    shut: dict[date | None, AssayError] = {}
    for (key, partition), causes in blocked(context.instance, graph, own, wanted).items():
        foreign = [cause for cause in causes if cause[0] not in own]
        if foreign:
            shut.setdefault(date.fromisoformat(partition) if partition else None, _refusal(key, partition, foreign))
    return shut


def built_without_check(
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec], graph: Callable[[], BaseAssetGraph]
) -> dg.AssetChecksDefinition:
    """A check of each asset that reads other days than its own, or goes on without something: it was built, and this warns of
    the days whose last good rows, or none, it was built from.

    Args:
        graph: of these assets.
    """
    specs = [
        dg.AssetCheckSpec(
            BUILT_WITHOUT, asset=key, description="All that it reads of other days is right; if not, this names them."
        )
        for key in sorted(looks_back(assets))
    ]

    @dg.multi_asset_check(name=BUILT_WITHOUT, specs=specs, can_subset=True)
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        partitions = _partitions_of_run(context)
        for check_key in sorted(context.selected_asset_check_keys):
            missing = built_without(context.instance, graph(), check_key.asset_key, partitions)
            named = ", ".join(_named(part) for part in missing[:NAMED]) + (" …" if len(missing) > NAMED else "")
            yield dg.AssetCheckResult(
                asset_key=check_key.asset_key,
                check_name=BUILT_WITHOUT,
                passed=not missing,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"built without {named}: from their last good rows, or none"
                if missing
                else "built of all days",
                metadata={"partitions": len(missing), "next": "./assay late"} if missing else {},
            )

    return check


def looks_back(assets: Iterable[dg.AssetsDefinition | dg.AssetSpec]) -> set[dg.AssetKey]:
    """The assets that read partitions of another time than their own, or go on without some."""
    return {
        spec.key
        for one in assets
        if isinstance(one, dg.AssetsDefinition)
        for spec in one.specs
        if spec.metadata.get(GOES_ON_WITHOUT) or any(_is_offset(dep.partition_mapping) for dep in spec.deps)
    }


def _is_offset(mapping: dg.PartitionMapping | None) -> bool:
    return isinstance(mapping, dg.TimeWindowPartitionMapping) and (mapping.start_offset, mapping.end_offset) != (0, 0)


def _refusal(key: dg.AssetKey, partition: str | None, causes: Sequence[Part]) -> AssayError:
    named = ", ".join(_named(cause) for cause in causes[:NAMED])
    what = f"{_named((key, partition))} was not built: {named} failed"
    return AssayError(what, "./assay late says why; mend that first, then this is built by itself, or run it again")


def _named(part: Part) -> str:
    return f"{part[0].to_user_string()}{f' {part[1]}' if part[1] else ''}"


def _graph(context: dg.AssetExecutionContext) -> BaseAssetGraph:
    """The whole graph. A run that a command executes in its own process knows only what it makes and the assets before that."""
    repository = context.get_step_execution_context()._execution_data.repository_def
    return repository.asset_graph if repository else context.job_def.asset_layer.asset_graph


def _partitions_of_run(context: dg.AssetCheckExecutionContext) -> list[str | None]:
    """The run's partitions, from its tags: the check itself has none."""
    tags: Mapping[str, str] = context.run.tags
    one = tags.get("dagster/partition")
    first, last = tags.get(RANGE_START, one), tags.get(RANGE_END, one)
    if first is None or last is None:
        return [None]
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days
    return [str(date.fromordinal(date.fromisoformat(first).toordinal() + number)) for number in range(days + 1)]
