"""Column lineage: what each column of a model is made of, and what contracts declare of Silver's."""

import dagster as dg
import pytest

from foundation.contract import find_contract
from orchestrator.column_lineage import columns_made_of
from orchestrator.reporting import column_lineage

FACTS, PLANS = "lake.silver.flights", "lake.silver.schedule"
TABLES = {FACTS: ["flight", "dep_time", "arr_delay"], PLANS: ["flight", "planned_at"]}


def test_columns_are_followed_through_steps_and_joins() -> None:
    made_of = columns_made_of(
        """
        with facts as (select flight, dep_time is null as is_cancelled, arr_delay from lake.silver.flights),
        final as (
            select facts.flight, is_cancelled, plans.planned_at, arr_delay > 15 as is_delayed
            from facts left join lake.silver.schedule as plans on facts.flight = plans.flight
        )
        select * from final
        """,
        "trino",
        TABLES,
    )
    assert made_of == {
        "flight": {(FACTS, "flight")},
        "is_cancelled": {(FACTS, "dep_time")},
        "planned_at": {(PLANS, "planned_at")},
        "is_delayed": {(FACTS, "arr_delay")},
    }


def test_a_column_of_two_is_made_of_both_and_one_of_none_of_nothing() -> None:
    made_of = columns_made_of(
        "select coalesce(f.arr_delay, f.dep_time) as minutes, 1 as one from lake.silver.flights as f", "trino", TABLES
    )
    assert made_of == {"minutes": {(FACTS, "arr_delay"), (FACTS, "dep_time")}, "one": set()}


def test_a_pinned_snapshot_hides_no_table() -> None:
    made_of = columns_made_of("select arr_delay from lake.silver.flights for version as of 42", "trino", TABLES)
    assert made_of == {"arr_delay": {(FACTS, "arr_delay")}}


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("sum(arr_delay) over (partition by flight order by dep_time)", {"arr_delay", "flight", "dep_time"}),
        ("countIf(arr_delay > 15)", {"arr_delay"}),
        ("assumeNotNull(dep_time)", {"dep_time"}),
    ],
)
def test_clickhouse_functions_are_understood(expression: str, columns: set[str]) -> None:
    made_of = columns_made_of(
        f"select {expression} as x from lake.gold_flights", "clickhouse", {"lake.gold_flights": TABLES[FACTS]}
    )
    assert made_of == {"x": {("lake.gold_flights", column) for column in columns}}


def test_silver_is_made_of_bronze_and_of_what_the_contract_declares() -> None:
    found = column_lineage(find_contract("flights"), "silver")["dagster/column_lineage"].deps_by_column
    bronze, airports = dg.AssetKey(["bronze", "flights"]), dg.AssetKey(["silver", "airports"])
    assert found["arr_delay"] == [dg.TableColumnDep(bronze, "arr_delay")]
    assert found["dest_zone"] == [dg.TableColumnDep(bronze, "dest"), dg.TableColumnDep(airports, "tzone")]


def test_bronze_is_made_of_the_columns_of_the_file() -> None:
    found = column_lineage(find_contract("flights"), "bronze")["dagster/column_lineage"].deps_by_column
    assert found["arr_delay"] == [dg.TableColumnDep(dg.AssetKey(["landing", "flights"]), "arr_delay")]
    assert "dest_zone" not in found
