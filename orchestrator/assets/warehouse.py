"""Gold and the warehouse: dbt's models as assets, one dbt call an engine and range.

Belongs here: which models make an op, and what a dbt call is told. Does not belong here: SQL, what a node is to Dagster
(dbt_graph), what a call reports (dbt_events).
"""

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets
from packaging.version import Version

from foundation.contract import Contract
from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.dbt_environment import dbt_environment, environment_of
from orchestrator.dbt_events import events
from orchestrator.dbt_graph import DAILY, VIEW, LakeTranslator, daily_keys, exposure_specs
from orchestrator.gates import shut_days
from orchestrator.manifests import DBT_PROJECT, TARGETS, read_manifest, run_dir
from orchestrator.partitions import consecutive, run_days
from orchestrator.reporting import failure

# Daily models take the run's range, views are made when they change, the others are built whole: (name, select, exclude).
# What is made of predictions is an op of its own: a day that cannot be predicted must not hold up the warehouse.
WHOLE, VIEWS, OF_PREDICTIONS = "whole", "views", "of_predictions"
GROUPS = (
    (DAILY, f"tag:{DAILY}", f"tag:{OF_PREDICTIONS}"),
    (OF_PREDICTIONS, f"tag:{DAILY},tag:{OF_PREDICTIONS}", ""),
    (VIEWS, f"config.materialized:{VIEW}", ""),
    (WHOLE, "fqn:*", f"tag:{DAILY} config.materialized:{VIEW}"),
)

MADE = ("model", "seed", "snapshot")


class Dbt(DbtCliResource):
    """dbt without two things that dagster-dbt asks before each call: `dbt --version`, 1.5 to 4 s, and a database handle of
    its own, 3 s, for metadata that our models report themselves (macros/report.sql)."""

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


def dbt_assets_of(
    settings: Settings, contracts: Mapping[str, Contract], partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Both targets' models, seeds and snapshots, and the exposures of their tables."""
    manifests = {target: read_manifest(settings, target) for target in TARGETS}
    daily = daily_keys(manifests.values(), contracts)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    for target, manifest in manifests.items():
        translator = LakeTranslator(target, daily, partitions)
        there = {_group_of(node) for node in manifest["nodes"].values() if node["resource_type"] in MADE}
        for group in GROUPS:
            if group[0] in there:
                days = partitions if group[0] in (DAILY, OF_PREDICTIONS) else None
                assets.append(_op(settings, target, manifest, translator, group, days))
        assets += exposure_specs(manifest, translator)
    return assets


def dbt_resource() -> Dbt:
    """dbt on our project. It names no target: its own would be put behind the one that each call names."""
    return Dbt(
        project_dir=str(DBT_PROJECT),
        profiles_dir=str(DBT_PROJECT),
        dbt_executable=str(Path(sys.executable).parent / "dbt"),
    )


def _op(
    settings: Settings,
    target: str,
    manifest: Mapping[str, Any],
    translator: LakeTranslator,
    group: tuple[str, str, str],
    partitions: dg.PartitionsDefinition | None,
) -> dg.AssetsDefinition:
    name, select, exclude = group

    @dbt_assets(
        manifest=manifest,
        select=select,
        exclude=exclude,
        name=f"dbt_{target}_{name}",
        partitions_def=partitions,
        # Said for those without partitions too: the command line refuses a range run with an asset that is silent.
        backfill_policy=dg.BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool=target,
    )
    def build(context: dg.AssetExecutionContext, dbt: Dbt):
        days = run_days(context) if partitions else []
        shut = shut_days(context, days)
        if not shut:
            yield from _call(context, dbt, settings, target, days)
            return
        # The open days are made and recorded one by one; a step has one output for all, and this one fails.
        failures = [failure(list(shut.values()))]
        for first, last in consecutive(day for day in days if day not in shut):
            try:
                some = [day for day in days if first <= day <= last]
                deque(_call(context, dbt, settings, target, some, step_fails=True), maxlen=0)
            except dg.Failure as failed:
                failures.append(failed)
        raise dg.Failure("\n".join(str(failed.description) for failed in failures), allow_retries=False)

    return build


def _call(
    context: dg.AssetExecutionContext,
    dbt: Dbt,
    settings: Settings,
    target: str,
    days: Sequence[date],
    step_fails: bool = False,
) -> Iterator[Any]:
    """One dbt call, for consecutive days or (without days) all of each model."""
    chosen = {"ASSAY_RANGE_START": str(days[0]), "ASSAY_RANGE_END": str(days[-1])} if days else {}
    part = f"_{days[0]}" if step_fails else ""
    folder = run_dir(settings, target, f"{context.run.run_id}_{context.op_execution_context.op.name}{part}")
    # One dbt call at a time and target: the views on the lake are refreshed and read under the same lock.
    with writer_lock(settings, f"dbt.{target}"):
        variables = {**dbt_environment(settings), **chosen, "ASSAY_REPORT": "1"}
        with environment_of(variables):
            # Unit tests are about code: CI and `./assay dbt test` run them, not each day's run.
            words = ["build", "--target", target, "--exclude-resource-type", "unit_test"]
            call = dbt.cli(words, context=context, target_path=folder, raise_on_error=False)
            yield from events(context, call, days, json.loads(variables["ASSAY_SNAPSHOTS"]), step_fails)


def _group_of(node: Mapping[str, Any]) -> str:
    if OF_PREDICTIONS in node["tags"]:
        return OF_PREDICTIONS
    if DAILY in node["tags"]:
        return DAILY
    return VIEWS if node["config"]["materialized"] == VIEW else WHOLE
