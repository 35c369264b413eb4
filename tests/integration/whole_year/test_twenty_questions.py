"""Spark, Trino and ClickHouse answer twenty questions about the year as pandas does on the data as published."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from foundation.settings import Settings
from orchestrator.cli.engines import Engine, rows
from tests.integration.whole_year.twenty_questions import QUESTIONS, TABLES, Question, Spelled
from tests.integration.whole_year.year_oracle import Rows

ENGINES: tuple[Engine, ...] = ("spark", "trino", "clickhouse")


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.name for question in QUESTIONS])
def test_three_engines_answer_as_the_published_data_do(gold_of_year: Settings, question: Question) -> None:
    with ThreadPoolExecutor() as pool:
        answers = {engine: pool.submit(asked, gold_of_year, engine, question) for engine in ENGINES}
        truth = question.truth()
        wrong = {engine: differences(answer.result(), truth)[:5] for engine, answer in answers.items()}
    assert truth
    assert not any(wrong.values()), wrong


def statement(settings: Settings, engine: Engine, question: Question) -> str:
    """The question in an engine's dialect, of this environment's tables."""
    column = ENGINES.index(engine)
    sql = question.sql[column] if isinstance(question.sql, Spelled) else question.sql
    for word, spelled in question.spelled.items():
        sql = sql.replace(f"{{{word}}}", spelled[column])
    for word, (in_lake, in_clickhouse) in TABLES.items():
        if engine == "clickhouse":
            sql = sql.replace(f"{{{word}}}", settings.table(*in_clickhouse).in_catalog)
        elif in_lake:
            sql = sql.replace(f"{{{word}}}", str(settings.table(*in_lake)))
    return sql


def asked(settings: Settings, engine: Engine, question: Question) -> Rows:
    """An engine's answer in the oracle's types: decimals as floats, moments in UTC."""
    answer = rows(settings, engine, statement(settings, engine, question))
    return [tuple(normal(engine, value) for value in row) for row in answer]


def normal(engine: Engine, value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        # without a zone, pyspark means this machine's time and ClickHouse's client UTC
        if value.tzinfo is None and engine == "clickhouse":
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)
    return value


def differences(answer: Rows, truth: Rows) -> list[str]:
    """What an answer has that is not so, missing rows first. Rows are told apart by the columns that are never floats."""
    keys = [column for column in range(len(truth[0])) if not any(isinstance(row[column], float) for row in truth)]

    def by_key(table: Rows) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        out = {tuple(row[column] for column in keys): row for row in table}
        assert len(out) == len(table), "rows with the same key"
        return out

    found, true = by_key(answer), by_key(truth)
    return [
        *(f"missing: {true[key]}" for key in true.keys() - found.keys()),
        *(f"too many: {found[key]}" for key in found.keys() - true.keys()),
        *(
            f"{found[key]} should be {true[key]}"
            for key in true.keys() & found.keys()
            if not all(map(same, found[key], true[key]))
        ),
    ]


def same(value: Any, truth: Any) -> bool:
    if isinstance(truth, float) and value is not None:
        return math.isclose(value, truth, rel_tol=1e-9, abs_tol=1e-9)
    return bool(value == truth)
