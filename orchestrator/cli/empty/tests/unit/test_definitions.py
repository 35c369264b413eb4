"""The graph: it loads with no contract at all, and a contract is all that a feed needs."""

from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import pytest

from foundation.contract import Contract, load_contracts
from foundation.settings import Settings
from tests.unit.feeds import FEED, events

LAYERS = ("landing", "bronze", "silver", "quarantine")
Build = Callable[[Mapping[str, Contract]], dg.Definitions]


@pytest.fixture
def build(set_up: Settings, definitions: dg.Definitions) -> Build:
    """The graph of some contracts."""
    # Whoever imports it builds the graph of this project, in the home that `definitions` has set.
    from orchestrator.definitions import build_definitions

    return lambda contracts: build_definitions(set_up, contracts)


def assets_of(definitions: dg.Definitions, feed: str) -> set[str]:
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    return keys & {f"{layer}/{feed}" for layer in LAYERS}


def sensors_of(definitions: dg.Definitions) -> set[str]:
    return {sensor.name for sensor in definitions.sensors or [] if sensor.name.startswith("landing_")}


def test_without_a_contract_it_loads_and_watches_nothing(build: Build) -> None:
    definitions = build({})
    dg.Definitions.validate_loadable(definitions)
    assert sensors_of(definitions) == set()


def test_a_contract_is_all_that_a_feed_needs(build: Build, tmp_path: Path) -> None:
    definitions = build({FEED: events(tmp_path)})
    dg.Definitions.validate_loadable(definitions)
    assert assets_of(definitions, FEED) == {f"{layer}/{FEED}" for layer in LAYERS}
    assert sensors_of(definitions) == {f"landing_{FEED}"}
    partitions = definitions.resolve_asset_graph().get(dg.AssetKey(["silver", FEED])).partitions_def
    assert partitions is not None
    assert len(partitions.get_partition_keys()) == 365


def test_every_feed_of_this_project_is_in_it(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    for feed in load_contracts():
        assert assets_of(definitions, feed) == {f"{layer}/{feed}" for layer in LAYERS}
    assert sensors_of(definitions) == {f"landing_{feed}" for feed in load_contracts()}
