"""dbt's nodes as Dagster knows them: keys, owners, freshness, automation, dependencies.

Belongs here: what of a manifest becomes which attribute of an asset. Does not belong here: running dbt (assets/warehouse).
https://docs.dagster.io/integrations/libraries/dbt

A model says in its YAML what its asset should be, below `config.meta`:
    dagster: {owners: ["team:analytics"]}
    fresh_within_hours: 30                  the freshness policy; DAILY_HOURS or WHOLE_HOURS without it
    automation: false                       it is made by hand only
    lookback_days: 27                       a day of it is made of that day and the 27 before it ...
    lookback_days: {weather: 1}             ... or only of that parent's
    optional: [weather]                     parents that need not be there: when they come, the day is made again
A source says that it has days with `daily: true` in the same place, where no contract and no model of ours does.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

from foundation.contract import Contract
from orchestrator.automation import any_partition, view_condition
from orchestrator.manifests import asset_path
from orchestrator.reporting import late_policy
from orchestrator.timeline import GOES_ON_WITHOUT

DAILY = "daily"
VIEW = "view"
# Our generic tests that look at whole months.
OF_MONTHS = ("adds_up",)
ENGINE_KINDS = {"trino": {"trino", "iceberg"}, "clickhouse": {"clickhouse"}}
# A day's run of a daily model; a delivery a month of what has no days.
DAILY_HOURS, WHOLE_HOURS = 24, 24 * 31


class LakeTranslator(DagsterDbtTranslator):
    """dbt's names as ours: `layer/table` in every environment."""

    def __init__(self, target: str, daily: Iterable[dg.AssetKey], days: dg.PartitionsDefinition | None = None) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_code_references=False, enable_source_metadata=False))
        self.target = target
        self.daily = set(daily)
        self.days = days

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey(asset_path(dbt_resource_props))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        # dbt's groups are teams, who own; Dagster's are layers.
        return self.get_asset_key(dbt_resource_props).path[0]

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        props = self.get_resource_props(manifest, unique_id)
        if props["resource_type"] == "source":
            return spec
        meta = props["config"].get("meta", {})
        views = [parent for parent in parents(props) if is_view(manifest, parent)]
        deps = [*spec.deps, *self._behind(manifest, props, views, {dep.asset_key for dep in spec.deps})]
        optional = [key for key in (dep.asset_key for dep in deps) if key.path[-1] in meta.get("optional", ())]
        if is_view(manifest, unique_id):
            automation, freshness = view_condition(), None  # a view is as fresh as what it shows
        else:
            of_days = spec.key in self.daily
            # A new delivery of a dimension is no reason to make every day again.
            whole = [dep.asset_key for dep in deps if of_days and dep.asset_key not in self.daily]
            automation = any_partition(
                but_not_for=whole, views=[self.key(manifest, view) for view in views], optional=optional
            )
            usual = DAILY_HOURS if of_days else WHOLE_HOURS
            hours = meta.get("fresh_within_hours")
            freshness = (
                late_policy(timedelta(hours=usual))
                if hours is None
                else dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))
            )
        return spec.replace_attributes(
            deps=deps,
            kinds={"dbt", *ENGINE_KINDS[self.target], *({VIEW} if is_view(manifest, unique_id) else ())},
            freshness_policy=freshness,
            code_version=code_version(manifest, unique_id),
            metadata={
                **spec.metadata,
                **({GOES_ON_WITHOUT: [key.to_user_string() for key in optional]} if optional else {}),
            },
            automation_condition=automation if meta.get("automation", True) else None,
        )

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """A test of a daily model is a check of each day, so that a bad one holds up nothing but itself; one that compares
        months is of the table: another run may still be making a day of that month."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        of_days = manifest["nodes"][unique_id].get("test_metadata", {}).get("name") not in OF_MONTHS
        return spec._replace(partitions_def=self.days) if spec and of_days and asset_spec.key in self.daily else spec

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        days = dbt_resource_props.get("config", {}).get("meta", {}).get("lookback_days", 0)
        if isinstance(days, Mapping):
            days = days.get(dbt_parent_resource_props["name"], 0)
        return dg.TimeWindowPartitionMapping(start_offset=-days) if days else None

    def key(self, manifest: Mapping[str, Any], unique_id: str) -> dg.AssetKey:
        """The asset of a model, seed, snapshot or source."""
        return self.get_asset_key(self.get_resource_props(manifest, unique_id))

    def _behind(
        self, manifest: Mapping[str, Any], props: Mapping[str, Any], views: Sequence[str], known: set[dg.AssetKey]
    ) -> list[dg.AssetDep]:
        """What the model reads through views, as dependencies of its own: a view is not made again when its tables change,
        so that without these no change would get past it."""
        found: dict[dg.AssetKey, dg.AssetDep] = {}
        for unique_id in _through(manifest, views):
            parent = self.get_resource_props(manifest, unique_id)
            key = self.get_asset_key(parent)
            if key not in known:
                found[key] = dg.AssetDep(key, partition_mapping=self.get_partition_mapping(props, parent))
        return list(found.values())


def daily_keys(manifests: Iterable[Mapping[str, Any]], contracts: Mapping[str, Contract]) -> set[dg.AssetKey]:
    """The assets that have days, as far as dbt reads or makes them."""
    feeds = {
        dg.AssetKey([layer, feed]) for feed, one in contracts.items() if one.days for layer in ("bronze", "silver")
    }
    found = list(manifests)
    nodes = [node for manifest in found for node in manifest["nodes"].values() if DAILY in node["tags"]]
    metas = [source["config"].get("meta", {}) for manifest in found for source in manifest["sources"].values()]
    sources = {dg.AssetKey(meta["dagster"]["asset_key"]) for meta in metas if meta.get(DAILY)}
    return feeds | sources | {dg.AssetKey([node["config"]["schema"], node["name"]]) for node in nodes}


def parents(props: Mapping[str, Any]) -> list[str]:
    """The nodes that a node reads."""
    return list(props.get("depends_on", {}).get("nodes", []))


def is_view(manifest: Mapping[str, Any], unique_id: str) -> bool:
    """Whether a node of the manifest is a view."""
    return manifest["nodes"].get(unique_id, {}).get("config", {}).get("materialized") == VIEW


def code_version(manifest: Mapping[str, Any], unique_id: str) -> str:
    """A short text that changes with what a node's rows are made by: its SQL (a seed's rows), its columns' declarations, and
    every macro of ours that it uses. dagster-dbt's own looks at the SQL alone, and is blind to macros."""
    node = manifest["nodes"][unique_id]
    parts = [node["checksum"]["checksum"], node.get("contract", {}).get("checksum") or ""]
    waiting, seen = list(node.get("depends_on", {}).get("macros", [])), set[str]()
    while waiting:
        name = waiting.pop()
        macro = manifest["macros"].get(name)
        if name not in seen and macro is not None and macro["package_name"] == node["package_name"]:
            waiting += macro["depends_on"]["macros"]
            seen.add(name)
    parts += [manifest["macros"][name]["macro_sql"] for name in sorted(seen)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def exposure_specs(manifest: Mapping[str, Any], translator: LakeTranslator) -> list[dg.AssetSpec]:
    """Who uses the tables, as assets that nothing makes."""
    return [
        dg.AssetSpec(
            ["exposures", exposure["name"]],
            deps=[translator.key(manifest, unique_id) for unique_id in parents(exposure)],
            description=exposure["description"],
            group_name="exposures",
            kinds={exposure["type"]},
            owners=[exposure["owner"]["email"]] if exposure["owner"].get("email") else [],
            metadata={"url": dg.MetadataValue.url(exposure["url"])} if exposure.get("url") else {},
        )
        for exposure in manifest.get("exposures", {}).values()
    ]


def _through(manifest: Mapping[str, Any], views: Iterable[str]) -> list[str]:
    """The tables behind views, views behind views included."""
    tables: list[str] = []
    for view in views:
        for parent in parents(manifest["nodes"][view]):
            tables += _through(manifest, [parent]) if is_view(manifest, parent) else [parent]
    return tables
