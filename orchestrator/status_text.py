"""How statuses read: consecutive partitions as one range, root causes apart from what is behind them, and what to type.

Belongs here: what checks and the command line say alike. Does not belong here: what a state is (status.py), printing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from foundation.contract import Contract
from orchestrator.attempts import Part
from orchestrator.status import State, Status, wrong
from orchestrator.timeline import Timeline

# A year of bad days would make a line that nobody reads.
NAMED = 10
OF_ONE_FEED = ("bronze", "silver", "quarantine")
Statuses = Mapping[dg.AssetKey, Mapping[str | None, Status]]


@dataclass(frozen=True)
class Span:
    """Consecutive partitions of an asset with one state for one reason."""

    parts: Sequence[Status]

    @property
    def first(self) -> Status:
        return self.parts[0]

    @property
    def name(self) -> str:
        """`2013-01-05`, `2013-01-05...2013-01-07`, or nothing for an asset without partitions."""
        first, last = self.first.partition, self.parts[-1].partition
        return first or "" if first == last else f"{first}...{last}"

    @property
    def why(self) -> str:
        """The reason of all of them; where each has a moment or a cause of its own, that of the first."""
        alike = len({part.why for part in self.parts}) == 1
        return self.first.why if alike else f"{self.first.why}, and so on"


@dataclass
class Cause:
    """Partitions that failed, hang or are late by themselves, and the assets that wait for them."""

    span: Span
    behind: dict[dg.AssetKey, list[Status]] = field(default_factory=dict)


def spans(parts: Iterable[Status], listed: Sequence[str | None]) -> list[Span]:
    """Partitions as ranges.

    Args:
        parts: some of an asset, in order.
        listed: all that it has, in order: only neighbours of these are consecutive.
    """
    position = {part: number for number, part in enumerate(listed)}
    found: list[list[Status]] = []
    for one in parts:
        last = found[-1][-1] if found else None
        beside = last is not None and position[last.partition] + 1 == position[one.partition]
        if last is not None and beside and _reason(last) == _reason(one):
            found[-1].append(one)
        else:
            found.append([one])
    return [Span(one) for one in found]


def names(parts: Iterable[Status], listed: Sequence[str | None]) -> list[str]:
    """The names of a few ranges, with `…` if there are more."""
    found = [span.name for span in spans(parts, listed)]
    return found[:NAMED] + ["…"] * (len(found) > NAMED)


def word(parts: Iterable[Status], now: datetime) -> State:
    """The state of a table: the first of these that one of its partitions is in.

    Args:
        now: the platform's clock.
    """
    held = {one.state for one in parts if one.state in (State.PRESENT, State.RUNNING) or wrong(one, now)}
    order = (State.FAILED, State.BLOCKED, State.RUNNING, State.LATE, State.PRESENT)
    return next((state for state in order if state in held), State.WAITING)


def next_command(span: Span, contracts: Mapping[str, Contract]) -> str:
    """What to type: it makes the partitions, those of a feed from Bronze on."""
    layer, *rest = span.first.asset.path
    of_feed = layer in OF_ONE_FEED and rest[-1:] and rest[-1] in contracts
    selected = ",".join(f"{one}/{rest[-1]}" for one in OF_ONE_FEED) if of_feed else span.first.asset.to_user_string()
    which = {0: "", 1: f" --partition {span.name}"}.get(len(span.parts), f" --partition-range {span.name}")
    if span.first.partition is None:
        which = ""
    command = f"./assay dagster asset materialize --select {selected}{which}"
    if span.first.state == State.RUNNING:
        return f"end run {span.first.run_id} in the Dagster UI (./assay status has its address), then {command}"
    return command


def causes(graph: BaseAssetGraph, contracts: Mapping[str, Contract], found: Statuses, now: datetime) -> list[Cause]:
    """What is wrong, root causes in the order of the graph, each with what is behind it: blocked, or late because it is.

    Args:
        found: of every asset.
        now: the platform's clock.
    """
    times = Timeline(graph, contracts)
    roots: dict[Part, tuple[Part, ...]] = {}
    ordered = [key for key in graph.toposorted_asset_keys if key in found]
    for key in ordered:
        for part, one in found[key].items():
            if one.state == State.BLOCKED:
                roots[key, part] = one.blocked_by
            elif wrong(one, now):
                upstream = [root for other in _late_upstream(times, found, one) for root in roots.get(other, ())]
                roots[key, part] = tuple(dict.fromkeys(upstream)) or ((key, part),)
    result: list[Cause] = []
    cause_of: dict[Part, Cause] = {}
    for key in ordered:
        by_itself = [one for part, one in found[key].items() if roots.get((key, part)) == ((key, part),)]
        for span in spans(by_itself, list(found[key])):
            result.append(Cause(span))
            cause_of |= {(key, one.partition): result[-1] for one in span.parts}
    for key in ordered:
        for part, one in found[key].items():
            root = roots.get((key, part), ())
            # The first is enough: a line that stands under ten causes is read ten times.
            if root and root[0] != (key, part) and root[0] in cause_of and wrong(one, now):
                cause_of[root[0]].behind.setdefault(key, []).append(one)
    return result


def _late_upstream(times: Timeline, found: Statuses, one: Status) -> list[Part]:
    """What a late partition is made of, of its own time; of what it reads only the past of, that."""
    if one.state != State.LATE:
        return []
    mine = times.partitions(one.asset)
    assert mine is not None, "only what has partitions is late"
    position = mine.position[str(one.partition)]
    return [
        (parent, theirs.keys[other])
        for parent in times.parents(one.asset)
        if parent in found and (theirs := times.partitions(parent))
        for edge in [times.edge(one.asset, parent)]
        for other in edge.own[position] or edge.reads[position]
    ]


def _reason(one: Status) -> tuple[object, ...]:
    """What consecutive partitions must have in common to be one range: not the moment, which each has its own of."""
    if one.state == State.BLOCKED:
        return one.state, tuple(dict.fromkeys(key for key, _ in one.blocked_by))
    return one.state, one.why if one.state in (State.FAILED, State.RUNNING) else ""
