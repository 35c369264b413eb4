"""A feed that no file of the project knows: its contract is enough for Bronze, Silver and quarantine on the engines."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from foundation.contract import Contract, load_contract
from foundation.lake import open_catalog
from foundation.settings import Settings
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.unit.feeds import FEED, HEADER, document, put, written

pytestmark = pytest.mark.usefixtures("sensors_wait")
DAY = date(2013, 5, 1)
LINEAGE = {"dagster.run_id": "a-test"}


@pytest.fixture
def contract(stack: Settings, tmp_path: Path) -> Iterator[Contract]:
    """The unit tests' feed without its derived column, which would need a transform. Its tables are gone afterwards."""
    content = document()
    content["schema"][0]["properties"].pop()
    yield load_contract(written(tmp_path, content))
    for layer in ("bronze", "silver", "quarantine"):
        open_catalog(stack).drop_table(stack.table(layer, FEED).in_catalog)


def sent(settings: Settings, contract: Contract, *lines: str) -> dict[str, int]:
    """Lands a version of the day's file, makes the day, and returns the fates of its rows."""
    put(settings, "\n".join([HEADER, *lines, ""]).encode(), DAY)
    assert ingest(settings, contract, [DAY], LINEAGE).parts[DAY].error is None
    outcome = refine(settings, contract, [DAY], LINEAGE).parts[DAY]
    return dict(outcome.rows)


def seen(settings: Settings, layer: str, columns: str) -> list[list[object]]:
    """What a reader sees of the day, through another engine than wrote it."""
    day = "day" if layer == "silver" else "ds"
    statement = f"select {columns} from lake.{layer}.{FEED} where {day} = date '{DAY}' order by 1"
    return [list(row) for row in rows(settings, "trino", statement)]


def test_a_contract_alone_makes_the_tables_and_a_newer_version_takes_the_place_of_the_older(
    stack: Settings, contract: Contract
) -> None:
    good = [f"{DAY},good{number:02},{number}" for number in range(30)]
    assert sent(stack, contract, *good, f"{DAY},bad,many", good[0]) == {
        "accepted": 30,
        "quarantined": 1,
        "superseded": 0,
        "duplicate": 1,
    }
    assert seen(stack, "silver", "code, amount")[:2] == [["good00", 0], ["good01", 1]]
    assert ["bad", "many", ["not_int:amount"]] in seen(stack, "quarantine", "code, amount, reasons")

    assert sent(stack, contract, *good[:3])["superseded"] == 32
    assert seen(stack, "silver", "code, amount") == [["good00", 0], ["good01", 1], ["good02", 2]]
    assert seen(stack, "quarantine", "code") == []
