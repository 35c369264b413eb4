"""What a change touches, on small descriptions that were written by hand."""

import io
import json
from copy import deepcopy
from typing import Any

import pytest
from rich.console import Console

from foundation.errors import AssayError
from orchestrator.cli.impact import print_impact
from orchestrator.impact import Impact, impact
from tests.unit.test_contract_changes import COLUMN, FEED


def asset(columns: dict[str, list[str]], rows: tuple[str, ...] = (), **said: Any) -> dict[str, Any]:
    """`layer/table.column` is a column of another asset, `layer/table` its rows."""

    def node(text: str) -> list[str | None]:
        of, _, column = text.partition(".")
        return [of, column or None]

    return {
        "how": "a file",
        "columns": {name: [node(one) for one in of] for name, of in columns.items()},
        "rows": [node(one) for one in rows],
        "types": {},
        "makes": {},
        "says": {},
        **said,
    }


def described() -> dict[str, Any]:
    """A feed, two tables, a feature, a model and who reads them."""
    names = ("day", "amount", "note")
    feed = {**FEED, "file": "contracts/orders.odcs.yaml", "columns": {name: dict(COLUMN) for name in names}}
    sql = {"whole": "w", "columns": {"total": "t", "n": "n"}, "rest": "r"}
    return {
        "format": 1,
        "contracts": {"orders": feed},
        "assets": {
            "landing/orders": asset({name: [] for name in names}),
            "bronze/orders": asset({name: [f"landing/orders.{name}"] for name in names}),
            "quarantine/orders": asset({name: [f"bronze/orders.{name}"] for name in names}),
            "silver/orders": asset({name: [f"bronze/orders.{name}"] for name in names}),
            "gold/days": asset(
                {"day": ["silver/orders.day"], "total": ["silver/orders.amount"], "n": ["gold/days"]},
                ("silver/orders.day",),
                makes={"SQL": sql},
            ),
            "features/days": asset({"total": ["gold/days.total"]}),
            "models/price": asset({"total": ["features/days.total"]}, makes={"ml/price.py": "1"}),
            "warehouse/mart": asset({"n": ["gold/days.n"]}, makes={"SQL": {**sql, "whole": "m"}}),
            "exposures/report": asset({}, ("warehouse/mart.n", "warehouse/mart")),
        },
    }


def changed(edit: Any, files: tuple[str, ...] = ()) -> Impact:
    new = described()
    edit(new)
    return impact("0" * 40, described(), new, files)


def touched(found: Impact) -> dict[str, str]:
    some = (*found.direct, *found.downstream)
    return {
        one.asset: ",".join("*" if one.columns is None else one.columns) + ("+rows" if one.rows else "") for one in some
    }


def test_nothing_changed() -> None:
    found = changed(lambda new: None)
    assert (found.direct, found.downstream, found.contracts, found.refused) == ([], [], {}, [])


def test_a_renamed_column_is_refused_and_followed_to_the_model_and_no_further() -> None:
    def rename(new: dict[str, Any]) -> None:
        columns = new["contracts"]["orders"]["columns"]
        columns["value"] = columns.pop("amount")
        for layer in ("landing", "bronze", "quarantine", "silver"):
            of = new["assets"][f"{layer}/orders"]["columns"]
            of["value"] = [[one, "value"] for one, _ in of.pop("amount")]

    found = changed(rename)
    assert len(found.refused) == 1
    assert touched(found) == {
        **dict.fromkeys([f"{layer}/orders" for layer in ("landing", "bronze", "quarantine", "silver")], "amount,value"),
        "gold/days": "total",
        "features/days": "*",
        "models/price": "*",
    }
    assert found.affected == [
        "bronze/orders",
        "quarantine/orders",
        "silver/orders",
        "gold/days",
        "features/days",
        "models/price",
    ]


def test_a_rule_that_takes_other_rows_touches_what_counts_them() -> None:
    found = changed(lambda new: new["contracts"]["orders"]["columns"]["note"].update(required=True))
    assert touched(found) == {
        "quarantine/orders": "note+rows",
        "silver/orders": "note+rows",
        # No column of it is made of the note; but of rows that are no longer there.
        "gold/days": "+rows",
        "features/days": "",
        "models/price": "",
        "warehouse/mart": "",
        "exposures/report": "*+rows",
    }
    assert found.refused


def test_a_new_column_that_may_be_empty_is_additive() -> None:
    def add(new: dict[str, Any]) -> None:
        new["contracts"]["orders"]["columns"]["colour"] = dict(COLUMN)
        for layer in ("landing", "bronze", "quarantine", "silver"):
            new["assets"][f"{layer}/orders"]["columns"]["colour"] = []

    found = changed(add)
    assert not found.refused
    assert found.contracts["orders"].write == "version: 1.1.0"
    assert {one.asset for one in found.direct} == {
        f"{layer}/orders" for layer in ("landing", "bronze", "quarantine", "silver")
    }
    assert not found.downstream


def test_one_column_of_a_model_touches_only_what_is_made_of_it() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["assets"]["gold/days"]["makes"]["SQL"] = {"whole": "v", "columns": {"total": "t2", "n": "n"}, "rest": "r"}

    assert touched(changed(edit)) == {"gold/days": "total", "features/days": "*", "models/price": "*"}


def test_the_rest_of_a_query_touches_all_that_reads_it() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["assets"]["gold/days"]["makes"]["SQL"] = {"whole": "v", "columns": {}, "rest": "r2"}

    found = touched(changed(edit))
    assert found["gold/days"] == "*+rows"
    assert found["warehouse/mart"] == "*+rows" or found["warehouse/mart"] == "*"
    assert {"features/days", "models/price", "exposures/report"} < set(found)


def test_a_mart_touches_its_readers_and_nothing_else() -> None:
    found = changed(lambda new: new["assets"]["warehouse/mart"]["makes"].update(config="2"))
    assert set(touched(found)) == {"warehouse/mart", "exposures/report"}
    assert found.changed == found.affected == ["warehouse/mart"]


def test_python_that_makes_a_model_touches_the_model() -> None:
    found = changed(
        lambda new: new["assets"]["models/price"]["makes"].update({"ml/price.py": "2"}), ("ml/price.py", "x.py")
    )
    assert touched(found) == {"models/price": "*+rows"}
    assert found.other == ["x.py"]


def test_what_is_only_told_of_a_table_makes_nothing_again() -> None:
    found = changed(lambda new: new["assets"]["warehouse/mart"]["says"].update({"check unique": "2"}))
    assert [(one.asset, one.said) for one in found.direct] == [("warehouse/mart", ["check unique"])]
    assert (found.changed, found.downstream) == ([], [])


def test_a_table_that_is_gone_touches_its_old_readers() -> None:
    found = changed(lambda new: new["assets"].pop("warehouse/mart"))
    assert [one.asset for one in found.downstream] == ["exposures/report"]
    assert found.changed == []
    found = changed(lambda new: new["assets"].update({"gold/more": asset({"a": ["silver/orders.amount"]})}))
    assert found.changed == ["gold/more"]


def test_a_description_of_another_form_is_not_guessed_at() -> None:
    old = deepcopy(described())
    old["format"] = 0
    with pytest.raises(AssayError, match="another form"):
        impact("0" * 40, old, described())


def test_a_model_that_cannot_be_rendered_is_named_and_not_called_a_change_of_all() -> None:
    with pytest.raises(AssayError, match=r"'reff' is undefined"):
        changed(lambda new: new.update(unrendered={"trino": "models/x.sql: 'reff' is undefined"}))
    # Of a project that dbt cannot render without an engine, all is compared as it is written.
    old = {**described(), "unrendered": {"trino": "it asks an engine"}}
    assert impact("0" * 40, old, deepcopy(old)).changed == []


@pytest.mark.parametrize("form", ["terminal", "markdown", "json"])
def test_every_form_says_what_is_refused_and_what_to_write(form: Any, capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    found = changed(lambda new: new["contracts"]["orders"]["columns"]["amount"].update(type="string"))
    print_impact(Console(file=screen, width=200), "main", found, None, form)
    text = screen.getvalue() + capsys.readouterr().out
    if form == "json":
        said = json.loads(text)
        assert said["breaking"]
        assert said["contracts"]["orders"]["write"].startswith("version: 2.0.0")
        assert "gold/days" in {one["asset"] for one in said["downstream"]}
        text = said["contracts"]["orders"]["refused"] + "version: 2.0.0, gold/days"
    for word in ("contracts/orders.odcs.yaml", "column amount has another type (int → string)", "version: 2.0.0"):
        assert word in text
