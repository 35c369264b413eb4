"""`./assay new mart` and `new feature`: the files are dbt's and Feast's, and nothing that is there is lost."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_repo.views import views_of_files
from foundation.contract import load_contract
from foundation.errors import AssayError
from orchestrator.cli import new_models
from orchestrator.cli.new_models import find_model, new_feature, new_mart
from tests.unit.feeds import document, full_document, written

MARTS = Path("dbt_project/models/warehouse/marts")


def with_feed(project: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that has this contract, under the name of its file, and no model."""
    (project / "dbt_project" / "models").mkdir(parents=True)
    contract = load_contract(written(project, content))
    monkeypatch.setattr(new_models, "PROJECT", project)
    monkeypatch.setattr(new_models, "load_contracts", lambda: {contract.feed: contract})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    content = document()
    content["schema"][0]["properties"] += [
        {"name": "kind", "physicalType": "string", "required": True, "description": 'A "kind": of it.'},
        {"name": "mail", "physicalType": "string", "required": True, "classification": "pii"},
        {"name": "price", "physicalType": "decimal(12,2)"},
        {"name": "seen_at", "physicalType": "timestamp"},
    ]
    with_feed(tmp_path, content, monkeypatch)
    return tmp_path


def declared(project: Path, path: Path | str) -> dict[str, Any]:
    return yaml.safe_load((project / path).read_text())["models"][0]


def test_a_mart_of_a_feed_brings_gold_and_staging_along(project: Path) -> None:
    files = new_mart("by_kind", "silver/events", ["kind"])
    assert sorted(file.name for file in files if file.suffix == ".sql") == [
        "events.sql",
        "mart_by_kind.sql",
        "stg_events.sql",
    ]
    mart = find_model("mart_by_kind", "warehouse")
    assert mart is not None and mart.keys == ("day", "kind") and mart.day == "day" and mart.group == "events"
    assert [column.name for column in mart.columns][2:5] == ["number_of_rows", "total_amount", "mean_amount"]
    groups = yaml.safe_load((project / "dbt_project/models/groups.yml").read_text())["groups"]
    assert [group["name"] for group in groups] == ["events"]


def test_the_yaml_names_the_columns_that_the_sql_selects_in_their_order(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    new_feature("code_history", "gold/events", "code")
    for file in project.rglob("*.sql"):
        final = file.read_text().rpartition("final as (")[2].partition("from ")[0]
        selected = re.findall(r"(\w+),?\n", final.partition("select")[2])
        assert selected == [column["name"] for column in declared(project, file.with_suffix(".yml"))["columns"]], file


def test_what_is_personal_stays_out_of_gold_and_what_may_be_empty_may_be_null(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    types = {
        one["name"]: one["data_type"]
        for one in declared(project, "dbt_project/models/warehouse/staging/stg_events.yml")["columns"]
    }
    assert types == {
        "day": "Date",
        "code": "String",
        "amount": "Nullable(Int32)",
        "double_amount": "Nullable(Int32)",
        "kind": "String",
        "price": "Nullable(Decimal(12, 2))",
        "seen_at": "Nullable(DateTime64(6, 'UTC'))",
        "available_at": "DateTime64(6, 'UTC')",
    }
    assert "'DateTime64(6, \\'UTC\\')'" in (project / "dbt_project/models/warehouse/staging/stg_events.sql").read_text()
    assert "classifies them: mail" in (project / "dbt_project/models/gold/events.yml").read_text()


def test_a_feature_is_a_history_in_gold_and_a_view_that_feast_can_be_told(project: Path) -> None:
    new_feature("code_history", "silver/events", "code")
    (view,) = views_of_files(project / "feature_repo" / "views").values()
    assert (view.name, view.key, view.day, view.owner) == ("code_history", "code", "day", "team:events")
    assert view.served == ("rows_of_day", "rows_28d", "mean_amount_28d", "mean_double_amount_28d", "mean_price_28d")
    gold = declared(project, "dbt_project/models/gold/code_history.yml")
    assert {view.key, view.day, *view.served, "available_at"} == {column["name"] for column in gold["columns"]}
    assert gold["config"]["meta"]["lookback_days"] == 27
    sql = (project / "dbt_project/models/gold/code_history.sql").read_text()
    assert "{{ available_at('events', 'day') }} as available_at" in sql


def test_a_row_of_several_feeds_is_known_when_the_last_of_them_is(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    gold = project / "dbt_project/models/gold/events.sql"
    feeds = dict(new_models.load_contracts())
    feeds["others"] = feeds["events"]
    gold.write_text(gold.read_text() + "-- {{ source('silver', 'others') }}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_models, "load_contracts", lambda: feeds)
        new_feature("code_history", "gold/events", "code")
    sql = (project / "dbt_project/models/gold/code_history.sql").read_text()
    moments = [f"{{{{ available_at('{feed}', 'day') }}}}" for feed in ("events", "others")]
    assert re.search(rf"greatest\(\s+{re.escape(moments[0])},\s+{re.escape(moments[1])}\s+\) as available_at", sql)


def test_columns_may_have_names_that_yaml_takes_for_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = document()
    content["team"]["members"][0]["username"] = "team:007"
    content["schema"][0]["properties"] += [
        {"name": name, "physicalType": "string", "required": True} for name in ("no", "off")
    ]
    content["schema"][0]["properties"][-2]["primaryKey"] = True
    with_feed(tmp_path, content, monkeypatch)
    new_mart("by_off", "silver/events", ["off", "no"])
    new_feature("histories", "gold/events", "no")
    for file in [*tmp_path.rglob("models/*/**/*.yml")]:
        model = yaml.safe_load(file.read_text())["models"][0]
        named = [column["name"] for column in model["columns"]]
        keys = [
            key for test in model.get("data_tests", ()) for key in test["unique_combination"]["arguments"]["columns"]
        ]
        assert set(keys) <= set(named) and {"no", model["config"]["group"]} <= {*named, "007"}, file
    assert views_of_files(tmp_path / "feature_repo/views")["histories"].key == "no"


def test_a_column_that_is_named_twice_is_one(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind", "kind"])
    mart = find_model("mart_by_kind", "warehouse")
    assert mart is not None and mart.keys == ("day", "kind")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("source", ["silver/events", "gold/events"])
def test_a_history_does_not_take_the_place_of_its_table(project: Path, source: str, force: bool) -> None:
    if source == "gold/events":
        new_mart("by_kind", source.replace("gold", "silver"), ["kind"])
    with pytest.raises(AssayError, match="gold/events is the table itself"):
        new_feature("events", source, "code", force)
    assert not (project / "feature_repo").exists()


def test_a_name_that_a_model_of_another_layer_has_is_refused(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    with pytest.raises(AssayError, match=r"marts/mart_by_kind.sql is a model of that name"):
        new_feature("mart_by_kind", "gold/events", "code", force=True)


def test_a_model_that_a_person_wrote_is_read_with_any_quotes_or_answered(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    gold = project / "dbt_project/models/gold/events.sql"
    before = find_model("events", "gold")
    gold.write_text(gold.read_text().replace("'", '"'))
    assert find_model("events", "gold") == before
    assert "available_at" in (project / new_feature("histories", "gold/events", "code")[0]).read_text()
    yml = gold.with_suffix(".yml")
    yml.write_text(re.sub(r'data_type: "varchar", ', "", yml.read_text()))
    with pytest.raises(AssayError, match="without a name or a data_type"):
        find_model("events", "gold")
    yml.write_text("models: [")
    with pytest.raises(AssayError, match=r"gold/events.yml is no YAML"):
        find_model("events", "gold")


def test_models_that_are_there_are_used_and_not_written(project: Path) -> None:
    new_mart("by_kind", "silver/events", ["kind"])
    gold = project / "dbt_project/models/gold/events.sql"
    gold.write_text(gold.read_text() + "-- mine\n")
    assert [file.name for file in new_mart("by_code", "silver/events", ["code"])] == [
        "mart_by_code.sql",
        "mart_by_code.yml",
    ]
    with pytest.raises(AssayError, match=r"mart_by_code.sql is there"):
        new_mart("by_code", "gold/events")
    new_mart("by_code", "gold/events", ["kind"], force=True)
    assert "-- mine" in gold.read_text()
    assert declared(project, MARTS / "mart_by_code.yml")["description"] == "Events by day and kind."


def test_a_whole_table_has_a_mart_without_days_and_no_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_feed(tmp_path, full_document(), monkeypatch)
    new_mart("by_code", "silver/events", ["code"])
    sql = (tmp_path / MARTS / "mart_by_code.sql").read_text()
    assert "range" not in sql and "daily" not in sql and "unique_key=['code']" in sql
    with pytest.raises(AssayError, match="has no days"):
        new_feature("code_history", "silver/events", "code")
    assert not (tmp_path / "feature_repo").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: new_mart("x", "gold/events"), "no model gold/events"),
        (lambda: new_mart("x", "silver/event"), "no feed 'event'"),
        (lambda: new_mart("x", "bronze/events"), "no table that models are made of"),
        (lambda: new_mart("x", "silver/events", ["kinds"]), "no column 'kinds'"),
        (lambda: new_mart("x", "silver/events", ["seen_at"]), "may be empty"),
        (lambda: new_mart("X-1", "silver/events"), "cannot be a model's name"),
        (lambda: new_feature("select", "silver/events", "code"), "cannot be a model's name"),
        (lambda: new_feature("x", "silver/events", "day"), "names nothing"),
        (lambda: new_feature("x", "silver/events", "mail"), "no column 'mail'"),
    ],
)
def test_what_cannot_be_made_is_answered_and_nothing_is_written(project: Path, make: Any, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        make()
    assert not list((project / "dbt_project").rglob("*.sql"))


def test_a_view_s_file_that_lacks_a_field_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("entity: code\nkeys: [code]\n")
    with pytest.raises(AssayError, match=r"views/x.yml lacks.*: counts, day,.*keys"):
        views_of_files(tmp_path)
