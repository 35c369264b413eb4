"""`./assay dbt …` finds the engine by itself: what a selection names decides it."""

import pytest

from foundation.settings import Settings
from orchestrator.cli.dbt import targets_of
from orchestrator.manifests import TARGETS, is_current

TRINO, CLICKHOUSE = ["trino"], ["clickhouse"]
BOTH = ["trino", "clickhouse"]


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("build --select mart_on_time_by_carrier", CLICKHOUSE),
        ("build --select fct_flights+", CLICKHOUSE),
        ("build --select +carrier_history", TRINO),
        ("build -s +carrier_history+ --full-refresh", TRINO),
        ("build --select=flight_facts", TRINO),
        ("build --full-refresh --select 1+flight_facts", TRINO),
        ("test --select tag:daily", BOTH),
        ("build --select carrier_history mart_on_time_by_carrier", BOTH),
        ("build --select flight_facts,tag:daily --threads 1", BOTH),
        ("build --select carrier_history --exclude mart_on_time_by_carrier", TRINO),
        ("build --exclude mart_on_time_by_carrier", BOTH),
        ("build --select fligth_facts", []),
        ("build --select no_such_model+ --full-refresh", []),
        ("build", BOTH),
        ("ls --output json", BOTH),
        ("build --target trino", TRINO),
        ("build -t clickhouse", CLICKHOUSE),
        ("build --target=trino --select mart_on_time_by_carrier", TRINO),
        ("build --select mart_on_time_by_carrier --target trino", TRINO),
    ],
)
def test_a_selection_runs_where_its_models_are(set_up: Settings, words: str, targets: list[str]) -> None:
    assert targets_of(set_up, words.split()) == targets


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("build --select gold", TRINO),
        ("build --select warehouse.marts", CLICKHOUSE),
        ("build --select path:models/gold", TRINO),
    ],
)
def test_a_folder_runs_on_its_engine_alone(set_up: Settings, words: str, targets: list[str]) -> None:
    assert targets_of(set_up, words.split()) == targets


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("build --select mart_*", CLICKHOUSE),
        ("build --select *_history", TRINO),
        ("build --select source:silver.flights+", TRINO),
        ("ls --select resource_type:source", BOTH),
        ("build --select config.materialized:table", BOTH),
        ("build --select state:modified+ --state somewhere", BOTH),
    ],
)
def test_whatever_dbt_can_select_runs(set_up: Settings, words: str, targets: list[str]) -> None:
    assert targets_of(set_up, words.split()) == targets


def test_a_manifest_is_current_until_the_project_or_environment_changes(
    set_up: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [is_current(set_up, target) for target in TARGETS] == [True, True]
    assert not is_current(set_up.model_copy(update={"environment": "pr-42"}), "trino")
    monkeypatch.setattr("orchestrator.manifests.READ", ("*.sql",))  # as if the .yml files had been deleted
    assert not is_current(set_up, "trino")
