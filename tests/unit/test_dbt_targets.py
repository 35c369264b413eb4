"""`./assay dbt …` finds the engine by itself: what a selection names decides it, also across the engines."""

import json

import pytest

from foundation.errors import AssayError
from foundation.names import physical_name
from foundation.settings import Settings
from orchestrator.cli.dbt import DbtCall, own_options, planned, split
from orchestrator.dbt_environment import dbt_environment, exports_for_people
from orchestrator.manifests import TARGETS, is_current
from orchestrator.selection import Graph, across

TRINO, CLICKHOUSE = ["trino"], ["clickhouse"]
BOTH = ["trino", "clickhouse"]


@pytest.fixture(scope="module")
def ana(set_up: Settings) -> DbtCall:
    """An analyst's dbt, which reads the project once for all tests."""
    return DbtCall(set_up.model_copy(update={"user": "ana"}), shared=False)


@pytest.fixture
def call(ana: DbtCall, monkeypatch: pytest.MonkeyPatch) -> DbtCall:
    """The same, in its shell."""
    for name, value in ana.variables().items():
        monkeypatch.setenv(name, value)
    return ana


def targets_of(call: DbtCall, words: str) -> list[str]:
    return [target for target, _ in planned(call, words.split())]


def selections_of(call: DbtCall, words: str) -> dict[str, list[str]]:
    return {target: split(on_target)[1] for target, on_target in planned(call, words.split())}


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("build --select mart_on_time_by_carrier", CLICKHOUSE),
        ("build --select fct_flights+", CLICKHOUSE),
        ("build --select +carrier_history", TRINO),
        ("build --select=flight_facts", TRINO),
        ("build --full-refresh --select 1+flight_facts", TRINO),
        ("test --select tag:daily", BOTH),
        ("build --select carrier_history mart_on_time_by_carrier", BOTH),
        ("build --select flight_facts,tag:daily --threads 1", TRINO),
        ("build --select carrier_history --exclude mart_on_time_by_carrier", TRINO),
        ("build --exclude mart_on_time_by_carrier", BOTH),
        ("build --select fligth_facts", []),
        ("build --select no_such_model+ --full-refresh", []),
        ("build", BOTH),
        ("ls --output json", BOTH),
        ("build --target trino", TRINO),
        ("build -t clickhouse", CLICKHOUSE),
        ("build --target=trino --select mart_on_time_by_carrier", TRINO),
        ("build --select gold", TRINO),
        ("build --select warehouse.marts", CLICKHOUSE),
        ("build --select path:models/gold", TRINO),
        ("build --select mart_*", CLICKHOUSE),
        ("build --select *_history", TRINO),
        ("ls --select resource_type:source", BOTH),
    ],
)
def test_a_selection_runs_where_its_models_are(call: DbtCall, words: str, targets: list[str]) -> None:
    assert targets_of(call, words) == targets


def test_what_follows_a_gold_model_goes_on_in_the_warehouse(call: DbtCall) -> None:
    assert selections_of(call, "build --select flight_facts+") == {
        "trino": ["flight_facts+"],
        # airport_hours is made of flight_facts
        "clickhouse": ["source:lake.gold_flight_facts+", "source:lake.gold_airport_hours+"],
    }


def test_what_a_warehouse_model_is_made_of_begins_in_gold(call: DbtCall) -> None:
    assert selections_of(call, "build --select +fct_flights") == {
        # the dimensions are those that its tests look its codes up in
        "trino": ["+flight_facts", "+carriers", "+airports"],
        "clickhouse": ["+fct_flights"],
    }


def test_a_source_of_gold_reaches_the_marts(call: DbtCall) -> None:
    found = selections_of(call, "build --select source:silver.flights+")
    assert found["trino"] == ["source:silver.flights+"]
    assert "source:lake.gold_flight_facts+" in found["clickhouse"]


def test_a_plain_name_stays_on_its_engine(call: DbtCall) -> None:
    assert selections_of(call, "run -s flight_facts") == {"trino": ["flight_facts"]}


CHAIN = {  # silver.a -> x -> y on Trino; lake.gold_x -> f -> m on ClickHouse
    "trino": {
        "source.assay.silver.a": [],
        "model.assay.x": ["source.assay.silver.a"],
        "model.assay.y": ["model.assay.x"],
    },
    "clickhouse": {
        "source.assay.lake.gold_x": [],
        "source.assay.lake.silver_a": [],
        "model.assay.f": ["source.assay.lake.gold_x"],
        "model.assay.m": ["model.assay.f", "source.assay.lake.silver_a"],
    },
}


@pytest.mark.parametrize(
    ("word", "trino", "clickhouse"),
    [
        ("x+", [], ["source:lake.gold_x+"]),
        ("x+1", [], ["source:lake.gold_x+1"]),
        ("source:silver.a+2", [], ["source:lake.gold_x+1"]),
        ("source:silver.a+1", [], []),  # x itself is the last step
        ("+m", ["+x"], []),
        ("3+m", ["1+x"], []),
        ("2+m", ["x"], []),
        ("1+m", [], []),
        ("+x", [], []),
        ("m+", [], []),
        ("+f+", ["+x"], []),
        ("@x", [], []),
        ("x+,tag:daily", [], []),
    ],
)
def test_steps_are_counted_across_the_engines(word: str, trino: list[str], clickhouse: list[str]) -> None:
    """The Gold model and the source that shows it are one node of the data."""

    def graph(target: str) -> Graph:
        parents = CHAIN[target]

        def selected(core: str) -> list[str]:
            name = core.removeprefix("source:")
            return [node for node in parents if node.endswith(f".{name}")]

        return Graph(parents, selected)

    on_trino, on_clickhouse = across([word], graph("trino"), graph("clickhouse"))
    assert (on_trino[1:], on_clickhouse[1:]) == (trino, clickhouse)


def test_own_options_are_taken_out_of_dbts_words() -> None:
    words, shared, days, rows = own_options(
        ["build", "--shared", "--days", "2013-01-01..2013-01-31", "-s", "x", "--rows=3"]
    )
    assert (words, shared, rows) == (["build", "-s", "x"], True, 3)
    assert days == {"ASSAY_RANGE_START": "2013-01-01", "ASSAY_RANGE_END": "2013-01-31"}
    assert own_options(["build", "--days=2013-01-05"])[2]["ASSAY_RANGE_END"] == "2013-01-05"


@pytest.mark.parametrize("days", ["2013-02-30", "2013-01-02..2013-01-01", "yesterday"])
def test_a_wrong_range_is_refused(days: str) -> None:
    with pytest.raises(AssayError):
        own_options(["build", "--days", days])


def test_a_persons_dbt_writes_their_own_schemas_and_the_platforms_the_shared_ones(
    set_up: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a shell with a person's exports: Dagster's runs are started there in CI."""
    monkeypatch.setattr("orchestrator.dbt_environment.pin_published", lambda *_: [])
    person = exports_for_people(set_up.model_copy(update={"user": "Ana B."}))
    assert (person["ASSAY_DBT_PREFIX"], person["ASSAY_DBT_USER"]) == ("dev_ana_b__", "dev_ana_b")
    platform = person | dbt_environment(set_up)
    assert (platform["ASSAY_DBT_PREFIX"], platform["ASSAY_DBT_USER"]) == ("", "assay")
    assert (platform["DBT_DEFER"], platform["ASSAY_WRITES_SHARED"]) == ("false", "1")


def test_a_branch_is_its_own_environment_already(set_up: Settings) -> None:
    assert exports_for_people(set_up.model_copy(update={"environment": "pr-42"})) == {}


def test_the_state_to_defer_to_names_the_shared_tables_of_both_engines(call: DbtCall) -> None:
    state = json.loads((call.settings.dbt_target / "shared" / "manifest.json").read_text())
    for layer, table in (("gold", "flight_facts"), ("warehouse", "fct_flights")):
        node = state["nodes"][f"model.assay.{table}"]
        assert (node["schema"], node["name"]) == (physical_name("local", layer, table).schema, table)


def test_a_manifest_is_current_until_the_project_or_environment_changes(
    set_up: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [is_current(set_up, target) for target in TARGETS] == [True, True]
    assert not is_current(set_up.model_copy(update={"environment": "pr-42"}), "trino")
    monkeypatch.setattr("orchestrator.manifests.READ", ("*.sql",))  # as if the .yml files had been deleted
    assert not is_current(set_up, "trino")
