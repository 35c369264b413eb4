"""What a tick of automation costs: 300 assets of 400 days, idle and after one change, ours beside Dagster's `eager`.

    python bench/automation.py

An instance in memory; no service. Prints seconds of processor of one tick each, and the ratio.
"""

import time
from collections.abc import Callable
from datetime import date, timedelta

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as EVENTS

from orchestrator.attempts import storage_of
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


def make_all(instance: dg.DagsterInstance, asset: dg.AssetKey) -> None:
    """All days of an asset: one as it is reported, and copies of its row. To report 120,000 takes minutes."""
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=str(FIRST)))
    with storage_of(instance).index_connection() as connection:
        of_asset = EVENTS.select().where(EVENTS.c.asset_key == asset.to_string()).order_by(EVENTS.c.id.desc())
        row = dict(connection.execute(of_asset).mappings().fetchone() or {})
        days = [str(FIRST + timedelta(days=number)) for number in range(1, PARTITIONS)]
        connection.execute(EVENTS.insert(), [{**row, "id": None, "partition": day} for day in days])


def ticks(name: str, condition: Callable[[], dg.AutomationCondition]) -> dict[str, float]:
    """Seconds of processor of the third tick without a change, and of the one after a change of one root's day."""
    definitions = graph(condition)
    with dg.DagsterInstance.ephemeral() as instance:
        # Parents first: what is older than its parent is due, and no tick idle.
        for asset in definitions.resolve_asset_graph().toposorted_asset_keys:
            make_all(instance, asset)
        cursor, seconds = None, {}
        for step in ("first", "second", "idle", "one change"):
            if step == "one change":
                instance.report_runless_asset_event(dg.AssetMaterialization("a0_0", partition=str(FIRST)))
            began = time.process_time()
            result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            seconds[step], cursor = time.process_time() - began, result.cursor
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
