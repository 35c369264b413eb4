"""`./assay tables`, `./assay partitions` and `./assay late`: how every table is, from Dagster's event log.

Belongs here: what a person asks for and is told. Does not belong here: what a state is (orchestrator/status.py).
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from foundation import clock
from foundation.contract import Contract, load_contracts
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.cli.printing import print_table

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

    from orchestrator.status import Status
    from orchestrator.status_text import Cause, Span

# A day of quarantine lists hundreds of reasons; the UI has them all.
LONGEST = 300
NAMED_BEHIND = 6


@dataclass(frozen=True)
class Graph:
    """The graph, what its partitions are asked of, and by whose clock."""

    settings: Settings
    instance: "dg.DagsterInstance"
    assets: "BaseAssetGraph"
    contracts: Mapping[str, Contract]

    @property
    def now(self) -> datetime:
        return clock.now(self.settings)

    def owner(self, key: "dg.AssetKey") -> str:
        return ", ".join(self.assets.get(key).owners or [])

    def statuses(self, keys: "Iterable[dg.AssetKey]") -> "dict[dg.AssetKey, dict[str | None, Status]]":
        from orchestrator.status import statuses

        return statuses(self.settings, self.instance, self.assets, self.contracts, list(keys))


@contextmanager
def open_graph(settings: Settings) -> Iterator[Graph]:
    """The home's graph and instance.

    Raises:
        AssayError: the home was never set up.
    """
    import dagster as dg

    from orchestrator.definitions import defs

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield Graph(settings, instance, defs.resolve_asset_graph(), load_contracts())


def print_tables(graph: Graph, console: Console, layer: str | None) -> None:
    """A line for each asset that a run can make.

    Raises:
        AssayError: there is no such layer.
    """
    from orchestrator.status import State
    from orchestrator.status_text import word

    keys = [key for key in graph.assets.toposorted_asset_keys if key in graph.assets.materializable_asset_keys]
    # In the order of the data: after the layers that their last asset is made of.
    layers = list(reversed(dict.fromkeys(key.path[0] for key in reversed(keys))))
    if layer is not None and layer not in layers:
        raise AssayError(f"There is no layer {layer!r}", f"name one of {', '.join(layers)}")
    chosen = sorted(
        (key for key in keys if layer in (None, key.path[0])), key=lambda key: (layers.index(key.path[0]), key)
    )
    found = graph.statuses(chosen)
    lines: list[tuple[str, ...]] = [
        ("asset", "owner", "there", "late", "failed", "blocked", "last made (UTC)", "newest", "state")
    ]
    for key in chosen:
        parts = list(found[key].values())
        made = [one for one in parts if one.made_at is not None]
        wanted = [one for one in parts if one.state != State.WAITING]
        present = sum(one.state == State.PRESENT for one in parts)
        states = (State.LATE, State.FAILED, State.BLOCKED)
        lines.append(
            (
                key.to_user_string(),
                graph.owner(key),
                f"{present}/{len(wanted)}" if graph.assets.get(key).partitions_def is not None else "",
                *(str(count) if (count := sum(_is(one, state, graph) for one in parts)) else "" for state in states),
                _moment(max((one.made_at for one in made if one.made_at), default=None)),
                next((one.partition or "" for one in reversed(made)), ""),
                word(parts, graph.now),
            )
        )
    print_table(console, lines)


def print_partitions(graph: Graph, console: Console, asset: str, state: str | None, day: str | None) -> None:
    """A line for each range of an asset's partitions that are alike, or all that is known of one.

    Raises:
        AssayError: there is no such asset, state or partition.
    """
    from orchestrator.status import State
    from orchestrator.status_text import spans

    key = _find(graph, asset)
    parts = graph.statuses([key])[key]
    if day is not None:
        _print_details(graph, console, key, parts, day)
        return
    if state is not None and state not in list(State):
        raise AssayError(f"There is no state {state!r}", f"use one of {', '.join(State)}")
    chosen = [one for one in parts.values() if state in (None, one.state)]
    if not chosen:
        console.print(f"{asset} has no partition that is {state}." if state else f"{asset} has no partition yet.")
        return
    lines = [("partitions", "count", "state", "since (UTC)", "why")]
    lines += [
        (span.name, str(len(span.parts)), span.first.state.value, _moment(span.first.since), span.why)
        for span in spans(chosen, list(parts))
    ]
    print_table(console, lines)


def print_late(graph: Graph, console: Console) -> bool:
    """All that is late, failed, blocked or hangs, root causes with what is behind them. True if there is something."""
    from orchestrator.status_text import causes

    keys = graph.assets.materializable_asset_keys
    found = graph.statuses(keys)
    wrong = causes(graph.assets, graph.contracts, found, graph.now)
    if not wrong:
        console.print(
            f"Nothing is late, failed or blocked: {len(found)} assets, at {graph.now:%Y-%m-%d %H:%M} UTC.",
            soft_wrap=True,
        )
        return False
    for cause in wrong:
        _print_cause(graph, console, cause, found)
    return True


def _print_cause(
    graph: Graph, console: Console, cause: "Cause", found: "Mapping[dg.AssetKey, Mapping[Any, Status]]"
) -> None:
    from orchestrator.status import State
    from orchestrator.status_text import names, next_command

    first = cause.span.first
    # Of what is late the moment says it all.
    why = "" if first.state == State.LATE else f": {cause.span.why}"
    named = " ".join(filter(None, (first.asset.to_user_string(), cause.span.name)))
    lines = [
        f"[bold]{named}[/] {_state_of(cause.span)} since {_moment(first.since)} UTC{why} "
        f"({graph.owner(first.asset) or 'nobody owns it'})"
    ]
    behind = [
        " ".join(filter(None, (key.to_user_string(), ", ".join(filter(None, names(parts, list(found[key])))))))
        for key, parts in cause.behind.items()
    ]
    if behind:
        more = f" and {len(behind) - NAMED_BEHIND} more" if len(behind) > NAMED_BEHIND else ""
        lines.append(f"  behind it: {'; '.join(behind[:NAMED_BEHIND])}{more}")
    lines.append(f"  Next: {next_command(cause.span, graph.contracts)}")
    console.print("\n".join(lines), soft_wrap=True)


def _print_details(
    graph: Graph, console: Console, key: "dg.AssetKey", parts: "Mapping[str | None, Status]", day: str
) -> None:
    import dagster as dg

    from orchestrator.status import details

    # An asset without partitions has one line of details, whatever the day.
    status = parts.get(None) or parts.get(day)
    if status is None:
        near = difflib.get_close_matches(day, [str(part) for part in parts], 3)
        there = f"those there are go from {next(iter(parts))} to {list(parts)[-1]}" if parts else "it has none"
        raise AssayError(
            f"{key.to_user_string()} has no partition {day}: {there}",
            f"use {' or '.join(near)}" if near else f"./assay partitions {key.to_user_string()} lists them",
        )
    known = details(graph.instance, key, status.partition)
    lines = [
        ("asset", key.to_user_string()),
        ("partition", status.partition or ""),
        ("owner", graph.owner(key)),
        ("state", f"{status.state}{' (quiet)' if status.quiet else ''}"),
        ("since", _moment(status.since, " UTC")),
        ("why", status.why),
        ("due", _moment(status.due, " UTC")),
        ("last made", _moment(status.made_at, " UTC")),
        ("run", status.run_id or ""),
        ("blocked by", ", ".join(f"{one.to_user_string()} {part or ''}".strip() for one, part in status.blocked_by)),
        *((name, _plain(value)) for name, value in known.get("metadata", {}).items()),
        *(
            (f"check {name}", _outcome(one))
            for name, one in known.get("checks", {}).items()
            if dg.AssetCheckKey(key, name) in graph.assets.asset_check_keys
        ),
    ]
    print_table(console, [line for line in lines if line[1]])


def _outcome(check: Mapping[str, Any]) -> str:
    of_table = ", of the whole table" if check["of_table"] else ""
    said = f": {check['description']}" if check["description"] else ""
    return f"{'passed' if check['passed'] else 'failed as ' + check['severity'].lower()}{of_table}{said}"


def _find(graph: Graph, asset: str) -> "dg.AssetKey":
    known = {key.to_user_string(): key for key in graph.assets.materializable_asset_keys}
    if asset in known:
        return known[asset]
    near = difflib.get_close_matches(asset, known, 3, 0.5)
    raise AssayError(
        f"There is no asset {asset!r} that a run makes",
        f"use {' or '.join(near)}" if near else "./assay tables lists them",
    )


def _is(one: "Status", state: str, graph: Graph) -> bool:
    from orchestrator.status import wrong

    return one.state == state and wrong(one, graph.now)


def _state_of(span: "Span") -> str:
    from orchestrator.status import State

    return "quiet" if span.first.state == State.RUNNING else span.first.state.value


def _moment(moment: datetime | None, zone: str = "") -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}{zone}"


def _plain(value: Any) -> str:
    """A value of metadata on one line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
