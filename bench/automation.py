"""What a tick of automation costs: 300 assets of 400 days, idle and after one change, ours beside Dagster's `eager`.

    python bench/automation.py

An instance in memory; no service. Prints seconds of one tick each, and the ratio.
"""

import time
from collections.abc import Callable
from datetime import date, timedelta

import dagster as dg

from orchestrator.automation import any_partition

ASSETS, LAYERS, PARTITIONS = 300, 6, 400
FIRST = date(2013, 1, 1)
DAYS = dg.DailyPartitionsDefinition(str(FIRST), end_date=str(FIRST + timedelta(days=PARTITIONS)))


def graph(condition: Callable[[], dg.AutomationCondition]) -> dg.Definitions:
    """Layers of assets, each made of two of the layer before."""
    width = ASSETS // LAYERS
    specs = [
        dg.AssetSpec(
            f"a{layer}_{number}",
            deps=[f"a{layer - 1}_{number}", f"a{layer - 1}_{(number + 1) % width}"] if layer else [],
            partitions_def=DAYS,
            automation_condition=condition() if layer else None,
        )
        for layer in range(LAYERS)
        for number in range(width)
    ]

    def asset_of(spec: dg.AssetSpec) -> dg.AssetsDefinition:
        @dg.multi_asset(name=spec.key.path[-1], specs=[spec])
        def made() -> None: ...

        return made

    return dg.Definitions([asset_of(spec) for spec in specs])


def ticks(name: str, condition: Callable[[], dg.AutomationCondition]) -> dict[str, float]:
    """Seconds of the third tick without a change, and of the one after a change of one root's day."""
    definitions = graph(condition)
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in definitions.resolve_asset_graph().get_all_asset_keys():
            for number in range(0, PARTITIONS, 20):
                day = str(FIRST + timedelta(days=number))
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))
        cursor, seconds = None, {}
        for step in ("first", "second", "idle", "one change"):
            if step == "one change":
                instance.report_runless_asset_event(dg.AssetMaterialization("a0_0", partition=str(FIRST)))
            began = time.perf_counter()
            result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            seconds[step], cursor = time.perf_counter() - began, result.cursor
    print(f"{name:6} idle {seconds['idle']:.2f} s, one change {seconds['one change']:.2f} s")
    return seconds


def main() -> None:
    ours = ticks("ours", any_partition)
    stock = ticks(
        "eager", lambda: dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
    )
    print(f"ratio  idle {ours['idle'] / stock['idle']:.2f}, one change {ours['one change'] / stock['one change']:.2f}")


if __name__ == "__main__":
    main()
