"""Gold and the warehouse: dbt's models as assets, one dbt call an engine and range.

Belongs here: how dbt's nodes become assets, and what a dbt call is told. Does not belong here: SQL.
https://docs.dagster.io/integrations/libraries/dbt
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets

from deploy.embedded.environment import exports
from foundation.lake import Pin, pin_published
from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.manifests import DBT_PROJECT, manifest_file, run_dir
from orchestrator.partitions import run_days

DAILY = "tag:daily"
ENGINE_KINDS = {"trino": {"trino", "iceberg"}, "clickhouse": {"clickhouse"}}
# Gold is a day old by design; two hours more is somebody asleep.
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=30), warn_window=timedelta(hours=26))


class LakeTranslator(DagsterDbtTranslator):
    """dbt's names as ours: `layer/table` in every environment."""

    def __init__(self, target: str) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_code_references=False, enable_source_metadata=False))
        self.target = target

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        meta = dbt_resource_props.get("config", {}).get("meta", {}).get("dagster", {})
        if "asset_key" in meta:
            return dg.AssetKey(meta["asset_key"])
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey([dbt_resource_props["fqn"][1], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return dbt_resource_props["fqn"][1]

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(
            kinds={"dbt", *ENGINE_KINDS[self.target]}, freshness_policy=FRESH, automation_condition=any_partition()
        )

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        # `meta: {lookback_days: n}` of a model: a day of it is made of that day and the n before it.
        days = dbt_resource_props.get("config", {}).get("meta", {}).get("lookback_days", 0)
        return dg.TimeWindowPartitionMapping(start_offset=-days) if days else None


def dbt_group(settings: Settings, target: str, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """A target's daily models, which take the run's range, and its others, which are built whole."""
    manifest = json.loads(manifest_file(settings, target).read_text())
    translator = LakeTranslator(target)
    models = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed", "snapshot")]
    groups: list[dg.AssetsDefinition] = []

    if any("daily" in node["tags"] for node in models):

        @dbt_assets(
            manifest=manifest,
            select=DAILY,
            name=f"dbt_{target}_daily",
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            dagster_dbt_translator=translator,
            pool=target,
        )
        def daily(context: dg.AssetExecutionContext, dbt: DbtCliResource):
            days = run_days(context)
            chosen = {"ASSAY_RANGE_START": str(days[0]), "ASSAY_RANGE_END": str(days[-1])}
            yield from _build(settings, target, context, dbt, chosen)

        groups.append(daily)

    if any("daily" not in node["tags"] for node in models):

        @dbt_assets(
            manifest=manifest,
            exclude=DAILY,
            name=f"dbt_{target}_whole",
            # Said although there are no partitions: the command line refuses a range run with an asset that is silent.
            backfill_policy=dg.BackfillPolicy.single_run(),
            dagster_dbt_translator=translator,
            pool=target,
        )
        def whole(context: dg.AssetExecutionContext, dbt: DbtCliResource):
            yield from _build(settings, target, context, dbt, {})

        groups.append(whole)
    return groups


def dbt_resource() -> DbtCliResource:
    """dbt on our project. It names no target: its own would be put behind the one that each call names."""
    return DbtCliResource(
        project_dir=str(DBT_PROJECT),
        profiles_dir=str(DBT_PROJECT),
        dbt_executable=str(Path(sys.executable).parent / "dbt"),
    )


def dbt_environment(settings: Settings) -> dict[str, str]:
    """What a dbt call reads from its environment: addresses, and the state of the lake that ClickHouse's views show."""
    return {**exports(settings), "ASSAY_LAKE_PINS": lake_pins(pin_published(settings))}


def lake_pins(pins: list[Pin]) -> str:
    """The pins as macros/lake_views.sql reads them."""
    return json.dumps({pin.view: {"uri": pin.uri, "metadata": pin.metadata} for pin in pins})


def _build(
    settings: Settings, target: str, context: dg.AssetExecutionContext, dbt: DbtCliResource, chosen: dict[str, str]
) -> Iterator[Any]:
    # One dbt call at a time and target: views are refreshed and read under the same lock.
    with writer_lock(settings, f"dbt.{target}"), _environment({**dbt_environment(settings), **chosen}):
        call = dbt.cli(
            ["build", "--target", target],
            context=context,
            target_path=run_dir(settings, target, f"{context.run.run_id}_{context.op_execution_context.op.name}"),
        )
        yield from call.stream()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes started within; dagster-dbt takes them from nowhere else."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
