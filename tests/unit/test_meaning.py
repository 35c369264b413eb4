"""Two texts that do the same have one fingerprint, two that do not have two."""

import pytest

from orchestrator import meaning

QUERY = """
with kept as (select a, b, c from t where d > 0),
final as (select a, count(*) as rows_, sum(b) as total, max(c) as top from kept group by a)
select * from final
"""


@pytest.mark.parametrize("dialect", ["trino", "clickhouse"])
def test_layout_and_comments_are_no_change_of_sql(dialect: str) -> None:
    other = "-- why\n" + QUERY.replace("select", "SELECT\n   ").replace(" from ", "\nFROM ").replace(
        "sum(b)", "sum( b )"
    )
    assert meaning.sql(QUERY, dialect) == meaning.sql(other, dialect)


@pytest.mark.parametrize("edit", [("d > 0", "d > 1"), ("sum(b)", "sum(c)"), ("from t", "from s"), ("'x'", "'X'")])
def test_another_condition_column_table_or_text_is_one(edit: tuple[str, str]) -> None:
    query = QUERY.replace("d > 0", "d > 0 and e = 'x'")
    assert meaning.sql(query, "trino")["whole"] != meaning.sql(query.replace(*edit), "trino")["whole"]


def test_a_column_that_nothing_else_uses_changes_alone() -> None:
    old, new = (meaning.sql(query, "clickhouse") for query in (QUERY, QUERY.replace("sum(b)", "sum(b + 1)")))
    assert old["rest"] == new["rest"]
    assert [name for name in old["columns"] if old["columns"][name] != new["columns"][name]] == ["total"]


@pytest.mark.parametrize(
    "query",
    [
        # the rows are grouped by it
        ("select a + 1 as a, count(*) as n from t group by a", "a"),
        ("select x + 1 as y, count(*) as n from t group by 1", "y"),
        # ClickHouse lets another column name it
        ("select x + 1 as y, y * 2 as z from t", "y"),
        ("select distinct x + 1 as y from t", "y"),
        ("select arrayJoin(x) as y, z from t", "y"),
    ],
)
def test_a_column_that_the_rest_depends_on_is_no_column_alone(query: tuple[str, str]) -> None:
    statement, column = query
    assert column not in meaning.sql(statement, "clickhouse")["columns"]


def test_python_without_docstrings_and_comments() -> None:
    code = '"""Says."""\n\ndef f(x):\n    """Adds."""\n    return x + 1\n'
    assert meaning.python(code) == meaning.python("# why\ndef f(x):\n    return (x +\n        1)\n")
    assert meaning.python(code) != meaning.python(code.replace("1", "2"))
    assert meaning.python('x = "a"') != meaning.python('x = "b"')


def test_a_model_whose_logic_changed_is_another_though_it_renders_alike() -> None:
    old = "select 1 {% if flag %} where true {% endif %}"
    assert meaning.jinja(old) == meaning.jinja("SELECT 1\n{%   if flag %}\nWHERE true\n{% endif %}")
    assert meaning.jinja(old) != meaning.jinja(old.replace("flag", "not flag"))


def test_a_macro_is_its_words() -> None:
    assert meaning.macro("{# why #}{% macro a() %}\n  x -- note\n{% endmacro %}") == meaning.macro(
        "{% macro a() %} x {% endmacro %}"
    )
    assert meaning.macro("x") != meaning.macro("y")
    # Two dashes in a text begin no comment.
    assert meaning.macro("log('--') or a") != meaning.macro("log('--') or b")
    assert meaning.macro("it's -- a note") == meaning.macro("it's -- another, of it")
