"""What the catalog says of every asset: from contracts, the asset graph, statuses and column lineage.

Belongs here: collecting it, and which columns nobody may see. Does not belong here: how it is drawn (catalog_pages.py), the
last rows of a table, which an engine or a file is asked for (cli/catalog.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from foundation import clock
from foundation.contract import OPEN_CLASSES, Contract, Moment
from foundation.errors import AssayError
from foundation.lake import LAYERS as LAKE
from foundation.settings import Settings
from orchestrator.lineage import Graph, Node, reached
from orchestrator.status import State, Status, details, statuses
from orchestrator.status_text import Cause, Span, causes, names, spans, word
from orchestrator.timeline import GRACE
from spark_assets.tables import CORRUPT, bronze_columns, quarantine_columns, silver_columns

# In the order of the data; a domain's own layers come behind, by name.
LAYERS = ("landing", "bronze", "silver", "quarantine", "gold", "features", "models", "predictions", "monitoring")
LAYERS += ("warehouse", "exposures")
OF_CONTRACT = {"bronze": bronze_columns, "silver": silver_columns, "quarantine": quarantine_columns}
# dagster-dbt appends the model's SQL to its description.
RAW_SQL = "#### Raw SQL"


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, and the types of its columns as the table has them; `note` says why there are none."""

    columns: Sequence[str] = ()
    values: Sequence[Sequence[Any]] = ()
    types: Mapping[str, str] | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """`classes` are those that contracts give it, or give what it descends from; who is `masked` is shown to nobody."""

    name: str
    type: str
    description: str
    classes: tuple[str, ...]
    masked: bool
    inherited: bool
    made_of: Sequence[Node]
    used_by: Sequence[Node]


@dataclass(frozen=True)
class Check:
    """A check and its newest outcome for the newest partition; `failing` are the partitions that it makes fail."""

    name: str
    description: str
    outcome: str
    said: str
    failing: Sequence[str]


@dataclass(frozen=True)
class Table:
    """An asset. `state` is None where no run makes it; `newest` the last partition that was made."""

    key: dg.AssetKey
    description: str
    owner: str
    kinds: Sequence[str]
    how: str
    promises: Sequence[str]
    limitations: str
    url: str
    parts: Mapping[str | None, Status]
    state: State | None
    since: datetime | None
    made_at: datetime | None
    newest: str | None
    counts: Sequence[str]
    partitions: Sequence[Span]
    columns: Sequence[Column]
    checks: Sequence[Check]
    rows: Rows
    upstream: Sequence[dg.AssetKey]
    downstream: Sequence[dg.AssetKey]

    @property
    def layer(self) -> str:
        return self.key.path[0]

    @property
    def name(self) -> str:
        return self.key.to_user_string()

    @property
    def there(self) -> str:
        """Present partitions of those that are not waiting, as `30/31`; empty without partitions."""
        if None in self.parts or self.state is None:
            return ""
        due = [one for one in self.parts.values() if one.state != State.WAITING]
        return f"{sum(one.state == State.PRESENT for one in due)}/{len(due)}"


@dataclass(frozen=True)
class Catalog:
    """Everything, as of a moment of the platform's clock. `order` are all assets, upstream first."""

    moment: datetime
    tables: Sequence[Table]
    wrong: Sequence[Cause]
    order: Sequence[dg.AssetKey]


# A table, its newest partition, the columns that may be read, and the column that a warehouse's rows are newest by.
LastRows = Callable[[dg.AssetKey, str | None, Sequence[str], str | None], Rows]


def collect(
    settings: Settings,
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    contracts: Mapping[str, Contract],
    lineage: Graph,
    last_rows: LastRows,
) -> Catalog:
    """The catalog of every asset of the graph.

    Args:
        lineage: `column_graph()` of lineage.
        last_rows: reads some rows; it is not given the columns that nobody may see.

    Raises:
        AssayError: Dagster's event log is no database.
    """
    now = clock.now(settings)
    found = statuses(settings, instance, graph, contracts)
    classes = classified(contracts, lineage)
    ordered = sorted(graph.get_all_asset_keys(), key=_place)
    tables = [
        _table(instance, graph, contracts, lineage, last_rows, classes, key, found.get(key, {}), now) for key in ordered
    ]
    return Catalog(now, tables, causes(graph, contracts, found, now), graph.toposorted_asset_keys)


def classified(contracts: Mapping[str, Contract], lineage: Graph) -> dict[Node, tuple[str, ...]]:
    """The columns that nobody may see, with the classes of what they descend from, themselves included.

    A malformed line holds every column, and a derived column that names no source may hold any. What only chooses rows, a
    filter or a join, is in no column.
    """
    found: dict[Node, set[str]] = {}
    for contract in contracts.values():
        secret = {one.name: one.classification for one in contract.columns if one.is_sensitive and one.classification}
        secret |= {
            one.name: ", ".join(sorted(set(secret.values())))
            for one in contract.columns
            if secret and one.derived and not one.made_of and not one.is_sensitive
        }
        everything = {CORRUPT: ", ".join(sorted(set(secret.values())))} if secret else {}
        for layer in ("landing", *OF_CONTRACT):
            table = lineage.made.get(f"{layer}/{contract.feed}")
            for name, one in {**secret, **everything}.items():
                if table is not None and name in table.columns:
                    start = Node(table.asset, name)
                    below = reached([start], lambda node: [n for n in lineage.children(node) if n.column])
                    for node in (start, *below):
                        found.setdefault(node, set()).add(one)
    return {node: tuple(sorted(ones)) for node, ones in found.items()}


def _table(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    contracts: Mapping[str, Contract],
    lineage: Graph,
    last_rows: LastRows,
    classes: Mapping[Node, tuple[str, ...]],
    key: dg.AssetKey,
    parts: Mapping[str | None, Status],
    now: datetime,
) -> Table:
    node, asset = graph.get(key), key.to_user_string()
    made = lineage.made.get(asset)
    contract = contracts.get(key.path[-1]) if key.path[0] in ("landing", *OF_CONTRACT) else None
    there = [part for part, one in parts.items() if one.made_at is not None]
    newest = there[-1] if there else None
    known = details(instance, key, newest) if there else {}
    columns = list(_columns(key, contract, node.metadata, lineage, classes))
    shown = [one.name for one in columns if not one.masked]
    rows = last_rows(key, newest, shown, _newest_by(node.metadata)) if there else Rows(note="Nothing was made yet.")
    if rows.types:
        columns = [replace(one, type=one.type or rows.types.get(one.name, "")) for one in columns]
    state = word(parts.values(), now) if parts else None
    made_at = max((one.made_at for one in parts.values() if one.made_at), default=None)
    since = min((one.since for one in parts.values() if one.state == state and one.since), default=None)
    return Table(
        key=key,
        description=(node.description or "").partition(RAW_SQL)[0].strip(),
        owner=", ".join(node.owners or []),
        kinds=sorted(node.kinds or ()),
        how=made.how if made else "",
        promises=list(_promises(contract, key, parts, node.partitions_def is not None, now)),
        limitations=contract.limitations if contract else "",
        url=_url(node.metadata),
        parts=parts,
        state=state,
        since=made_at if state == State.PRESENT else since,
        made_at=made_at,
        newest=newest,
        counts=list(_counts(known.get("metadata", {}), newest)),
        partitions=spans(parts.values(), list(parts)) if None not in parts else [],
        columns=columns,
        checks=list(_checks(graph, key, known.get("checks", {}), parts)),
        rows=rows,
        upstream=sorted(node.parent_keys - {key}),
        downstream=sorted(node.child_keys - {key}),
    )


def _columns(
    key: dg.AssetKey,
    contract: Contract | None,
    metadata: Mapping[str, Any],
    lineage: Graph,
    classes: Mapping[Node, tuple[str, ...]],
) -> Iterator[Column]:
    asset = key.to_user_string()
    made = lineage.made.get(asset)
    declared: dict[str, tuple[str, str]] = {}
    own: dict[str, str] = {}
    if contract is not None:
        own = {one.name: one.classification for one in contract.columns if one.classification}
        received = {one.name: ("text", one.description) for one in contract.received}
        declared = OF_CONTRACT[key.path[0]](contract) if key.path[0] in OF_CONTRACT else received
    elif (schema := metadata.get("dagster/column_schema")) is not None:
        declared = {one.name: (one.type, one.description or "") for one in getattr(schema, "value", schema).columns}
    names_of = dict.fromkeys([*declared, *(made.columns if made else ())])
    for name in names_of:
        kind, text = declared.get(name, ("", ""))
        node = Node(asset, name)
        below = classes.get(node, ())
        yield Column(
            name=name,
            type="" if kind == "?" else kind,
            description=text,
            classes=tuple(dict.fromkeys([*([own[name]] if name in own else ()), *below])),
            masked=bool(below),
            inherited=bool(below) and own.get(name) in OPEN_CLASSES,
            made_of=lineage.parents(node),
            used_by=list(dict.fromkeys(lineage.children(node))),
        )


def _checks(
    graph: BaseAssetGraph, key: dg.AssetKey, newest: Mapping[str, Any], parts: Mapping[str | None, Status]
) -> Iterator[Check]:
    for one in sorted(graph.get_check_keys_for_assets({key})):
        known = newest.get(one.name)
        outcome = "not evaluated yet"
        if known is not None:
            outcome = "passed" if known["passed"] else "warns" if known["severity"] == "WARN" else "failed"
        failing = [part for part in parts.values() if one.name in part.failed_checks]
        said = (known["description"] if known else None) or ""
        yield Check(one.name, graph.get(one).description or "", outcome, said, names(failing, list(parts)))


def _promises(
    contract: Contract | None,
    key: dg.AssetKey,
    parts: Mapping[str | None, Status],
    partitioned: bool,
    now: datetime,
) -> Iterator[str]:
    """The service level in words."""
    if contract is not None and contract.days is not None:
        days = contract.days
        until = f" to {days.ends}" if days.ends else ""
        yield f"A folder a day, from {days.starts}{until}."
        yield f"A day is due {_when(days.due)} and can be counted on from {_when(days.available)} on."
        if days.row_available:
            yield f"A row is known {days.row_available.minutes} minutes after its {days.row_available.column}."
    elif contract is not None:
        yield "Each delivery is the whole table, and the newest one counts."
        if contract.next_due:
            yield f"The next delivery is due {_when(contract.next_due, 'the one before')}."
    elif partitioned:
        hours = GRACE // timedelta(hours=1)
        yield f"A partition is due {hours} hours after the latest feed's day that it is made of."
    else:
        yield "Nothing says when it is due."
    if contract is not None and key.path[0] == "silver":
        yield f"At most {contract.max_quarantined:.0%} of {'a day' if contract.days else 'the table'}'s rows may be quarantined."
    upcoming = next((one for one in parts.values() if one.due and one.due > now and one.state != State.PRESENT), None)
    if upcoming is not None and upcoming.due is not None:
        yield f"Next is {upcoming.partition}, due {upcoming.due:%Y-%m-%d %H:%M} UTC."


def _when(moment: Moment, day: str = "it") -> str:
    count = abs(moment.days)
    which = (
        f"{count} day{'s' * (count > 1)} {'after' if moment.days > 0 else 'before'} {day}" if count else "the same day"
    )
    return f"{which} at {moment.at:%H:%M} {moment.zone}"


def _counts(metadata: Mapping[str, Any], newest: str | None) -> Iterator[str]:
    """The rows that the last materialization counted."""
    of_part, whole = metadata.get("dagster/partition_row_count"), metadata.get("dagster/row_count")
    if of_part is not None:
        yield f"{of_part:,} rows in {newest}"
    if whole is not None:
        yield f"{whole:,} rows in all"


def _newest_by(metadata: Mapping[str, Any]) -> str | None:
    """The column that a dbt model's ranges go by."""
    manifest, unique_id = metadata.get("dagster_dbt/manifest"), metadata.get("dagster_dbt/unique_id")
    if manifest is None or unique_id is None:
        return None
    return manifest.manifest["nodes"][unique_id]["config"].get("range_column")


def _url(metadata: Mapping[str, Any]) -> str:
    url = str(getattr(metadata.get("url"), "value", ""))
    return url if url.startswith(("https://", "http://")) else ""


def _place(key: dg.AssetKey) -> tuple[int, str, str]:
    layer = key.path[0]
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS), layer, key.to_user_string()


def dagster_address(settings: Settings) -> str:
    """Where the Dagster UI of this home listens when it runs; empty if it never did."""
    try:
        return f"http://127.0.0.1:{settings.port('dagster')}"
    except AssayError:
        return ""  # the catalog then has no links to it


def is_iceberg(key: dg.AssetKey) -> bool:
    """Whether an asset is a table of the lake."""
    return key.path[0] in LAKE and len(key.path) == 2
