"""Rule 2 on any feed: contracts and files at random, and each row's fate, reasons and values as an oracle has them.

The oracle shares no code with the platform; see fates_oracle.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from foundation.contract import Contract
from intake.archive import ACCEPTED as READABLE
from intake.archive import archive_arrivals
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.integration import fates_oracle as oracle
from tests.integration.fates_oracle import Judged, Place, Received, Rules
from tests.integration.own_feeds import LINEAGE, OwnFeeds, column, table_rows
from tests.integration.random_feeds import DAYS, Layout, Line, any_columns, any_layout, any_line, as_bytes

pytestmark = pytest.mark.usefixtures("sensors_wait")

SHAPES = [(form, load) for form in ("csv", "json", "parquet") for load in ("append_daily", "full")]
SUFFIXES = {"csv": (".csv", ".csv.gz"), "json": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",)}
FATES = (oracle.ACCEPTED, oracle.QUARANTINED, oracle.SUPERSEDED, oracle.DUPLICATE)


@dataclass
class Sent:
    """What landed: the rows as they read, and the columns of each of which the exact text was sent."""

    rows: dict[Place, Received] = field(default_factory=dict)
    exact: dict[Place, set[str]] = field(default_factory=dict)


@pytest.mark.parametrize(("form", "load"), SHAPES)
@settings(
    max_examples=1,
    derandomize=True,
    deadline=None,
    database=None,
    # Spark takes seconds for an example: a smaller one is not looked for, the message names the row.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_row_of_any_feed_has_the_fate_reasons_and_values_that_the_rules_give_it(
    feeds: OwnFeeds, form: str, load: str, seed: int
) -> None:
    random = Random(f"{form} {load} {seed}")
    columns = any_columns(random, load)
    feed = feeds.name(f"hyp_{form}")
    contract = feeds.contract(feed, [declared(random, one) for one in columns], form=form, load=load)
    days: Sequence[date | None] = DAYS if load == "append_daily" else [None]
    sent = land_versions(feeds, random, contract, columns, days)
    expected = oracle.judge(sent.rows.values(), columns, "day" if load == "append_daily" else None)

    chosen = list(DAYS) if load == "append_daily" else None
    ingested = ingest(feeds.settings, contract, chosen, LINEAGE)
    outcome = refine(feeds.settings, contract, chosen, LINEAGE)

    assert [part.error for part in [*ingested.parts.values(), *outcome.parts.values()] if part.error] == []
    check_bronze(table_rows(feeds.settings, "bronze", feed), sent)
    check_quarantine(table_rows(feeds.settings, "quarantine", feed), expected)
    check_silver(table_rows(feeds.settings, "silver", feed), expected, columns)
    for day in days:
        of_day = [one for one in expected.values() if one.row.day == day]
        assert outcome.parts[day].rows == {fate: sum(one.fate == fate for one in of_day) for fate in FATES}
        reasons = Counter(reason for one in of_day if one.fate == oracle.QUARANTINED for reason in one.reasons)
        assert outcome.parts[day].reasons == reasons
    assert all(sum(one.fate == fate for one in expected.values()) for fate in FATES), "the example shows every fate"


def declared(random: Random, rules: Rules) -> dict[str, Any]:
    """Rules as a contract writes them."""
    options = {
        "minimum": rules.minimum,
        "maximum": rules.maximum,
        "pattern": rules.pattern,
        "defaultTimezone": rules.zone,
    }
    more: dict[str, Any] = {"primaryKey": True} if rules.key else {"required": rules.required}
    if rules.name == "day":
        more["partitioned"] = True
    if rules.allowed:
        more["enum"] = [{"value": value} for value in rules.allowed]
    if random.random() < 0.3:
        more["classification"] = random.choice(["restricted", "public", "pii"])
    return column(
        rules.name, rules.kind, options={name: one for name, one in options.items() if one is not None}, **more
    )


Version = tuple[bytes, Sequence[Line], Layout]


def land_versions(
    feeds: OwnFeeds, random: Random, contract: Contract, columns: Sequence[Rules], days: Sequence[date | None]
) -> Sent:
    """Several files a day, then other versions of some, then one that is again what it was."""
    names = [f"{kind}{random.choice(SUFFIXES[contract.format])}" for kind in ("one", "two, with a space", "three")]
    landed = [(day, name) for day in days for name in names]
    first: dict[tuple[date | None, str], Version] = {}
    sent = Sent()
    for step in (landed, [landed[0], landed[-1]], [landed[-1]]):
        there: dict[str, Version] = {}
        for day, name in step:
            version = any_version(random, columns, day, contract.format)
            if step == [landed[-1]]:
                version = first[day, name]
            first.setdefault((day, name), version)
            there[feeds.put(contract.feed, name, version[0], day)] = version
        arrived = archive_arrivals(feeds.settings, contract)
        assert {one.path for one in arrived} == set(there)
        for one in arrived:
            assert (one.state, one.reason) == (READABLE, None), one.path
            day = one.day if contract.days else None
            for number, line in enumerate(there[one.path][1], start=1):
                place = (one.path, one.sequence, number)
                sent.rows[place] = Received(place, day, line.reads_as(there[one.path][2]), bool(line.spoiled))
                sent.exact[place] = {name for name, cell in line.cells.items() if cell.is_exact}
    return sent


def any_version(random: Random, columns: Sequence[Rules], day: date | None, form: str) -> Version:
    lines = [any_line(random, columns, day, form) for _ in range(random.randint(30, 60))]
    # a file that begins with an array is refused as a whole: see test_bad_input
    lines[0] = replace(lines[0], spoiled="")
    layout = any_layout(random, columns, form)
    return as_bytes(random, columns, layout, lines), lines, layout


def check_bronze(rows: Mapping[Place, Mapping[str, Any]], sent: Sent) -> None:
    """Every row of every version, as text."""
    assert set(rows) == set(sent.rows)
    for place, row in rows.items():
        received = sent.rows[place]
        assert row["ds"] == received.day or received.day is None
        assert (row["corrupt_record"] is not None) == received.malformed, place
        for name in sent.exact[place]:
            assert row[name] == received.texts[name], (place, name)


def check_quarantine(rows: Mapping[Place, Mapping[str, Any]], expected: Mapping[Place, Judged]) -> None:
    kept = {place: one for place, one in expected.items() if one.fate in (oracle.QUARANTINED, oracle.DUPLICATE)}
    differing = {
        place: (rows[place]["fate"], sorted(rows[place]["reasons"]), one.fate, sorted(one.reasons), one.row.texts)
        for place, one in kept.items()
        if place in rows and (rows[place]["fate"], sorted(rows[place]["reasons"])) != (one.fate, sorted(one.reasons))
    }
    assert not differing, f"{len(differing)} rows, of which the first: {next(iter(differing.items()))}"
    missing = {place: kept[place] for place in kept.keys() - rows.keys()}
    assert not missing, f"{len(missing)} rows should be here, of which the first: {next(iter(missing.values()))}"
    assert rows.keys() == kept.keys()


def check_silver(
    rows: Mapping[Place, Mapping[str, Any]], expected: Mapping[Place, Judged], columns: Sequence[Rules]
) -> None:
    accepted = {place: one for place, one in expected.items() if one.fate == oracle.ACCEPTED}
    assert rows.keys() == accepted.keys()
    for place, row in rows.items():
        for one in columns:
            want = accepted[place].typed[one.name]
            assert same(row[one.name], want), (place, one, row[one.name], want)


def same(got: Any, want: Any) -> bool:
    """Equal and of one type; JSON that was kept as text may be written another way."""
    if isinstance(want, str) and want[0:1] in "[{" and want != got:
        return json.loads(got, parse_float=Decimal) == json.loads(want, parse_float=Decimal)
    return got == want and type(got) is type(want)
