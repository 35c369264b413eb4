"""What this project says of itself: no file that makes a table is left out, and every table can be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from foundation.settings import PROJECT, Settings
from orchestrator import describe as describe_module
from orchestrator.describe import describe

# Serving, plots and what registers or loads: no row of a table is made there. `definitions` is in recipes, view by view.
MAKES_NO_ROWS = {
    "ml/expectations.py",
    "ml/plots.py",
    "ml/registry.py",
    "ml/pins.py",
    "ml/snapshot_source.py",
    "feature_repo/feast_objects.py",
}
# Views have no key of their own; what Feast and MLflow hold is no table.
WITHOUT_KEYS = ("landing/", "features/", "exposures/", "warehouse/stg_")


@pytest.fixture(scope="module")
def said(set_up: Settings) -> dict[str, Any]:
    return json.loads(json.dumps(describe(set_up)))


def test_every_module_of_features_and_models_makes_something(said: dict[str, Any]) -> None:
    made_by = {part for one in said["assets"].values() for part in one["makes"]}
    modules = {
        str(file.relative_to(PROJECT))
        for package in ("ml", "feature_repo")
        for file in (PROJECT / package).glob("[!_]*.py")
    }
    assert modules - made_by == MAKES_NO_ROWS
    assert {part for part in made_by if part.endswith(".py") and not (PROJECT / part).exists()} == set()


def test_every_table_has_a_key_of_its_columns(said: dict[str, Any]) -> None:
    for asset, one in said["assets"].items():
        if asset.startswith(WITHOUT_KEYS) or asset in ("models/arrival_delay", "gold/airports_not_in_feed"):
            continue
        assert one["keys"], asset
        named = [key for key in one["keys"] if key in one["columns"]]
        assert len(named) == len(one["keys"]) or any("(" in key for key in one["keys"]), asset
        assert one["day"] is None or one["day"] in one["columns"], asset


def test_a_check_is_its_statement_and_not_the_comment_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe_module, "_of_node", lambda manifest, node, tests: tests)

    def check(code: str) -> str:
        model = {"resource_type": "model", "name": "x", "config": {"schema": "gold"}}
        test = {"resource_type": "test", "name": "t", "attached_node": "model.x", "raw_code": code, "config": {}}
        found = dict(describe_module._of_dbt({"nodes": {"model.x": model, "test.t": test}}))
        return found["gold/x"]["check t"]

    assert check("-- why\nselect 1") == check("select 1")
    assert check("-- why\nselect 1") != check("-- why\nselect 2")


def test_marts_of_months_say_so_and_facts_of_days_too(said: dict[str, Any]) -> None:
    by = {
        asset: one["by"] for asset, one in said["assets"].items() if one.get("day") and asset.startswith("warehouse/")
    }
    assert {asset for asset, one in by.items() if one == "months"} == {one for one in by if "/mart_" in one}
    assert by["warehouse/fct_flights"] == "days"


def test_the_sql_of_every_model_is_known(said: dict[str, Any]) -> None:
    for asset, one in said["assets"].items():
        if one["how"].endswith(".sql"):
            assert one["makes"]["SQL"]["whole"] != one["makes"]["SQL"]["rest"] or not one["makes"]["SQL"]["columns"], (
                asset
            )


def test_two_readings_of_one_tree_are_the_same(said: dict[str, Any], set_up: Settings, tmp_path: Path) -> None:
    assert json.loads(json.dumps(describe(set_up))) == said
