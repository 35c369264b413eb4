"""The column graph: what a renamed column touches, from file to prediction, and that nothing is left out of it."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
from rich.console import Console

from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.settings import Settings
from ml import drift, predicting, training_set
from ml.features import MODEL_COLUMNS
from orchestrator import lineage, manifests
from orchestrator.assets.models import _columns
from orchestrator.cli.lineage import print_lineage
from orchestrator.domain_lineage import domain_columns
from orchestrator.lineage import Graph, Node, column_graph, find, of_dbt, reached, touched
from orchestrator.manifests import TARGETS, manifest_file

SOURCE = ("source_file", "source_sequence", "source_row")
# What the platform adds: where a row came from, and what became of it.
ADDED = {"bronze": (*SOURCE, "ds", "corrupt_record"), "silver": SOURCE}
ADDED["quarantine"] = (*ADDED["bronze"], "reasons", "fate")
VIEWS = ("carrier_history", "route_history", "aircraft_history", "origin_weather")
# Columns that no file has. Each was looked at: is it true?
MADE_HERE = {
    **{f"{layer}/{feed}": set(columns) for layer, columns in ADDED.items() for feed in load_contracts()},
    # The days and numbers of deliveries, which are Bronze's own columns.
    "gold/aircraft_over_time": {"source_sequence", "valid_from", "valid_to", "is_current"},
    # A seed: people wrote it.
    "gold/airports_not_in_feed": {"faa", "name", "tzone", "source"},
    # Numbers of snapshots and versions, which runs give.
    "models/arrival_delay_training_set": {f"{table}_snapshot_id" for table in ("flight_facts", *VIEWS)},
    "predictions/arrival_delay": {
        *(f"{table}_snapshot_id" for table in ("schedule", *VIEWS)),
        *("model_version", "model_run_id", "trained_through"),
    },
    "warehouse/mart_prediction_quality": {"model_version"},
    # The names of columns and statistics, and thresholds, stand in ml/drift.py.
    "monitoring/arrival_delay_drift": {
        *("column_name", "statistic", "threshold", "model_version"),
        *("predictions_snapshot_id", "training_set_snapshot_id"),
    },
}
# `interval '1' hour`: weather has columns of these names.
UNITS = {"year", "month", "day", "hour", "minute"}
# Made after another, whose columns only its tests read.
AFTER = {
    ("warehouse/fct_flights", "warehouse/dim_carriers"),
    ("warehouse/fct_flights", "warehouse/dim_airports"),
    ("warehouse/fct_airport_hours", "warehouse/dim_airports"),
}


@pytest.fixture(scope="module")
def graph(set_up: Settings) -> Graph:
    """The graph of this project, from manifests that were built where no engine listens."""
    return column_graph(set_up, domain_columns())


def nodes(*names: str) -> set[Node]:
    """`gold/x.a` as a column, `gold/x` as the rows."""
    return {Node(asset, column or None) for asset, _, column in (name.partition(".") for name in names)}


def read_by(graph: Graph, asset: str) -> dict[str, set[str]]:
    """What a model reads: under its columns, and under "" what only chooses rows."""
    made = graph.made[asset]
    rows = {"": {str(node) for node in made.rows}}
    return rows | {column: {str(node) for node in of} for column, of in made.columns.items()}


def test_renaming_a_column_of_the_file_touches_mart_features_label_and_model(graph: Graph) -> None:
    found = touched(graph, "landing/flights", "arr_delay")
    assert found > nodes(
        "bronze/flights.arr_delay",
        "silver/flights.arr_delay",
        "gold/flight_facts.arr_delay",
        "gold/flight_facts.is_delayed",
        "warehouse/mart_on_time_by_carrier.on_time_share",
        "warehouse/mart_on_time_by_carrier.mean_arrival_delay",
        *(
            f"features/{view}_history.{name}"
            for view in ("carrier", "route", "aircraft")
            for name in training_set_rates()
        ),
        "models/arrival_delay_training_set.is_delayed",
        "models/arrival_delay.carrier_history__delayed_share",
        "models/arrival_delay.is_delayed",
        "predictions/arrival_delay.delay_probability",
        "exposures/punctuality_report",
    )


def training_set_rates() -> tuple[str, ...]:
    return ("delayed_share", "delayed_share_28d", "mean_arrival_delay_28d")


def test_what_has_nothing_to_do_with_a_column_is_not_touched_by_it(graph: Graph) -> None:
    found = touched(graph, "landing/flights", "arr_delay")
    assert not found & nodes(
        "gold/flight_facts.dep_delay",
        "gold/carrier_history.flights",
        "gold/carrier_history.available_at",
        "models/arrival_delay.distance",
        "warehouse/mart_on_time_by_carrier.cancelled",
    )
    assert not {node.asset for node in found} & {"silver/schedule", "gold/origin_weather", "gold/carriers"}


def test_a_share_of_late_flights_is_touched_through_is_delayed_alone(graph: Graph) -> None:
    """The share never names arr_delay."""
    (parents,) = [set(graph.parents(one)) for one in nodes("gold/carrier_history.delayed_share")]
    assert nodes("gold/flight_facts.is_delayed") <= parents
    assert graph.parents(Node("models/arrival_delay_training_set", "carrier_history__delayed_share")) == [
        Node("features/carrier_history", "delayed_share")
    ]
    assert nodes("models/arrival_delay.carrier_history__delayed_share") < touched(
        graph, "gold/flight_facts", "is_delayed"
    )


def test_a_column_that_only_filters_touches_the_model_that_filters_by_it(graph: Graph) -> None:
    found = touched(graph, "landing/weather", "observation_date")
    assert nodes("gold/flight_facts") < found  # `where observation_date between …` of a run's range
    assert not {node for node in found if node.asset == "gold/flight_facts" and node.column}


def test_truths_written_by_hand_from_the_models_sql(graph: Graph) -> None:
    facts = "gold/flight_facts."
    late, arrived = {f"{facts}is_delayed"}, {f"{facts}arr_delay"}
    assert read_by(graph, "gold/carrier_history") == {
        "": {f"{facts}carrier", f"{facts}flight_date"},
        "carrier": {f"{facts}carrier"},
        "flight_date": {f"{facts}flight_date"},
        "flights": {"gold/carrier_history"},
        "arrivals": arrived,
        "delayed": late,
        "delayed_share": late | arrived,
        "flights_28d": {"gold/carrier_history"},
        "arrivals_28d": arrived,
        "delayed_share_28d": late | arrived,
        "mean_arrival_delay_28d": arrived,
        "available_at": {f"{facts}flight_date"},
    }
    fct = "warehouse/fct_flights."
    assert read_by(graph, "warehouse/mart_on_time_by_carrier") == {
        "": {f"{fct}carrier", f"{fct}flight_date"},
        "carrier": {f"{fct}carrier"},
        "month": {f"{fct}flight_date"},
        "flights": {"warehouse/mart_on_time_by_carrier"},
        "cancelled": {f"{fct}is_cancelled"},
        "arrivals": {f"{fct}arr_delay"},
        "delayed": {f"{fct}is_delayed"},
        "on_time_share": {f"{fct}is_delayed", f"{fct}arr_delay"},
        "mean_arrival_delay": {f"{fct}arr_delay"},
    }
    of_legs = ("tailnum", "flight_date", "actual_departure", "scheduled_departure", "carrier", "flight", "origin")
    propagation = read_by(graph, "warehouse/mart_delay_propagation")
    assert propagation[""] == {f"{fct}{name}" for name in (*of_legs, "is_cancelled", "is_delayed")}
    assert propagation["previous_arrival"] == {f"{fct}is_delayed"}
    assert propagation["mean_minutes_recovered"] == {f"{fct}arr_delay", f"{fct}dep_delay"}
    assert propagation["leg_of_day"] == {"warehouse/mart_delay_propagation"}
    silver, seed = "silver/airports.", "gold/airports_not_in_feed."
    assert read_by(graph, "gold/airports") == {
        "": {f"{silver}faa", f"{seed}faa"},
        **{name: {f"{silver}{name}", f"{seed}{name}"} for name in ("faa", "name", "tzone")},
        **{name: {f"{silver}{name}"} for name in ("lat", "lon", "alt")},
    }
    assert read_by(graph, "gold/carriers") == {
        "": set(),
        "carrier": {"silver/airlines.carrier"},
        "name": {"silver/airlines.name"},
    }


def models(set_up: Settings) -> Iterator[tuple[str, str]]:
    for target in TARGETS:
        for node in json.loads(manifest_file(set_up, target).read_text())["nodes"].values():
            if node["resource_type"] == "model":
                yield "/".join(manifests.asset_path(node)), node["compiled_code"]


def test_every_column_whose_name_stands_in_a_models_sql_is_read_by_it(graph: Graph, set_up: Settings) -> None:
    """By brute force: words. A word may also be a name that the model gives; then it is one of its own columns."""
    for asset, sql in models(set_up):
        words = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"--.*", "", sql)))
        read = {node for one in graph.made[asset].nodes for node in graph.parents(one)}
        parents = {node.asset for node in read if node.asset != asset}
        assert parents, asset
        assert {node.column for node in read if node.column} <= words, asset
        theirs = {column for parent in parents for column in graph.made[parent].columns} - UNITS
        unread = (words & theirs) - {node.column for node in read}
        assert unread <= set(graph.made[asset].columns), asset


def test_every_column_comes_from_a_file_or_is_known_to_be_made_here(graph: Graph) -> None:
    made_here: dict[str, set[str]] = {}
    for asset, made in graph.made.items():
        for column in made.columns if not asset.startswith("landing/") else ():
            if not any(one.asset.startswith("landing/") for one in reached([Node(asset, column)], graph.parents)):
                made_here.setdefault(asset, set()).add(column)
    assert made_here == MADE_HERE


def test_no_column_is_made_of_one_that_is_not_there(graph: Graph) -> None:
    there = {node for made in graph.made.values() for node in made.nodes}
    read = {parent for node in there for parent in graph.parents(node)}
    assert read <= there


def test_what_the_domain_declares_are_the_columns_that_its_tables_have(graph: Graph) -> None:
    tables = {
        "models/arrival_delay_training_set": training_set.COLUMNS,
        "predictions/arrival_delay": predicting.COLUMNS,
        "monitoring/arrival_delay_drift": drift.TABLE_COLUMNS,
    }
    for asset, columns in tables.items():
        assert set(graph.made[asset].columns) == {name for name, _, _ in columns}, asset
    assert set(graph.made["models/arrival_delay"].columns) == {*MODEL_COLUMNS, training_set.LABEL}


def test_the_graph_of_columns_is_that_of_the_assets(graph: Graph, definitions: dg.Definitions) -> None:
    assets = definitions.resolve_asset_graph()
    keys = {key.to_user_string() for key in assets.get_all_asset_keys() if key.path[0] != "maintenance"}
    assert set(graph.made) == keys
    read = {
        name: {parent.asset for node in made.nodes for parent in graph.parents(node)}
        for name, made in graph.made.items()
    }
    of_columns = {(name, parent) for name, parents in read.items() for parent in parents - {name}}
    of_assets = {
        (name, parent.to_user_string())
        for name in read
        for parent in assets.get(dg.AssetKey(name.split("/"))).parent_keys
    }
    # Dagster is also told what lies behind a view.
    behind = {(name, other) for name, parent in of_columns for other in read[parent]}
    assert of_columns <= of_assets
    assert of_assets - of_columns - behind == AFTER


def test_dagster_shows_the_columns_that_the_graph_has(graph: Graph, definitions: dg.Definitions) -> None:
    shown = {
        spec.key.to_user_string(): [column.name for column in schema.columns]
        for spec in definitions.resolve_all_asset_specs()
        if (schema := spec.metadata.get("dagster/column_schema"))
    }
    # Those of the others come with their first materialization.
    layers = ("bronze", "silver", "quarantine", "gold", "warehouse", "features")
    assert shown == {name: list(made.columns) for name, made in graph.made.items() if name.split("/")[0] in layers}


@pytest.mark.parametrize(
    ("asset", "of"),
    [
        ("models/arrival_delay_training_set", training_set),
        ("models/arrival_delay", training_set),
        ("predictions/arrival_delay", predicting),
    ],
)
def test_a_materialization_says_of_columns_what_the_graph_says(graph: Graph, asset: str, of: ModuleType) -> None:
    said = _columns(dg.AssetKey(asset.split("/")), of.COLUMNS)
    assert [column.name for column in said["dagster/column_schema"].columns] == list(graph.made[asset].columns)
    told = said["dagster/column_lineage"].deps_by_column
    for column, deps in told.items():
        found = {Node(dep.asset_key.to_user_string(), dep.column_name) for dep in deps}
        assert found == set(graph.parents(Node(asset, column))), column


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("gold.flight_facts.arr_delay", ("gold/flight_facts", "arr_delay")),
        ("gold/flight_facts.arr_delay", ("gold/flight_facts", "arr_delay")),
        ("gold/flight_facts", ("gold/flight_facts", None)),
        ("exposures.worst_routes", ("exposures/worst_routes", None)),
    ],
)
def test_a_table_or_column_is_found_however_it_is_written(graph: Graph, typed: str, found: tuple[str, str]) -> None:
    assert find(graph, typed) == found


@pytest.mark.parametrize(
    ("typed", "what", "next_action"),
    [
        ("gold.fligth_facts.arr_delay", "There is no table gold.fligth_facts", "use gold/flight_facts"),
        ("warehouse.flight_facts", "There is no table warehouse.flight_facts", "use gold/flight_facts"),
        ("flight_facts", "There is no table flight_facts", "use gold/flight_facts"),
        ("gold.flight_facts.arr_dleay", "gold/flight_facts has no column arr_dleay", "use arr_delay"),
        ("qqq", "There is no table qqq", "write layer.table or layer.table.column"),
    ],
)
def test_who_mistypes_is_told_what_is_spelt_like_it(graph: Graph, typed: str, what: str, next_action: str) -> None:
    with pytest.raises(AssayError) as error:
        find(graph, typed)
    assert error.value.what == what
    assert error.value.next_action.startswith(next_action)


def test_who_asks_before_there_is_anything_is_told_so() -> None:
    with pytest.raises(AssayError, match=r"There is no table gold\.x"):
        find(Graph({}), "gold.x")


def printed(settings: Settings, name: str, up: bool = True, down: bool = True) -> list[str]:
    console = Console(record=True, width=80, file=io.StringIO())
    print_lineage(settings, console, name, up, down, as_json=False)
    return console.export_text().splitlines()


def test_a_columns_tree_goes_up_to_the_file_and_down_to_the_prediction_each_node_once(set_up: Settings) -> None:
    lines = printed(set_up, "gold.flight_facts.arr_delay")
    up, down = lines[2 : lines.index("  is in")], lines[lines.index("  is in") + 1 :]
    assert [line.split() for line in up] == [
        ["silver/flights.arr_delay", "dbt_project/models/gold/flight_facts.sql"],
        ["bronze/flights.arr_delay", "contracts/flights.odcs.yaml"],
        ["landing/flights.arr_delay", "contracts/flights.odcs.yaml"],
    ]
    named = [line.split()[0] for line in down if "see above" not in line]
    assert len(named) == len(set(named))
    assert {"warehouse/mart_on_time_by_carrier.on_time_share", "predictions/arrival_delay.delay_probability"} < set(
        named
    )


def test_the_tree_names_what_the_graph_says_is_touched(graph: Graph, set_up: Settings) -> None:
    lines = printed(set_up, "silver.weather.wind_speed", up=False)
    named = {line.split()[0] for line in lines[2:] if "see above" not in line}
    assert named == {str(node) for node in touched(graph, "silver/weather", "wind_speed")}


def test_a_tables_tree_names_each_table_once(graph: Graph, set_up: Settings) -> None:
    lines = printed(set_up, "gold/flight_facts", up=False)
    named = [line.split()[0].rstrip(":") for line in lines[2:] if "see above" not in line]
    assert sorted(named) == sorted({node.asset for node in touched(graph, "gold/flight_facts")} - {"gold/flight_facts"})


def test_programs_get_edges(set_up: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    print_lineage(set_up, Console(), "silver.airlines.name", up=True, down=False, as_json=True)
    edge = {"how": "contracts/airlines.odcs.yaml"}
    assert json.loads(capsys.readouterr().out) == {
        "asset": "silver/airlines",
        "column": "name",
        "up": [
            {"from": "bronze/airlines.name", "to": "silver/airlines.name", **edge},
            {"from": "landing/airlines.name", "to": "bronze/airlines.name", **edge},
        ],
    }


def test_sql_is_read_once(graph: Graph, set_up: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(lineage, "reads_of", again)
    assert column_graph(set_up, domain_columns()) == graph


def test_who_asks_waits_neither_for_dagster_nor_for_sqlglot(graph: Graph, set_up: Settings) -> None:
    asked = (
        "import sys; from rich.console import Console; from foundation.settings import load; "
        "from orchestrator.cli.lineage import print_lineage; "
        "print_lineage(load(), Console(), 'gold.carriers', True, True, False); "
        "print([name for name in ('dagster', 'sqlglot', 'pandas', 'feast') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={"ASSAY_HOME": str(set_up.home), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_a_model_whose_sql_cannot_be_had_is_made_of_all_that_it_reads(graph: Graph, set_up: Settings) -> None:
    found = {target: json.loads(manifest_file(set_up, target).read_text()) for target in TARGETS}
    del found["trino"]["nodes"]["model.assay.carriers"]["compiled_code"]
    known = {
        name: made for name, made in graph.made.items() if name.split("/")[0] in ("bronze", "silver", "predictions")
    }
    (carriers,) = [made for made in of_dbt(found, known, lineage.reads_of) if made.asset == "gold/carriers"]
    assert set(carriers.columns["name"]) == {Node("silver/airlines", name) for name in known["silver/airlines"].columns}
    assert "no SQL could be read" in carriers.how


def test_a_project_that_cannot_be_rendered_still_has_a_manifest(
    set_up: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def dbt(words: list[str], variables: dict[str, str]) -> None:
        called.append(words[0])
        Path(variables["DBT_TARGET_PATH"], "manifest.json").write_text("{}")
        if words[0] == "compile":
            raise AssayError("a model asks the engine", "wait")

    monkeypatch.setattr(manifests, "_dbt", dbt)
    monkeypatch.setattr(manifests, "exports", lambda _: {})
    settings = set_up.model_copy(update={"home": tmp_path})
    with pytest.warns(UserWarning, match="a model asks the engine"):
        manifests.build(settings, "trino")
    assert called == ["compile", "parse"]
    assert manifests.is_current(settings, "trino")
    assert manifests.why_unrendered(settings, "trino") == "a model asks the engine"


def test_a_project_that_cannot_be_parsed_is_read_once(
    set_up: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def dbt(words: list[str], variables: dict[str, str]) -> None:
        called.append(words[0])
        raise AssayError("a model is wrong", "correct it")

    monkeypatch.setattr(manifests, "_dbt", dbt)
    monkeypatch.setattr(manifests, "exports", lambda _: {})
    settings = set_up.model_copy(update={"home": tmp_path})
    old = manifests.manifest_dir(settings, "trino") / "manifest.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    os.utime(old, (0, 0))
    with pytest.raises(AssayError, match="a model is wrong"):
        manifests.build(settings, "trino")
    assert called == ["compile"]
    assert not manifests.is_current(settings, "trino")
