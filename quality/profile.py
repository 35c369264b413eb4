"""A table's profile: one row a day, with what can be said of a day by looking at all its rows, and at the days before it.

Belongs here: reading the rows of one state of a table, and counting. Does not belong here: what is good or bad (suites).

| column | of a day |
|---|---|
| `rows`, `rows_ratio` | rows; the same by the median of the same weekday in the four weeks before |
| `null_share_<c>`, `null_rise_<c>` | share of nulls; how far it is above what 9 of 10 of the 28 days before had |
| `mean_<c>`, `p10_<c>`, `p50_<c>`, `p90_<c>` | of numbers (of booleans the mean, which is the share of true) |
| `shift_<c>` | how far the four are outside of the middle 8 of 10 days before, in widths of that band |
| `distance_<c>` | of texts: Jensen-Shannon divergence from the 28 days before, in bits, 0 to 1 |
| `match_<c>`, `match_drop_<c>` | share of values found in the other feed; how far below what 9 of 10 days before had |

Bands, not means: one bad day of 28 does not move them. What compares with the days before is null, which is not judged, if
fewer than 14 of the 28 have rows. A full feed has no days: its table as it was published before stands for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from foundation.contract import Reference
from foundation.errors import AssayError
from foundation.expectation import Expectation
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyiceberg.table import Table

DAY = "day"
# Names within: of the part, and of the day that a whole table's state is given.
PART, LABEL = "_part", "_state"
BAND = {"low": 0.04, "high": 0.96}
HISTORY_DAYS, LEAST_DAYS, WEEK = 28, 14, 7
# Of more values than these a sample of a day says nothing of their shares.
MOST_VALUES = 200
# A whole table's two states, under days that are the same weekday.
BEFORE, NOW = date(2000, 1, 1), date(2000, 1, 8)
STATISTICS = ("mean", "p10", "p50", "p90")
SHIFTING = ("mean", "p50")
# A band of days that hardly differ is as wide as this share of what lies between p10 and p90 of a usual day.
LEAST_WIDTH = 0.1


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Args:
        part: the column of the day (or the first of the month) of a row; None if the table has none.
        grain: what a part is. Months and what has no history are judged by hand-written expectations alone.
        required: columns in which nulls are refused elsewhere.
        compared: columns whose values are compared with those of the days before.
        sensitive: columns of which no value may be shown: no mean, no sample.
        generated: whether it is compared with its history.
        feeds: daily feeds without which a day has no rows: it is judged if all of them have such a day.
        declared_in: the file in which a person changes what is expected.
    """

    layer: str
    table: str
    part: str | None
    grain: Literal["day", "month", "whole"]
    required: frozenset[str] = frozenset()
    compared: frozenset[str] = frozenset()
    sensitive: frozenset[str] = frozenset()
    references: tuple[Reference, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    generated: bool = True
    feeds: tuple[str, ...] = ()
    declared_in: str = ""

    @property
    def name(self) -> str:
        return f"{self.layer}/{self.table}"


@dataclass(frozen=True)
class Rows:
    """The rows of some parts and of their history, from one state of a table; `snapshot_id` is None if it keeps none."""

    table: "pa.Table"
    snapshot_id: int | None


def match_name(reference: Reference) -> str:
    """The name of a reference in the profile: its column, or of several the other feed."""
    return reference.columns[0] if len(reference.columns) == 1 else reference.feed


def lake_rows(settings: Settings, subject: Subject, parts: Sequence[date | None], snapshot_id: int | None) -> Rows:
    """The rows of some parts, and of the 28 days before each, as a snapshot has them.

    Args:
        parts: days or months; [None] of a table without.
        snapshot_id: None for the newest. It may be a branch's.

    Raises:
        AssayError: there is no such table.
    """
    import pyarrow as pa

    table = load_table(settings, subject.layer, subject.table)
    chosen = current_snapshot_id(table) if snapshot_id is None else snapshot_id
    if subject.part is not None:
        first, last = _range(subject, parts)
        return Rows(_scan(table, f"{subject.part} >= '{first}' and {subject.part} <= '{last}'", chosen), chosen)
    before = _published_before(table, chosen)
    states = [(NOW, chosen), *([(BEFORE, before)] if before is not None else [])]
    labelled = [_labelled(_scan(table, "true", one), label) for label, one in states]
    return Rows(pa.concat_tables(labelled, promote_options="permissive"), chosen)


def warehouse_rows(settings: Settings, subject: Subject, parts: Sequence[date | None]) -> Rows:
    """The rows of some parts of a table of the warehouse, as it is: ClickHouse keeps no states.

    Raises:
        AssayError: it does not answer.
    """
    import clickhouse_connect
    import pyarrow as pa
    from clickhouse_connect.driver.exceptions import ClickHouseError

    days = [day for day in parts if day is not None]
    chosen = f" where {subject.part} between '{min(days)}' and '{max(days)}'" if days else ""
    host, port = settings.clickhouse_address
    try:
        with clickhouse_connect.get_client(
            host=host, port=port, username=settings.clickhouse_user, password=settings.clickhouse_password
        ) as client:
            found = client.query(f"select * from {settings.table(subject.layer, subject.table).in_catalog}{chosen}")
    except (ClickHouseError, OSError) as error:
        raise AssayError(
            f"ClickHouse did not give {subject.name}: {error}", "run ./assay status, then this again"
        ) from error
    columns = found.result_columns or [[] for _ in found.column_names]
    table = pa.table({name: list(values) for name, values in zip(found.column_names, columns, strict=True)})
    return Rows(table if subject.part else _labelled(table, NOW), None)


def reference_rows(settings: Settings, subject: Subject, parts: Sequence[date | None]) -> dict[Reference, Rows]:
    """The values of each reference whose feed has a table, as its readers see it: of the same days where a day is part of
    it. A feed that never came is left out."""
    found: dict[Reference, Rows] = {}
    for one in subject.references:
        try:
            table = load_table(settings, "silver", one.feed)
        except AssayError:
            continue
        chosen = "true"
        if (day := _day_of(one, subject)) is not None:
            first, last = _range(subject, parts)
            chosen = f"{day} >= '{first}' and {day} <= '{last}'"
        found[one] = Rows(table.scan(row_filter=chosen, selected_fields=one.to).to_arrow(), current_snapshot_id(table))
    return found


def profile(
    rows: "pa.Table",
    subject: Subject,
    parts: Sequence[date | None],
    references: "Mapping[Reference, pa.Table] | None" = None,
) -> "pd.DataFrame":
    """One row a part, in order, with the columns of the table above and `day`, as text.

    Args:
        rows: those of the parts and of their history.
        references: what there is in the feeds that the subject names.
    """
    import duckdb
    import pyarrow as pa

    schema = rows.schema
    column = subject.part or LABEL
    names = [name for name in schema.names if name != column]
    optional = [name for name in names if name not in subject.required]
    numbers = [name for name in names if _is_number(schema.field(name).type)]
    flags = [name for name in names if pa.types.is_boolean(schema.field(name).type)]
    shifting = [name for name in numbers if name in subject.compared]
    texts = [
        name for name in names if name in subject.compared and (_is_text(schema.field(name).type) or name in flags)
    ]
    matches = {match_name(reference): reference for reference in references or {}}
    asked = [NOW if part is None else part for part in parts]
    least = {"day": LEAST_DAYS, "whole": 1, "month": HISTORY_DAYS + 1}[subject.grain]

    def compared(expression: str, name: str) -> str:
        return f"case when history >= {least} then {expression} end as {_q(name)}"

    told = ["coalesce(rows, 0) as rows", compared("coalesce(rows, 0) / nullif(rows_usual, 0)", "rows_ratio")]
    for name in optional:
        told += [_q(f"null_share_{name}")]
        told += [compared(f"{_q(f'null_share_{name}')} - {_q(f'high_null_share_{name}')}", f"null_rise_{name}")]
    told += [_q(f"{kind}_{name}") for name in numbers if name not in subject.sensitive for kind in STATISTICS]
    told += [_q(f"mean_{name}") for name in flags if name not in subject.sensitive]
    told += [
        compared(f"greatest({', '.join(_outside(name, kind) for kind in SHIFTING)})", f"shift_{name}")
        for name in shifting
    ]
    told += [compared(_q(f"distance_{name}"), f"distance_{name}") for name in texts]
    for name in matches:
        told += [
            _q(f"match_{name}"),
            compared(f"{_q(f'low_match_{name}')} - {_q(f'match_{name}')}", f"match_drop_{name}"),
        ]

    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("given", rows)
        connection.register("wanted", pa.table({PART: pa.array(asked, pa.date32())}))
        for number, reference in enumerate(matches.values()):
            connection.register(f"there_{number}", (references or {})[reference])
        connection.execute(
            f"create temp view every as select cast({_q(column)} as date) as {PART}, * exclude ({_q(column)}) from given"
        )
        connection.execute(f"create temp table days as {_days(subject, optional, numbers, flags, matches)}")
        connection.execute(f"create temp table history as {_history(optional, shifting, matches)}")
        joins = "".join(f" left join ({_distance(name)}) using ({PART})" for name in texts)
        return connection.sql(
            f"select cast({PART} as varchar) as {DAY}, history, {', '.join(told)} from wanted "
            f"left join days using ({PART}) left join history using ({PART}){joins} order by 1"
        ).df()


def _days(
    subject: Subject,
    optional: Sequence[str],
    numbers: Sequence[str],
    flags: Sequence[str],
    matches: Mapping[str, Reference],
) -> str:
    """What is counted of each day by itself."""
    counted = ["count(*) as rows"]
    counted += [f"avg(cast({_q(name)} is null as int)) as {_q(f'null_share_{name}')}" for name in optional]
    for name in numbers:
        value = f"cast({_q(name)} as double)"
        counted += [f"avg({value}) as {_q(f'mean_{name}')}"]
        counted += [f"quantile_cont({value}, 0.{kind[1]}) as {_q(f'{kind}_{name}')}" for kind in STATISTICS[1:]]
    counted += [f"avg(cast({_q(name)} as int)) as {_q(f'mean_{name}')}" for name in flags]
    joins = ""
    for number, (name, reference) in enumerate(matches.items()):
        there = f"there_{number}"
        values = ", ".join(f"{_q(other)} as key_{place}" for place, other in enumerate(reference.to))
        on = " and ".join(
            f"every.{_part_or(subject, own)} = {there}.key_{place}" for place, own in enumerate(reference.columns)
        )
        joins += f" left join (select distinct {values}, true as found from {there}) as {there} on {on}"
        known = " and ".join(f"every.{_part_or(subject, own)} is not null" for own in reference.columns)
        if (day := _day_of(reference, subject)) is not None:  # of a day that has not come nothing is known
            known += f" and every.{PART} in (select {_q(day)} from {there})"
        counted += [f"avg(cast({there}.found is not null as int)) filter ({known}) as {_q(f'match_{name}')}"]
    return f"select every.{PART}, {', '.join(counted)} from every{joins} group by 1"


def _history(optional: Sequence[str], shifting: Sequence[str], matches: Mapping[str, Reference]) -> str:
    """What is usual for each wanted day."""
    said = ["count(before.rows) as history"]
    said += [f"median(before.rows) filter (dayofweek(before.{PART}) = dayofweek(wanted.{PART})) as rows_usual"]
    banded = [f"null_share_{name}" for name in optional] + [f"match_{name}" for name in matches]
    banded += [f"{kind}_{name}" for name in shifting for kind in SHIFTING]
    for name in banded:
        said += [f"quantile_cont(before.{_q(name)}, {share}) as {_q(f'{end}_{name}')}" for end, share in BAND.items()]
    said += [
        f"median(before.{_q(f'p90_{name}')} - before.{_q(f'p10_{name}')}) as {_q(f'spread_{name}')}"
        for name in shifting
    ]
    return (
        f"select wanted.{PART}, {', '.join(said)} from wanted left join days as before "
        f"on before.{PART} >= wanted.{PART} - {HISTORY_DAYS} and before.{PART} < wanted.{PART} group by 1"
    )


def _outside(name: str, kind: str) -> str:
    """A column that is one value in 8 of 10 rows of a usual day, such as rain, has no width to measure with: null."""
    value, low, high = (_q(f"{end}{kind}_{name}") for end in ("", "low_", "high_"))
    width = f"greatest({high} - {low}, {LEAST_WIDTH} * nullif({_q(f'spread_{name}')}, 0))"
    return f"greatest({value} - {high}, {low} - {value}, 0) / if({_q(f'spread_{name}')} > 0, {width}, null)"


def _distance(name: str) -> str:
    """Of two samples from one distribution of k values and n and m rows, the divergence is (k - 1) (1/n + 1/m) / (8 ln 2)
    bits on average: that is taken off, so that a small day is not far from all others."""
    return f"""
        with counts as (select {PART}, cast({_q(name)} as varchar) as value, count(*) as n from every
                        where {_q(name)} is not null group by 1, 2),
        both_sides as (select wanted.{PART}, value, coalesce(sum(n) filter (counts.{PART} = wanted.{PART}), 0) as p,
                              coalesce(sum(n) filter (counts.{PART} < wanted.{PART}), 0) as q
                       from wanted join counts on counts.{PART} between wanted.{PART} - {HISTORY_DAYS} and wanted.{PART}
                       group by 1, 2),
        sums as (select {PART}, sum(p) as n, sum(q) as m, count(*) as k from both_sides group by 1 having n > 0 and m > 0),
        shares as (select {PART}, p / n as p, q / m as q, k, n, m from both_sides join sums using ({PART}))
        select {PART}, case when any_value(k) <= {MOST_VALUES} then
            greatest(0, sum(case when p > 0 then p * log2(2 * p / (p + q)) else 0 end
                      + case when q > 0 then q * log2(2 * q / (p + q)) else 0 end) / 2
                      - (any_value(k) - 1) * (1 / any_value(n) + 1 / any_value(m)) / (8 * ln(2))) end as {_q(f"distance_{name}")}
        from shares group by 1"""


def _published_before(table: "Table", snapshot_id: int | None) -> int | None:
    """What readers see while a branch is judged; of a state of `main`, the one before it."""
    current = current_snapshot_id(table)
    if current != snapshot_id:
        return current
    before = [one.snapshot_id for one in table.history() if one.snapshot_id != snapshot_id]
    return before[-1] if before else None


def _range(subject: Subject, parts: Sequence[date | None]) -> tuple[date, date]:
    days = [day for day in parts if day is not None]
    return min(days) - timedelta(days=HISTORY_DAYS if subject.grain == "day" else 0), max(days)


def _scan(table: "Table", row_filter: str, snapshot_id: int | None) -> "pa.Table":
    return table.scan(row_filter=row_filter, snapshot_id=snapshot_id).to_arrow()


def _labelled(table: "pa.Table", label: date) -> "pa.Table":
    import pyarrow as pa

    return table.append_column(LABEL, pa.array([label] * len(table), pa.date32()))


def _day_of(reference: Reference, subject: Subject) -> str | None:
    """The column of the other feed that is to be equal to the day."""
    return next((to for own, to in zip(reference.columns, reference.to, strict=True) if own == subject.part), None)


def _part_or(subject: Subject, column: str) -> str:
    return PART if column == subject.part else _q(column)


def _q(name: str) -> str:
    return f'"{name}"'


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
