"""Two states of a table held side by side by Trino and by ClickHouse, against the same thing done in Python over all rows."""

import math
import random
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import pytest

from foundation.settings import Settings
from orchestrator.cli.comparison import Compared, Table, compare
from orchestrator.cli.engines import Engine, rows
from spark_assets.quarantined import HIDDEN

ENGINES: dict[Engine, str] = {"trino": "gold", "clickhouse": "warehouse"}
DAYS = [date(2013, 1, 1), date(2013, 1, 2), date(2013, 2, 1)]
KEYS = ("day", "number", "coalesce(part, -1)")
COLUMNS = ("day", "number", "part", "measured", "counted", "secret", "said", "several")
# `counted` is widened in the branch, `said` was a number in the base.
WIDENED: dict[Engine, tuple[str, str]] = {
    "trino": ("integer", "bigint"),
    "clickhouse": ("Nullable(Int32)", "Nullable(Int64)"),
}
RETYPED: dict[Engine, tuple[str, str]] = {
    "trino": ("integer", "varchar"),
    "clickhouse": ("Nullable(Int32)", "Nullable(String)"),
}
# The engine, the layer, and all rows of the table in the base and in the branch.
Made = tuple[Engine, str, list[dict[str, Any]], list[dict[str, Any]]]
MEASURED = [None, 0.0, 1.0, 1.0 + 1e-10, 1.1, math.nan, math.inf, -math.inf]
TOLERANCES = (0.0, 1e-6)


@pytest.fixture(scope="module")
def branch(stack: Settings) -> Settings:
    """Another environment of the same engines."""
    return stack.model_copy(update={"environment": "compared"})


@pytest.fixture(scope="module", params=list(ENGINES))
def made(request: pytest.FixtureRequest, stack: Settings, branch: Settings) -> Iterator[Made]:
    """A table with random rows in both, in which much is alike and something is not."""
    engine: Engine = request.param
    layer, chance = ENGINES[engine], random.Random(42)
    base = [row(chance) for _ in range(80)]
    changed = [one if chance.random() < 0.6 else [*one[:3], *row(chance)[3:]] for one in base if chance.random() < 0.9]
    for settings, types, values in zip(
        (stack, branch), types_of(engine), (base, changed + [row(chance)] * 2), strict=True
    ):
        name = settings.table(layer, "compared")
        where = str(name) if engine == "trino" else name.in_catalog
        schema = where.rpartition(".")[0]
        run(stack, engine, f"create {'schema' if engine == 'trino' else 'database'} if not exists {schema}")
        run(stack, engine, f"drop table if exists {where}")
        columns = ", ".join(f"{column} {kind}" for column, kind in zip(COLUMNS, types, strict=True))
        how = "" if engine == "trino" else " engine = MergeTree order by tuple()"
        run(stack, engine, f"create table {where} ({columns}){how}")
        text_said = settings is branch
        lines = ", ".join(f"({', '.join(literals(engine, one, text_said))})" for one in values)
        run(stack, engine, f"insert into {where} values {lines}")
    yield engine, layer, read(stack, engine, layer), read(branch, engine, layer)
    for settings in (stack, branch):
        name = settings.table(layer, "compared")
        run(stack, engine, f"drop table {name if engine == 'trino' else name.in_catalog}")
    own = branch.table(layer, "compared")
    run(
        stack, engine, f"drop schema {own.catalog}.{own.schema}" if engine == "trino" else f"drop database {own.schema}"
    )


def types_of(engine: Engine) -> Iterator[list[str]]:
    """Of the columns, in the base and in the branch."""
    for counted, said in zip(WIDENED[engine], RETYPED[engine], strict=True):
        if engine == "trino":
            yield ["date", "integer", "integer", "double", counted, "varchar", said, "array(varchar)"]
        else:
            text = "LowCardinality(Nullable(String))"
            yield ["Date", "Int32", "Nullable(Int32)", "Nullable(Float64)", counted, text, said, "Array(String)"]


def row(chance: random.Random) -> list[Any]:
    """So few keys that some stand there twice."""
    return [
        chance.choice(DAYS),
        chance.randint(1, 40),
        chance.choice([None, 1]),
        chance.choice(MEASURED),
        chance.choice([None, 1, 2]),
        chance.choice([None, "Ada", "Bob"]),
        chance.choice([None, 1, 2]),
        chance.choice([[], ["a"], ["a", "b"]]),
    ]


def literals(engine: Engine, values: Sequence[Any], text_said: bool) -> Iterator[str]:
    for column, value in zip(COLUMNS, values, strict=True):
        if value is None:
            yield "null"
        elif isinstance(value, float) and not math.isfinite(value):
            word = "nan" if math.isnan(value) else "infinity" if engine == "trino" else "inf"
            yield ("-" if value < 0 else "") + (f"{word}()" if engine == "trino" else word)
        elif isinstance(value, float):
            yield f"{value!r}e0" if engine == "trino" else repr(value)
        elif isinstance(value, list):
            listed = ", ".join(f"'{one}'" for one in value)
            yield (
                f"array[{listed}]" if engine == "trino" and value else "array[]" if engine == "trino" else f"[{listed}]"
            )
        elif isinstance(value, date):
            yield f"date '{value}'" if engine == "trino" else f"'{value}'"
        else:
            yield f"'{value}'" if isinstance(value, str) or (column == "said" and text_said) else str(value)


def run(settings: Settings, engine: Engine, statement: str) -> list[Sequence[Any]]:
    return list(rows(settings, engine, statement))


def read(settings: Settings, engine: Engine, layer: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    name = settings.table(layer, "compared")
    found = run(settings, engine, f"select * from {name if engine == 'trino' else name.in_catalog}")
    return [dict(zip(COLUMNS, one, strict=True)) for one in found]


def by_hand(base: list[dict[str, Any]], branch: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """The comparison, row by row."""
    sides = [keyed(base), keyed(branch)]
    keys = set(sides[0]) | set(sides[1])
    once = [key for key in keys if all(len(side.get(key, ())) == 1 for side in sides)]
    differing = {key: differences(sides[0][key][0], sides[1][key][0], tolerance) for key in once}
    columns = [column for found in differing.values() for column in found]
    return {
        "base": len(base),
        "branch": len(branch),
        "added": sum(key not in sides[0] for key in keys),
        "lost": sum(key not in sides[1] for key in keys),
        "repeated": sum(any(len(side.get(key, ())) > 1 for side in sides) for key in keys),
        "differ": sum(bool(found) for found in differing.values()),
        "columns": {column: columns.count(column) for column in set(columns)},
    }


def keyed(some: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in some:
        found.setdefault((one["day"], one["number"], -1 if one["part"] is None else one["part"]), []).append(one)
    return found


def differences(old: dict[str, Any], new: dict[str, Any], tolerance: float) -> list[str]:
    found: list[str] = []
    for column in COLUMNS[2:]:  # the part of a key is no key: an expression is
        one, other = old[column], new[column]
        if column == "said":
            one, other = (None if value is None else str(value) for value in (one, other))
        if isinstance(one, float) and isinstance(other, float):
            near = one == other or (math.isnan(one) and math.isnan(other))
            if math.isfinite(one) and math.isfinite(other):
                near = near or abs(one - other) <= tolerance * max(abs(one), abs(other))
            found += [] if near else [column]
        elif one != other:
            found.append(column)
    return found


def counts(found: Compared) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("base", "branch", "added", "lost", "repeated", "differ", "columns")}


@pytest.mark.parametrize("days", [(), (DAYS[0],), (DAYS[1], DAYS[2])], ids=["all", "a day", "two days"])
@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_an_engine_counts_as_a_person_would(
    made: Made, stack: Settings, branch: Settings, days: tuple[date, ...], tolerance: float
) -> None:
    _, layer, base, branch_rows = made
    (found,) = compare(branch, stack, [Table(f"{layer}/compared", KEYS, "day")], days, tolerance)
    both = [[one for one in some if not days or one["day"] in days] for some in (base, branch_rows)]
    assert counts(found) == by_hand(both[0], both[1], tolerance)
    assert found.differ, "the test would compare nothing"


def test_samples_name_rows_that_differ_and_keep_secrets(made: Made, stack: Settings, branch: Settings) -> None:
    _, layer, *_ = made
    table = Table(f"{layer}/compared", KEYS, "day", masked=frozenset({"secret", "number"}))
    (found,) = compare(branch, stack, [table], samples=100)
    assert len(found.samples) == found.differ
    assert len(found.added_keys) == found.added
    assert len(found.lost_keys) == found.lost
    assert sum("measured" in one.columns for one in found.samples) == found.columns["measured"]
    shown = [one.columns["secret"] for one in found.samples if "secret" in one.columns]
    assert len(shown) == found.columns["secret"]
    assert set(shown) == {(HIDDEN, HIDDEN)}
    assert {one.key["number"] for one in found.samples} == {HIDDEN}
    assert not any(name in repr(found) for name in ("Ada", "Bob"))
    for count in (1, 2, 5):
        (few,) = compare(branch, stack, [table], samples=count)
        assert list(few.samples) == list(found.samples[:count])
        assert list(few.lost_keys) == list(found.lost_keys[:count])


def test_a_table_held_against_itself_is_the_same(made: Made, stack: Settings) -> None:
    _, layer, *_ = made
    (found,) = compare(stack, stack, [Table(f"{layer}/compared", (*KEYS, "measured", "counted", "secret", "said"))])
    assert not (found.added or found.lost or found.differ)


def test_a_table_that_only_one_of_them_has_is_said_to_be_so(stack: Settings, branch: Settings) -> None:
    tables = [Table("gold/nowhere", ("a",)), Table("warehouse/nowhere", ("a",))]
    assert [one.note for one in compare(branch, stack, tables)] == ["it was not built in the branch"] * 2
