"""Column lineage: what each column of a model is made of, what it reads besides, and what contracts declare of Silver's."""

import dagster as dg
import pytest

from foundation.contract import find_contract
from foundation.errors import AssayError
from orchestrator.column_lineage import Reads, columns_made_of, reads_of
from orchestrator.lineage import columns_of
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


READS = {"s.t": ["a", "b", "c", "d"], "s.u": ["a", "x", "y"]}


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select a from s.t where b > 1", {"t.b"}),
        ("select t.a from s.t as t inner join s.u as u on t.b = u.x", {"t.b", "u.x"}),
        ("select a, count(*) as n from s.t group by a having max(b) > 1 order by min(c)", {"t.a", "t.b", "t.c"}),
        ("select a from s.t where b in (select x from s.u where y = 1)", {"t.b", "u.x", "u.y"}),
        ("select a, x from s.t, s.u where x not in (select x from s.u)", {"u.x"}),
        ("select a, (select max(x) from s.u where y = t.b) as most from s.t", {"t.b", "u.y"}),
        ("select a from s.t where exists (select 1 from s.u where u.x = t.d)", {"t.d", "u.x"}),
        ("select a, sum(b) over w as x from s.t window w as (partition by c order by d)", {"t.c", "t.d"}),
        ("with f as (select a, b + c as e from s.t) select a from f where e > 1", {"t.b", "t.c"}),
        ("with f as (select * from s.t) select a from f where b > 1", {"t.b"}),
        ("with f as (select a, b from s.t) select a from f", {"t.b"}),  # read for nothing, and yet it must be there
        ("with f as (select * from s.t) select a from f", set()),
        ("select a, case when b > 1 then c end as x from s.t", set()),
        ("select a from s.t where b > 1 union all select a from s.u where y > 1", {"t.b", "u.y"}),
    ],
)
def test_what_only_chooses_rows_is_read_too(sql: str, rows: set[str]) -> None:
    found = reads_of(sql, "trino", READS).rows
    assert {f"{table.removeprefix('s.')}.{column}" for table, column in found} == rows


def test_a_condition_within_a_column_is_part_of_it() -> None:
    found = reads_of("select case when b > 1 then c end as x from s.t", "trino", READS)
    assert found.columns == {"x": {("s.t", "b"), ("s.t", "c")}}


def test_only_a_column_that_counts_rows_is_made_of_them() -> None:
    counted = (
        "select 1 as one, count(*) as n, row_number() over (order by 1) as place, sum(b) as total from s.t group by a"
    )
    assert reads_of(counted, "trino", READS).counts == {"n", "place"}
    assert reads_of("select toUInt32(count()) as n, now() as made_at from s.t", "clickhouse", READS).counts == {"n"}


def test_what_was_read_is_the_same_from_json() -> None:
    found = reads_of("select a, count(*) as n from s.t where b > 1 group by a", "trino", READS)
    assert Reads.of_json(found.as_json()) == found


def test_sql_that_cannot_be_read_is_said() -> None:
    with pytest.raises(AssayError, match="sqlglot cannot read"):
        reads_of("select from where", "trino", READS)


def test_silver_is_made_of_bronze_and_of_what_the_contract_declares() -> None:
    found = column_lineage(columns_of(find_contract("flights"), "silver"))["dagster/column_lineage"].deps_by_column
    bronze, airports = dg.AssetKey(["bronze", "flights"]), dg.AssetKey(["silver", "airports"])
    assert found["arr_delay"] == [dg.TableColumnDep(bronze, "arr_delay")]
    assert found["dest_zone"] == [dg.TableColumnDep(bronze, "dest"), dg.TableColumnDep(airports, "tzone")]


def test_bronze_is_made_of_the_columns_of_the_file() -> None:
    found = column_lineage(columns_of(find_contract("flights"), "bronze"))["dagster/column_lineage"].deps_by_column
    assert found["arr_delay"] == [dg.TableColumnDep(dg.AssetKey(["landing", "flights"]), "arr_delay")]
    assert "dest_zone" not in found
    assert found["source_file"] == []
