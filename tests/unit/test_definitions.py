"""The graph: every asset says whose it is and what it is, has one name everywhere."""

import shutil
import warnings
from collections.abc import Iterator
from itertools import pairwise

import dagster as dg
import pytest

from foundation.contract import load_contracts
from foundation.settings import Settings
from orchestrator.checks import DELIVERED, PARTITIONS
from orchestrator.manifests import TARGETS, manifest_dir

DAILY_FEEDS = ("flights", "schedule", "weather")
FEEDS = (*DAILY_FEEDS, "airlines", "airports", "planes")
GOLD_DAILY = ("flight_facts", "airport_hours", "carrier_history", "route_history", "aircraft_history", "origin_weather")
FEATURE_VIEWS = ("carrier_history", "route_history", "aircraft_history", "origin_weather")
GOLD_WHOLE = ("airports_not_in_feed", "carriers", "airports", "aircraft", "aircraft_over_time")
WAREHOUSE_DAILY = (
    "fct_flights",
    "fct_airport_hours",
    "mart_on_time_by_carrier",
    "mart_on_time_by_route",
    "mart_on_time_by_airport_hour",
    "mart_on_time_by_aircraft_age",
    "mart_delay_propagation",
    "mart_weather_impact",
    "mart_prediction_quality",
)
DIMENSIONS = ("dim_carriers", "dim_airports", "dim_aircraft")
VIEWS = ("stg_flights", "stg_airport_hours", "stg_carriers", "stg_airports", "stg_aircraft")
MATERIALIZABLE = {
    *(f"{layer}/{feed}" for layer in ("bronze", "silver", "quarantine") for feed in FEEDS),
    *(f"gold/{model}" for model in (*GOLD_DAILY, *GOLD_WHOLE)),
    *(f"warehouse/{model}" for model in (*WAREHOUSE_DAILY, *DIMENSIONS, *VIEWS)),
    *(f"features/{view}" for view in FEATURE_VIEWS),
    "models/arrival_delay",
    "models/arrival_delay_training_set",
    "predictions/arrival_delay",
    "monitoring/arrival_delay_drift",
    *(
        f"maintenance/{name}"
        for name in ("compaction", "snapshots", "orphan_files", "archive", "dbt_artifacts", "logs", "dagster_history")
    ),
}
LANDED = {f"landing/{feed}" for feed in FEEDS}
EXPOSURES = {
    f"exposures/{name}" for name in ("worst_routes", "aircraft_age_and_delay", "cost_of_weather", "punctuality_report")
}
CHECKS = {"every_bronze_row_has_one_fate", "keys_are_unique_and_required_columns_filled"}


def specs(definitions: dg.Definitions) -> Iterator[tuple[str, dg.AssetSpec]]:
    for spec in definitions.resolve_all_asset_specs():
        if spec.key.to_user_string() in MATERIALIZABLE:
            yield spec.key.to_user_string(), spec


def test_the_assets_are_those_of_the_design(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == MATERIALIZABLE
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == MATERIALIZABLE | LANDED | EXPOSURES


def test_every_asset_has_an_owner_a_group_a_kind_and_a_description(definitions: dg.Definitions) -> None:
    lacking = {
        name: [what for what in ("owners", "group_name", "kinds", "description") if not getattr(spec, what)]
        for name, spec in specs(definitions)
    }
    assert len(lacking) == len(MATERIALIZABLE)
    assert {name: what for name, what in lacking.items() if what} == {}


def test_every_asset_stands_in_the_group_of_its_layer(definitions: dg.Definitions) -> None:
    assert {name: spec.group_name for name, spec in specs(definitions)} == {
        name: name.partition("/")[0] for name in MATERIALIZABLE
    }


def test_every_asset_but_a_view_says_when_it_is_late(definitions: dg.Definitions) -> None:
    silent = {name for name, spec in specs(definitions) if spec.freshness_policy is None}
    assert silent == {f"warehouse/{view}" for view in VIEWS}, "a view is as fresh as what it shows"


def test_a_range_is_one_run_for_every_daily_asset(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    daily = [
        key
        for key in graph.materializable_asset_keys
        if isinstance(graph.get(key).partitions_def, dg.DailyPartitionsDefinition)
    ]
    whole = len(MATERIALIZABLE) - len(daily)
    without_days = len(GOLD_WHOLE) + len(DIMENSIONS) + len(VIEWS)
    assert whole == 2 + 3 * 3 + 7 + without_days, (
        "the monthly training set and model, three layers of the full feeds, maintenance, dimensions"
    )
    assert {graph.get(key).backfill_policy for key in daily} == {dg.BackfillPolicy.single_run()}


def test_all_daily_assets_have_the_365_days_of_2013(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    keys = {
        tuple(partitions.get_partition_keys())
        for key in graph.get_all_asset_keys()
        if isinstance(partitions := graph.get(key).partitions_def, dg.DailyPartitionsDefinition)
    }
    assert len(keys) == 1, "a run's selection may hold one definition only"
    ((first, *_, last),) = keys
    assert (first, last) == ("2013-01-01", "2013-12-31")


def test_every_silver_table_is_checked_before_anything_downstream_runs(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    found = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys if key.name in CHECKS}
    assert found == {(f"silver/{feed}", name) for feed in FEEDS for name in CHECKS}
    assert all(graph.get(key).blocking for key in graph.asset_check_keys if key.name in CHECKS)


def test_every_asset_with_partitions_has_a_standing_check_of_them_and_every_full_feed_of_its_deliveries(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    found = {
        name: {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == name}
        for name in (PARTITIONS, DELIVERED)
    }
    assert found == {
        PARTITIONS: {name for name in MATERIALIZABLE if graph.get(dg.AssetKey(name.split("/"))).partitions_def},
        DELIVERED: {f"silver/{feed}" for feed in FEEDS if feed not in DAILY_FEEDS},
    }
    assert not any(graph.get(key).blocking for key in graph.asset_check_keys if key.name in found)


def test_every_dbt_test_is_a_check_of_its_asset(definitions: dg.Definitions) -> None:
    checked = {key.asset_key.to_user_string() for key in definitions.resolve_asset_graph().asset_check_keys}
    models = {name for name in MATERIALIZABLE if name.startswith(("gold/", "warehouse/"))}
    assert models - checked <= {"gold/airports_not_in_feed", *(f"warehouse/{view}" for view in VIEWS)}


def test_predictions_depend_on_nothing_that_is_known_only_afterwards(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey(["predictions", "arrival_delay"])).parent_keys}
    assert parents == {"silver/schedule", *(f"features/{view}" for view in FEATURE_VIEWS), "models/arrival_delay"}


def test_the_line_has_no_gap_from_landing_to_the_mart(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    line = ["landing/flights", "bronze/flights", "silver/flights", "gold/flight_facts"]
    line += ["warehouse/fct_flights", "warehouse/mart_on_time_by_carrier", "exposures/punctuality_report"]
    for parent, child in pairwise(line):
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey.from_user_string(child)).parent_keys}
        assert parent in parents, child


def parents(definitions: dg.Definitions, name: str) -> set[str]:
    return {
        key.to_user_string()
        for key in definitions.resolve_asset_graph().get(dg.AssetKey.from_user_string(name)).parent_keys
    }


def test_a_table_depends_on_what_its_view_shows_as_well_as_on_the_view(definitions: dg.Definitions) -> None:
    looked_up = {"warehouse/dim_carriers", "warehouse/dim_airports"}
    assert parents(definitions, "warehouse/fct_flights") - looked_up == {"warehouse/stg_flights", "gold/flight_facts"}
    assert parents(definitions, "warehouse/stg_flights") == {"gold/flight_facts"}


def test_a_day_that_cannot_be_predicted_holds_up_one_mart_and_not_the_warehouse(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    quality = dg.AssetKey(["warehouse", "mart_prediction_quality"])
    assert parents(definitions, "warehouse/mart_prediction_quality") == {
        "predictions/arrival_delay",
        "warehouse/fct_flights",
    }
    assert definitions.resolve_assets_def(quality).keys == {quality}, "an op of its own"
    predictions = dg.AssetKey(["predictions", "arrival_delay"])
    assert predictions not in {
        key for name in WAREHOUSE_DAILY[:-1] for key in graph.get_ancestor_asset_keys(dg.AssetKey(["warehouse", name]))
    }


def test_weather_of_the_day_before_is_in_a_day_and_older_is_not(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    facts = graph.get(dg.AssetKey(["gold", "flight_facts"]))
    mapping = {key.to_user_string(): facts.partition_mappings.get(key) for key in facts.parent_keys}
    assert mapping["silver/weather"] == dg.TimeWindowPartitionMapping(start_offset=-1)
    assert mapping["silver/flights"] is None


def test_every_model_has_an_owner_who_is_a_team(definitions: dg.Definitions) -> None:
    owners = {name: spec.owners for name, spec in specs(definitions) if name.startswith(("gold/", "warehouse/"))}
    assert [name for name, found in owners.items() if not all(owner.startswith("team:") for owner in found)] == []


def test_every_feed_has_a_landing_sensor_that_is_on(definitions: dg.Definitions) -> None:
    sensors = {sensor.name: sensor for sensor in definitions.sensors or []}
    assert set(sensors) == {"automation", "alerts", *(f"landing_{feed}" for feed in load_contracts())}
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_every_definition_can_be_loaded_by_the_daemon(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_a_branch_has_the_same_assets_on_tables_of_its_own(
    definitions: dg.Definitions, set_up: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from orchestrator.definitions import build_definitions

    home = tmp_path_factory.mktemp("branch")
    branch = set_up.model_copy(update={"environment": "pr-42", "home": home})
    for target in TARGETS:
        manifest_dir(branch, target).mkdir(parents=True)
        shutil.copy(manifest_dir(set_up, target) / "manifest.json", manifest_dir(branch, target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these manifests are the other environment's: their keys are what is tested
        branched = build_definitions(branch)
    assert branched.resolve_asset_graph().get_all_asset_keys() == definitions.resolve_asset_graph().get_all_asset_keys()
    tables = {name: spec.metadata["table"] for name, spec in specs(branched) if "table" in spec.metadata}
    assert tables["silver/flights"] == "lake.pr_42__silver.flights"
    assert tables.keys() >= {name for name in MATERIALIZABLE if name.startswith(("bronze/", "silver/", "quarantine/"))}
    assert not set(tables.values()) & {spec.metadata.get("table") for _, spec in specs(definitions)}
