"""A contract changes: its tables follow without losing a row, or it is refused and they stay as they were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from foundation.errors import AssayError
from foundation.lake import load_table
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import SilverWrite, refine
from tests.integration.own_feeds import LAYERS, LINEAGE, OwnFeeds, column, day_column, table_rows, values

pytestmark = pytest.mark.usefixtures("sensors_wait")

OLD, NEW = date(2013, 1, 1), date(2013, 1, 2)
BEFORE = {
    "day": day_column(),
    "code": column("code", "string", primaryKey=True, description="What it is called."),
    "amount": column("amount", "int", required=True),
    "price": column("price", "decimal(6,2)"),
}
SINCE = [{"property": "since", "value": str(NEW)}]
AFTER = BEFORE | {
    "code": column("code", "string", primaryKey=True, description='It\'s "called" so; \\ and 100% ünï.'),
    "amount": column("amount", "bigint", required=True),
    "price": column("price", "decimal(10, 2)"),
    "city": column("city", "string", required=True, customProperties=SINCE),
}


@dataclass
class Feed:
    """A feed whose contract changes."""

    feeds: OwnFeeds
    name: str

    def ingested(self, columns: Mapping[str, Mapping[str, Any]], *days: date) -> list[AssayError | None]:
        contract = self.feeds.contract(self.name, list(columns.values()))
        return [part.error for part in ingest(self.feeds.settings, contract, days, LINEAGE).parts.values()]

    def refined(self, columns: Mapping[str, Mapping[str, Any]], *days: date) -> SilverWrite:
        contract = self.feeds.contract(self.name, list(columns.values()))
        return refine(self.feeds.settings, contract, days, LINEAGE)

    def seen(self, layer: str, *names: str) -> list[tuple[Any, ...]]:
        return sorted(values(table_rows(self.feeds.settings, layer, self.name), *names), key=repr)

    def kinds(self, layer: str) -> dict[str, str]:
        schema = load_table(self.feeds.settings, layer, self.name).schema()
        return {one.name: str(one.field_type) for one in schema.fields}

    def state(self) -> list[str]:
        """What any change of a table would change."""
        return [load_table(self.feeds.settings, layer, self.name).metadata_location for layer in LAYERS]

    def put(self, day: date, name: str, *lines: str) -> str:
        return self.feeds.put(self.name, name, "".join(f"{line}\n" for line in lines).encode(), day)


@pytest.fixture(scope="module")
def grown(feeds: OwnFeeds) -> Feed:
    """A feed with a day of its first contract, then one of its second."""
    feed = Feed(feeds, feeds.name("evolving"))
    feed.put(OLD, "old.csv", "day,code,amount,price", "2013-01-01,a,1,1.50", "2013-01-01,b,many,2.50")
    assert feed.ingested(BEFORE, OLD) == [None]
    assert feed.refined(BEFORE, OLD).parts[OLD].error is None
    feed.put(
        NEW, "new.csv", "city,day,code,amount,price", "Rome,2013-01-02,a,3000000000,12345678.90", ",2013-01-02,c,1,"
    )
    assert feed.ingested(AFTER, NEW) == [None]
    assert feed.refined(AFTER, NEW).parts[NEW].error is None
    return feed


def test_old_rows_are_null_in_a_column_that_came_later_and_fit_wider_types(grown: Feed) -> None:
    assert grown.seen("silver", "code", "amount", "price", "city") == [
        ("a", 1, Decimal("1.50"), None),
        ("a", 3_000_000_000, Decimal("12345678.90"), "Rome"),
    ]
    assert grown.seen("bronze", "code", "amount", "city") == [
        ("a", "1", None),
        ("a", "3000000000", "Rome"),
        ("b", "many", None),
        ("c", "1", None),
    ]
    assert grown.seen("quarantine", "code", "city", "reasons") == [
        ("b", None, ["not_int:amount"]),
        ("c", None, ["missing:city"]),
    ]
    assert {name: kind for name, kind in grown.kinds("silver").items() if name in AFTER} == {
        "day": "date",
        "code": "string",
        "amount": "long",
        "price": "decimal(10, 2)",
        "city": "string",
    }


def test_trino_reads_what_was_written_before_a_column_came(grown: Feed) -> None:
    statement = f"select code, amount, price, city from lake.silver.{grown.name} order by amount"
    assert [tuple(row) for row in rows(grown.feeds.settings, "trino", statement)] == [
        ("a", 1, Decimal("1.50"), None),
        ("a", 3_000_000_000, Decimal("12345678.90"), "Rome"),
    ]
    for layer in ("bronze", "quarantine"):
        [[without]] = rows(
            grown.feeds.settings, "trino", f"select count(*) from lake.{layer}.{grown.name} where city is null"
        )
        assert without == {"bronze": 3, "quarantine": 2}[layer]


def test_a_description_reaches_the_tables(grown: Feed) -> None:
    for layer in LAYERS:
        schema = load_table(grown.feeds.settings, layer, grown.name).schema()
        assert schema.find_field("code").doc == AFTER["code"]["description"]


def test_the_same_contract_again_leaves_the_tables_columns_alone(grown: Feed) -> None:
    before = {layer: load_table(grown.feeds.settings, layer, grown.name).metadata.schemas for layer in LAYERS}
    grown.ingested(AFTER, NEW)
    grown.refined(AFTER, NEW)
    assert {layer: load_table(grown.feeds.settings, layer, grown.name).metadata.schemas for layer in LAYERS} == before


def test_an_old_day_is_made_again_though_its_file_lacks_the_column(grown: Feed) -> None:
    before = [grown.seen(layer, "day", "code", "amount", "city") for layer in ("silver", "bronze")]
    assert grown.ingested(AFTER, OLD) == [None]
    outcome = grown.refined(AFTER, OLD).parts[OLD]
    assert outcome.error is None and outcome.rows == {"accepted": 1, "quarantined": 1, "superseded": 0, "duplicate": 0}
    assert [grown.seen(layer, "day", "code", "amount", "city") for layer in ("silver", "bronze")] == before
    assert ("b", ["not_bigint:amount"]) in grown.seen("quarantine", "code", "reasons"), "judged by the rules of today"


def test_a_file_may_lack_the_column_before_it_came_and_not_after(grown: Feed) -> None:
    grown.put(OLD, "late.csv", "day,code,amount,price", "2013-01-01,z,1,")
    late = grown.put(NEW, "late.csv", "day,code,amount,price", "2013-01-02,z,1,")
    good, bad = grown.ingested(AFTER, OLD, NEW)
    assert good is None
    assert bad is not None and f"landing/{late} was rejected: header lacks city" in bad.what
    (grown.feeds.settings.landing / late).unlink()
    grown.refined(AFTER, OLD, NEW)
    assert ("z", 1, None) in grown.seen("silver", "code", "amount", "city")


def changed(**kinds: str) -> dict[str, dict[str, Any]]:
    return AFTER | {name: AFTER[name] | {"physicalType": kind} for name, kind in kinds.items()}


REFUSED: Sequence[tuple[str, Mapping[str, Mapping[str, Any]], str]] = [
    ("narrower", changed(amount="int"), "amount as bigint"),
    ("fewer digits", changed(price="decimal(9,2)"), "price as decimal(10,2)"),
    ("another scale", changed(price="decimal(12,3)"), "price as decimal(10,2)"),
    ("another type", changed(city="int"), "city as string"),
    # Nothing of a contract that is refused is done, whatever comes first in it.
    ("gained and narrower", {"more": column("more", "string"), **changed(amount="int")}, "amount as bigint"),
]


@pytest.mark.parametrize(("columns", "named"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_type_that_not_every_row_fits_is_refused_and_silver_stays(
    grown: Feed, columns: Mapping[str, Mapping[str, Any]], named: str
) -> None:
    before, content = grown.state(), grown.seen("silver", "code", "amount")
    with pytest.raises(AssayError) as refused:
        grown.refined(columns, NEW)
    assert f"lake.silver.{grown.name} has {named}" in refused.value.what
    assert "write physicalType: " in refused.value.next_action
    assert grown.state() == before and grown.seen("silver", "code", "amount") == content


def test_losing_a_column_is_refused_by_name_and_every_table_stays(grown: Feed) -> None:
    before = grown.state()
    without = {name: one for name, one in AFTER.items() if name != "price"}
    with pytest.raises(AssayError) as of_bronze:
        grown.ingested(without, NEW)
    with pytest.raises(AssayError) as of_silver:
        grown.refined(without, NEW)
    for layer, refused in (("bronze", of_bronze), ("silver", of_silver)):
        assert f"lake.{layer}.{grown.name} has price" in refused.value.what
        assert "put it back into the contract" in refused.value.next_action
    assert grown.state() == before
    assert grown.ingested(AFTER, NEW) == [None]
