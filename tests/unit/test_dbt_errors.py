"""A message of an engine or of dbt becomes a file and a line that a person can open."""

from pathlib import Path

import pytest

from orchestrator import dbt_errors

SOURCE = """{{ config(materialized='table') }}

select
    country,
    nonsense
from {{ ref('fct_orders') }}
"""
SENT = """create table x as
(
select
    country,
    nonsense
from warehouse.fct_orders
)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.sql").write_text(SOURCE)
    monkeypatch.setattr(dbt_errors, "DBT_PROJECT", tmp_path)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "message=\"line 6:5: Column 'other' cannot be resolved\", query_id=1",
            ":5",
        ),  # the statement's line 5, by place
        ("Unknown expression identifier `nonsense` in scope", ":5"),
        ("depends on a node named 'fct_orders' which was not found", ":6"),
        ("unexpected '}', expected ')'\n    line 6\n      from {{ ref('fct", ":6"),
        ("Memory limit exceeded", ""),
    ],
)
def test_a_mistake_is_named_by_its_line_in_the_model(message: str, line: str) -> None:
    assert dbt_errors.place("models/x.sql", message, SENT) == f"dbt_project/models/x.sql{line}"


def test_a_model_that_a_macro_refuses_is_named_and_not_the_macro() -> None:
    said = "x (models/x.sql) asks for the database other.\n> in macro generate_database_name (macros/names.sql)"
    assert dbt_errors.places(said) == ["dbt_project/models/x.sql"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "Database Error in model x (models/x.sql)\n  TrinoUserError(type=USER_ERROR, "
            "message=\"line 6:5: Column 'a' cannot be resolved\", query_id=2)\n  compiled code at y",
            "line 6:5: Column 'a' cannot be resolved",
        ),
        (
            "Database Error in model x (models/x.sql)\n  Received ClickHouse exception, code: 47, server response: "
            "Code: 47. DB::Exception: Unknown identifier `a`. (UNKNOWN_IDENTIFIER) (for url http://h)",
            "Unknown identifier `a`. (UNKNOWN_IDENTIFIER)",
        ),
    ],
)
def test_an_engines_message_is_cut_to_what_is_wrong(message: str, said: str) -> None:
    assert dbt_errors.summary(message) == said
