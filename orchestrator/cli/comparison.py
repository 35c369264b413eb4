"""The rows of changed tables beside those of the base, on the engine where they live.

Belongs here: asking, and shaping the answer. Does not belong here: the statement (dbt_project/macros/compared_rows.sql, which
is rendered here without dbt: starting that takes longer than the answer), which tables were changed (orchestrator/impact).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from functools import cache
from typing import Any, Literal

from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.lake import LAYERS as LAKE
from foundation.names import PhysicalName
from foundation.settings import Settings, base_settings, branch_record
from orchestrator.cli.engines import rows
from orchestrator.impact import Impact, graph_of
from orchestrator.manifests import DBT_PROJECT
from orchestrator.trees import Trees
from spark_assets.quarantined import HIDDEN

STATEMENTS = "compared_rows.sql"
WAREHOUSE = "warehouse"
SAMPLES = 5
# Beginnings of types, as Trino and as ClickHouse write them.
FLOATING = ("real", "double", "Float")
NUMBERS = ("tinyint", "smallint", "integer", "bigint", "decimal", *FLOATING, "Int", "UInt", "Decimal")
NESTED = ("array", "map", "row", "Array", "Map", "Tuple")
WRAPPED = ("Nullable(", "LowCardinality(")
NOT_BUILT = "it was not built in the branch"
NOT_MADE = "no run made it in the branch"


@dataclass(frozen=True)
class Table:
    """What is compared of a table: `keys` are SQL expressions that name a row; `day` the column of its days, or of its months
    by their first day; of the columns in `masked` no value is shown."""

    asset: str
    keys: Sequence[str]
    day: str | None = None
    by: Literal["days", "months"] = "days"
    masked: frozenset[str] = frozenset()

    @property
    def layer(self) -> str:
        return self.asset.partition("/")[0]

    @property
    def name(self) -> str:
        return self.asset.partition("/")[2]


@dataclass(frozen=True)
class Sample:
    """A row that differs: its key, and of each column that does the value of the base and the branch's, as text."""

    key: Mapping[str, str]
    columns: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Compared:
    """A table of two environments. Counted are rows, and keys that only one of them has (`added`: the branch, `lost`: the
    base); `repeated` are keys that one of them has twice, whose rows are not compared; `differ` are rows of one key that are
    not the same, `columns` how many of them differ in each column. `note` says why nothing was compared. `made` is whether a
    run of the branch made it since the branch began with the base's rows."""

    asset: str
    base: int = 0
    branch: int = 0
    added: int = 0
    lost: int = 0
    repeated: int = 0
    differ: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    only_base: Sequence[str] = ()
    only_branch: Sequence[str] = ()
    samples: Sequence[Sample] = ()
    added_keys: Sequence[Mapping[str, str]] = ()
    lost_keys: Sequence[Mapping[str, str]] = ()
    note: str = ""
    made: bool = True

    @property
    def same(self) -> bool:
        """Whether both hold the same."""
        return not (self.note or self.added or self.lost or self.repeated or self.differ)


def compare_changed(
    settings: Settings, both: Trees, found: Impact, days: Sequence[date], tolerance: float
) -> list[Compared]:
    """Compares the tables that a change touches, in a branch, with its base.

    Args:
        days: only these; all if there are none.
        tolerance: see `compare`.

    Raises:
        AssayError: there is no branch here, or an engine does not answer.
    """
    if settings.base is None:
        raise AssayError(
            "--rows compares a branch with its base, and this is none",
            "make one with ./assay branch create NAME, then run this in it: ASSAY_ENV=branch ASSAY_BRANCH=NAME",
        )
    compared = compare(settings, base_settings(settings), tables_of(both.new, found), days, tolerance)
    made = made_in(settings, [one.asset for one in compared])
    return [replace(one, made=one.asset in made) for one in compared]


def made_in(settings: Settings, assets: Sequence[str]) -> set[str]:
    """Those that a run of the branch made: its history begins with a copy of the base's."""
    import dagster as dg

    created = datetime.fromisoformat(branch_record(settings)["created"]).timestamp()
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        entries = [
            record.asset_entry for record in instance.get_asset_records([dg.AssetKey(one.split("/")) for one in assets])
        ]
    return {
        entry.asset_key.to_user_string()
        for entry in entries
        if (newest := entry.last_materialization_record) and newest.timestamp > created
    }


def tables_of(description: Mapping[str, Any], found: Impact) -> list[Table]:
    """The tables among what a change touches: what has rows of its own, and a key."""
    from orchestrator.catalog import classified  # Dagster comes with it

    masked = classified(load_contracts(), graph_of(description))
    return [
        Table(
            asset,
            one["keys"],
            one["day"],
            one["by"] or "days",
            frozenset(node.column for node in masked if node.asset == asset and node.column),
        )
        for asset in found.affected
        if (one := description["assets"][asset])["keys"] and asset.partition("/")[0] in (*LAKE, WAREHOUSE)
    ]


def compare(
    branch: Settings,
    base: Settings,
    tables: Sequence[Table],
    days: Sequence[date] = (),
    tolerance: float = 0.0,
    samples: int = SAMPLES,
) -> list[Compared]:
    """Holds the tables of two environments side by side, on the engines of the branch, which reach both.

    Args:
        days: only their rows, of a table that has days; of one that has months the months of those days.
        tolerance: floating numbers that differ by at most this share of the larger are the same.
        samples: how many rows and keys are shown of each kind.

    Raises:
        AssayError: an engine refused a statement, or does not answer.
    """
    found: list[Compared] = []
    for engine in ("trino", "clickhouse"):
        of_engine = [one for one in tables if (one.layer == WAREHOUSE) == (engine == "clickhouse")]
        if not of_engine:
            continue
        names = {one.asset: (base.table(one.layer, one.name), branch.table(one.layer, one.name)) for one in of_engine}
        types = _types(branch, engine, [name for pair in names.values() for name in pair])
        for one in of_engine:
            old, new = names[one.asset]
            if not types[str(new)]:
                found.append(Compared(one.asset, note=NOT_BUILT))
            elif not types[str(old)]:
                found.append(Compared(one.asset, note="it is new: the base has none"))
            else:
                found.append(_compared(branch, engine, one, (old, new), types, days, tolerance, samples))
    order = {one.asset: number for number, one in enumerate(tables)}
    return sorted(found, key=lambda one: order[one.asset])


def _compared(
    settings: Settings,
    engine: Literal["trino", "clickhouse"],
    table: Table,
    names: tuple[PhysicalName, PhysicalName],
    types: Mapping[str, Mapping[str, str]],
    days: Sequence[date],
    tolerance: float,
    samples: int,
) -> Compared:
    old, new = (types[str(name)] for name in names)
    columns = [
        {
            "name": name,
            "floating": old[name].startswith(FLOATING) and new[name].startswith(FLOATING),
            "as_text": old[name] != new[name] and not (old[name].startswith(NUMBERS) and new[name].startswith(NUMBERS)),
            "nested": old[name].startswith(NESTED),
            "masked": name in table.masked,
        }
        for name in old
        if name in new and name not in table.keys
    ]
    wanted = sorted({day.replace(day=1) if table.by == "months" else day for day in days})
    statements = _statements()
    statement = statements.compared_rows(
        engine=engine,
        base=_address(engine, names[0]),
        branch=_address(engine, names[1]),
        mark=HIDDEN,
        keys=list(table.keys),
        hidden=[any(name in key for name in table.masked) for key in table.keys],
        columns=columns,
        where=statements.compared_days(table.day, wanted),
        tolerance=tolerance,
        samples=samples,
    )
    (answer,) = rows(settings, engine, str(statement))
    base, branch, added, lost, repeated, differ, *rest = answer
    counts, (shown, came, went) = (
        rest[: len(columns)],
        ([_read(one) for one in some or ()] for some in rest[len(columns) :]),
    )
    listed = [one["name"] for one in columns]
    return Compared(
        table.asset,
        int(base),
        int(branch),
        added,
        lost,
        repeated,
        differ,
        {name: count for name, count in zip(listed, counts, strict=True) if count},
        [name for name in old if name not in new],
        [name for name in new if name not in old],
        [_sample(table.keys, listed, values) for values in shown],
        [dict(zip(table.keys, values, strict=True)) for values in came],
        [dict(zip(table.keys, values, strict=True)) for values in went],
    )


def _read(values: Any) -> Sequence[Any]:
    """A row of a sample: ClickHouse answers with lists, Trino with their text."""
    return json.loads(values) if isinstance(values, str) else values


def _sample(keys: Sequence[str], columns: Sequence[str], values: Sequence[Any]) -> Sample:
    key, pairs = values[: len(keys)], values[len(keys) :]
    both = zip(columns, pairs[::2], pairs[1::2], strict=True)
    return Sample(
        dict(zip(keys, key, strict=True)),
        {name: (old, str(new)) for name, old, new in both if old is not None},
    )


def _types(
    settings: Settings, engine: Literal["trino", "clickhouse"], names: Sequence[PhysicalName]
) -> dict[str, dict[str, str]]:
    """The columns of tables and their types, by the table's whole name; none of a table that is not there."""
    found: dict[str, dict[str, str]] = {str(name): {} for name in names}
    for name, column, kind in rows(settings, engine, str(_statements().compared_columns(engine, names))):
        for wrapper in WRAPPED:  # LowCardinality(Nullable(String)) has the values of String
            kind = kind.removeprefix(wrapper).rstrip(")") if kind.startswith(wrapper) else kind
        found[name][column] = kind
    return found


def _address(engine: str, name: PhysicalName) -> str:
    return str(name) if engine == "trino" else name.in_catalog


@cache
def _statements() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # What is made is SQL, of names from the catalog and days from dates.
    environment = Environment(
        loader=FileSystemLoader(DBT_PROJECT / "macros"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    return environment.get_template(STATEMENTS).module


def lines(compared: Sequence[Compared]) -> Iterator[str]:
    """For a terminal: a line a table, and what differs in it below."""
    width = max((len(one.asset) for one in compared), default=0)
    for one in compared:
        yield f"{one.asset.ljust(width)}  {_said(one)}"
        yield from (f"  {'differ in ' + name}: {count:,}" for name, count in _most(one))
        yield from (f"    {_key(sample.key)}: {_values(sample)}" for sample in one.samples)
        for word, keys in (("added", one.added_keys), ("lost", one.lost_keys)):
            yield from (f"    {word} {_key(key)}" for key in keys)


def markdown_table(compared: Sequence[Compared]) -> Iterator[str]:
    """For a pull request: the counts, and what differs in details."""
    yield "| table | base | branch | keys added | keys lost | rows differ | in |\n|---|---|---|---|---|---|---|"
    for one in compared:
        if one.note:
            yield f"| `{one.asset}` | {one.note} | | | | | |"
        else:
            most = ", ".join(f"{name} ({count:,})" for name, count in _most(one)[:4])
            most = NOT_MADE if one.same and not one.made else most
            numbers = " | ".join(f"{number:,}" for number in (one.base, one.branch, one.added, one.lost, one.differ))
            yield f"| `{one.asset}` | {numbers} | {most} |"
    if any(not one.same and not one.note for one in compared):
        yield "\n<details><summary>Rows</summary>\n\n```text"
        yield from lines([one for one in compared if not one.same])
        yield "```\n\n</details>"


def as_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """For programs."""
    return [asdict(one) for one in compared]


def _said(one: Compared) -> str:
    if one.note:
        return f"not compared: {one.note}"
    columns = [
        f"{word} {', '.join(some)}" for word, some in (("lost", one.only_base), ("gained", one.only_branch)) if some
    ]
    parts = [
        f"{one.branch:,} rows" if one.base == one.branch else f"{one.base:,} → {one.branch:,} rows",
        *(f"{count:,} {word}" for count, word in ((one.added, "keys added"), (one.lost, "keys lost")) if count),
        *([f"{one.repeated:,} keys stand there twice"] if one.repeated else []),
        *([f"{one.differ:,} rows differ"] if one.differ else []),
        *(f"columns {text}" for text in columns),
    ]
    if one.same:
        same = "the others all the same" if columns else "all the same"
        parts += [same if one.made else f"{same}: {NOT_MADE}"]
    return ", ".join(parts)


def _most(one: Compared) -> list[tuple[str, int]]:
    return sorted(one.columns.items(), key=lambda pair: -pair[1])


def _key(key: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())


def _values(sample: Sample) -> str:
    return ", ".join(f"{name} {old} → {new}" for name, (old, new) in sample.columns.items())
