"""One statement on one engine, answered as text rows.

Belongs here: sending a person's statement and shaping the answer or the engine's error for the terminal. Does not belong
here: statements of ours, but for counting a table and for its last rows.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from foundation.errors import AssayError
from foundation.settings import Settings

Engine = Literal["trino", "clickhouse", "spark"]


def rows(settings: Settings, engine: Engine, statement: str) -> Iterator[Sequence[Any]]:
    """The rows of a statement's answer.

    Raises:
        AssayError: the engine refused it; the message is the engine's first line.
    """
    yield from {"trino": _trino, "clickhouse": _clickhouse, "spark": _spark}[engine](
        settings, statement.rstrip().rstrip(";")
    )


@dataclass(frozen=True)
class Answer:
    """What ClickHouse answered: column names, rows, and the seconds from asking to the last row, the login not counted."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    seconds: float


def ask_warehouse(settings: Settings, statement: str) -> Answer:
    """A statement's whole answer from ClickHouse, with its time.

    Raises:
        AssayError: the engine refused it; the message is the engine's first line.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    # It would say in a second line, and to a person who needs the first, that nobody listens.
    logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)
    host, port = settings.clickhouse_address
    try:
        with clickhouse_connect.get_client(
            host=host, port=port, username=settings.clickhouse_user, password=settings.clickhouse_password
        ) as client:
            began = time.perf_counter()
            answer = client.query(statement)
            return Answer(tuple(answer.column_names), answer.result_rows, time.perf_counter() - began)
    except (ClickHouseError, OSError) as error:
        raise _refused("ClickHouse", error, "clickhouse") from None


def as_lines(answer: Iterable[Sequence[Any]]) -> Iterator[str]:
    """One line a row, values separated by tabs, gaps empty; line breaks and tabs within a value are escaped."""
    for row in answer:
        yield "\t".join(_text(value) for value in row)


def count(settings: Settings, layer: str, table: str) -> int:
    """The rows of a table: ClickHouse's for the warehouse, Trino's for everything in the lake."""
    name = settings.table(layer, table)
    if layer == "warehouse":
        return int(next(rows(settings, "clickhouse", f"select count() from {name.in_catalog}"))[0])
    return int(next(rows(settings, "trino", f"select count(*) from {name}"))[0])


def newest_rows(settings: Settings, table: str, columns: Sequence[str], newest_by: str | None, limit: int) -> Answer:
    """Some rows of a table of the warehouse.

    Args:
        newest_by: the column by which a row is newer; None if none is.

    Raises:
        AssayError: as of `ask_warehouse`.
    """
    name = settings.table("warehouse", table).in_catalog
    listed = ", ".join(f"`{column}`" for column in columns)
    # By all columns after that, so that the same table gives the same rows.
    by = f" order by `{newest_by}` desc, {listed}" if newest_by else ""
    return ask_warehouse(settings, f"select {listed} from {name}{by} limit {limit}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _trino(settings: Settings, statement: str) -> Iterator[Sequence[Any]]:
    from trino.dbapi import connect
    from trino.exceptions import Error

    if settings.base:
        from spark_assets.clone import keep_files_of_base

        keep_files_of_base(settings)
    host, port = settings.trino_address
    try:
        with connect(host=host, port=port, user=settings.trino_user, catalog=settings.catalog) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            while batch := cursor.fetchmany(1000):
                yield from batch
    except (Error, OSError) as error:
        raise _refused("Trino", error, "trino") from None


def _clickhouse(settings: Settings, statement: str) -> Iterator[Sequence[Any]]:
    yield from ask_warehouse(settings, statement).rows


def _spark(settings: Settings, statement: str) -> Iterator[Sequence[Any]]:
    from pyspark.errors import AnalysisException, ParseException

    from spark_assets.session import connect

    with connect(settings) as spark:
        try:
            for row in spark.sql(statement).toLocalIterator():
                yield tuple(row)
        except (AnalysisException, ParseException) as error:
            raise _refused("Spark", error, "spark") from None


# What the clients' libraries say when nobody listens.
AWAY = ("Connection refused", "Max retries exceeded", "Connection reset", "UNAVAILABLE")


def _refused(engine: str, error: Exception, service: str) -> AssayError:
    if any(sign in str(error) for sign in AWAY):
        return AssayError(f"{engine} does not answer", f"run ./assay up; ./assay logs {service} says why it went away")
    message = getattr(error, "message", None) or str(error)
    first = next((line.strip() for line in str(message).splitlines() if line.strip()), type(error).__name__)
    return AssayError(
        f"{engine}: {first[:600]}",
        "correct the statement",
    )
