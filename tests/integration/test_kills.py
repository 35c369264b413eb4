"""A writer may end at any moment: readers see the old rows or the new ones, and doing it again ends where an undisturbed
run does. Each statement that changes something on Spark is a moment before and after which it ends here; kill -9 of whole
processes is for the end-to-end tests.
"""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql.connect.client.core import SparkConnectClient

import spark_assets.bronze
import spark_assets.publish
from foundation.contract import find_contract
from foundation.lake import load_table
from foundation.settings import Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.integration.airports import airports_in_silver  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("airports_in_silver")

FLIGHTS = find_contract("flights")
DAY = date(2013, 10, 1)
SHORT = 300
LINEAGE = {"dagster.run_id": "killed"}


class Killed(BaseException):
    """Nothing of ours catches it: what would have come next does not come."""


def sent(settings: Settings, lines: int | None, spoilt: int = 0) -> Path:
    """The vendor's file of the day, whole or its first lines, some of them with a broken carrier."""
    (file,) = vendor.land(settings, FLIGHTS, [DAY])
    header, *found = gzip.decompress(file.read_bytes()).decode().splitlines()
    chosen = [
        line.replace("2013-10-01,", "2013-10-01,?", 1) if n < spoilt else line for n, line in enumerate(found[:lines])
    ]
    file.write_bytes(gzip.compress("\n".join([header, *chosen]).encode() + b"\n", mtime=0))
    return file


def state(settings: Settings) -> list[tuple[Any, ...]]:
    """What readers of all three tables see of the day, as another engine reads it: rows and a sum over all their columns
    but the order of arrival, and the fates of Bronze's files."""
    found: list[tuple[Any, ...]] = []
    for layer, day in (("silver", "flight_date"), ("quarantine", "ds")):
        columns = [
            f.name for f in load_table(settings, layer, "flights").schema().fields if f.name != "source_sequence"
        ]
        listed = ", ".join(f'"{name}"' for name in columns)
        question = f"select count(*), checksum(row({listed})) from lake.{layer}.flights where {day} = date '{DAY}'"
        found += [tuple(row) for row in rows(settings, "trino", question)]
    return found


def done(settings: Settings) -> None:
    assert [part.error for part in ingest(settings, FLIGHTS, [DAY], LINEAGE).parts.values()] == [None]
    assert [part.error for part in refine(settings, FLIGHTS, [DAY], LINEAGE).parts.values()] == [None]


@contextmanager
def killed_at(moment: int, before: bool, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ends the work before or after the nth change; yields how many changes there were."""
    changes = [0]

    def wrapped(work: Callable[..., Any], changes_something: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if not changes_something(*arguments):
                return work(*arguments, **named)
            changes[0] += 1
            if changes[0] == moment and before:
                raise Killed
            result = work(*arguments, **named)
            if changes[0] == moment:
                raise Killed
            return result

        return call

    def writes(_client: object, command: Any, *_: object) -> bool:
        text = str(command)
        return command.HasField("write_operation_v2") or "alter table" in text or "fast_forward" in text

    with patch.context() as inner:
        inner.setattr(SparkConnectClient, "execute_command", wrapped(SparkConnectClient.execute_command, writes))
        for module, name in ((spark_assets.bronze, "mark_in_bronze"), (spark_assets.publish, "mark_judged")):
            inner.setattr(module, name, wrapped(getattr(module, name), lambda *_: True))
        yield changes


def test_a_writer_killed_at_any_change_leaves_the_old_or_the_new_day_and_doing_it_again_mends_it(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"whole": (None, 3), "short": (SHORT, 0)}
    undisturbed: dict[str, list[tuple[Any, ...]]] = {}
    for name, (lines, spoilt) in versions.items():
        sent(stack, lines, spoilt)
        done(stack)
        undisturbed[name] = state(stack)
    assert undisturbed["short"][0][0] == SHORT and undisturbed["whole"][1][0] == 3
    old = "short"
    with killed_at(0, True, monkeypatch) as changes:
        done(stack)
    # Bronze and its mark; quarantine, branch made, written, published and dropped, two marks
    assert changes[0] == 9
    for moment in range(1, changes[0] + 1):
        # before each change, and after the last: after one is before the next
        for before in [True] + [False] * (moment == changes[0]):
            new = "whole" if old == "short" else "short"
            sent(stack, *versions[new])
            with killed_at(moment, before, monkeypatch), pytest.raises(Killed):
                done(stack)
            silver, quarantine = state(stack)
            assert silver in (undisturbed[old][0], undisturbed[new][0]), (moment, before)
            assert quarantine in (undisturbed[old][1], undisturbed[new][1]), (moment, before)
            done(stack)
            assert state(stack) == undisturbed[new], (moment, before)
            assert set(load_table(stack, "silver", "flights").metadata.refs) == {"main"}
            old = new
