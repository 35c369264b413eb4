"""The graph, put together in one place for webserver, daemon, command line, CI and tests alike.

Belongs here: which assets, sensors and resources there are. Does not belong here: what any of them does.

    dagster asset materialize -m orchestrator.definitions --select silver/<feed> --partition 2013-06-01
"""

import gc

# What loading makes stays, and to look for garbage in it again and again took a sixth of it: 1 of 6 s of CPU.
gc.disable()

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from foundation.contract import Contract, load_contracts
from foundation.settings import Settings, load
from orchestrator.alert_sensor import alerts_sensor
from orchestrator.assets.expectations import expectation_checks
from orchestrator.assets.lake import lake_assets
from orchestrator.assets.maintenance import maintenance_assets
from orchestrator.assets.warehouse import dbt_assets_of, dbt_resource
from orchestrator.automation import automation_sensor
from orchestrator.checks import graph_of, standing_checks
from orchestrator.domain import domain_assets
from orchestrator.executor import in_process
from orchestrator.gates import built_without_check
from orchestrator.manifests import TARGETS, build_for_branch, is_current
from orchestrator.partitions import daily_partitions, monthly_partitions
from orchestrator.sensors import landing_sensor


def build_definitions(
    settings: Settings,
    contracts: Mapping[str, Contract] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The whole graph.

    Args:
        contracts: the feeds; the default is every file in contracts/.
        resources: replaces resources by name (`dbt`).

    Raises:
        AssayError: a contract or a manifest is missing or wrong.
    """
    feeds = load_contracts() if contracts is None else contracts
    daily = daily_partitions(feeds)
    build_for_branch(settings)
    for target in TARGETS:
        if not is_current(settings, target):
            warnings.warn(f"dbt_project changed since its {target} manifest was built: run ./assay up", stacklevel=2)
    assets = [
        *[asset for contract in feeds.values() for asset in lake_assets(settings, contract, daily)],
        *dbt_assets_of(settings, feeds, daily),
        *domain_assets(settings, daily, monthly_partitions(daily)),
        *maintenance_assets(settings, feeds),
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=[
            standing_checks(settings, feeds, assets),
            built_without_check(assets, graph_of(assets)),
            *expectation_checks(settings, feeds),
        ],
        sensors=[
            automation_sensor(),
            alerts_sensor(settings),
            *[landing_sensor(settings, contract, daily) for contract in feeds.values()],
        ],
        resources={"dbt": dbt_resource(), **(resources or {})},
        executor=in_process,
    )


defs = build_definitions(load())
gc.freeze()
gc.enable()
