"""Which partitions an asset can have, which of those upstream each reads, and when each is due: all from contracts and graph.

Belongs here: time. Does not belong here: what was made or failed (attempts.py, status.py).

Dagster's own mapping of one partition takes 1 ms; 130 edges of 400 days would take a minute. So each kind of edge is worked
out once, as ranges of positions, of which tests/unit/test_timeline.py shows that they are Dagster's. Only an offset between
days and months is counted in the upstream's partitions, as its author means it: a day's "month before" is to Dagster the
month of the day before.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from foundation.contract import Contract

# What is made of a feed is due so long after the feed: a run of the whole line takes minutes, a queue before it an hour.
GRACE = timedelta(hours=2)
# In an asset's metadata: what it is made of if that is there, and made without otherwise. It blocks nothing.
GOES_ON_WITHOUT = "assay/goes_on_without"
# What a contract says the due moment of.
OF_FEEDS = ("landing", "bronze", "silver")


@dataclass(frozen=True)
class Partitions:
    """The partitions of a definition in order; `starts` and `ends` in UTC, empty if they are of no time."""

    keys: Sequence[str]
    position: Mapping[str, int]
    starts: Sequence[datetime]
    ends: Sequence[datetime]


@dataclass(frozen=True)
class Edge:
    """For each partition of an asset the positions of an upstream's partitions that it reads, and of those the ones of its own
    time: of the same key, the days of a month, the month of a day."""

    reads: Sequence[range]
    own: Sequence[range]


class Timeline:
    """The answers for one graph, each worked out at most once. Which days an open-ended feed has by now is Dagster's to say,
    by the real clock: these are the partitions that it shows and makes."""

    def __init__(self, graph: BaseAssetGraph, contracts: Mapping[str, Contract]) -> None:
        self.graph, self._contracts = graph, contracts
        self._partitions_of = cache(self._list)
        self._edge_of: Callable[..., Edge] = cache(self._edge)
        self.edge = cache(self._edge_between)
        self.expected = cache(self._expected)
        self.latest_feed = cache(self._latest_feed)

    def partitions(self, key: dg.AssetKey) -> Partitions | None:
        """The partitions that Dagster knows of an asset, None if it has none."""
        definition = self.graph.get(key).partitions_def
        return None if definition is None else self._partitions_of(definition)

    def parents(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """What an asset is made of, but for itself."""
        return sorted(self.graph.get(key).parent_keys - {key})

    def _edge_between(self, key: dg.AssetKey, parent: dg.AssetKey) -> Edge:
        """How partitions of an asset and of one that it is made of belong together; both have partitions."""
        node, upstream = self.graph.get(key), self.graph.get(parent)
        mapping = self.graph.get_partition_mapping(key, parent)
        offsets = None
        if isinstance(mapping, dg.TimeWindowPartitionMapping):
            offsets = (mapping.start_offset, mapping.end_offset)
        edge = self._edge_of(node.partitions_def, upstream.partitions_def, offsets, type(mapping))
        if parent.to_user_string() in node.metadata.get(GOES_ON_WITHOUT, ()):
            return Edge(edge.reads, [range(0)] * len(edge.own))
        return edge

    def due(self, key: dg.AssetKey) -> dict[str | None, datetime | None]:
        """When each partition is due, None if nothing says so."""
        there = self.partitions(key)
        if there is None:
            return {None: None}
        grace = timedelta(0) if self._feed(key) else GRACE
        return {
            part: None if latest is None else latest + grace
            for part, latest in zip(there.keys, self.latest_feed(key), strict=True)
        }

    def _expected(self, key: dg.AssetKey) -> Sequence[bool]:
        """Whether each partition can be: a feed's if its contract has that day, another if of everything that it is made of
        there is one that it reads, and of its own time, if it reads that at all, there is anything. So no model is expected
        of a month before which there are no days, and no window of 28 days after the last day."""
        there = self.partitions(key)
        assert there is not None
        contract = self._feed(key)
        if contract is not None:
            return [contract.expects(date.fromisoformat(day)) for day in there.keys]
        edges = [
            (self.edge(key, parent), self.expected(parent)) for parent in self.parents(key) if self.partitions(parent)
        ]
        return [
            all(any(upstream[one] for one in edge.reads[position]) for edge, upstream in edges)
            and _any_or_none([upstream[one] for edge, upstream in edges for one in edge.own[position]])
            for position in range(len(there.keys))
        ]

    def _latest_feed(self, key: dg.AssetKey) -> Sequence[datetime | None]:
        """For each partition the latest due moment of all feeds' days that it needs, of its own time or earlier."""
        there = self.partitions(key)
        assert there is not None
        contract = self._feed(key)
        if contract is not None and contract.days is not None:
            moments = [contract.days.due.of(date.fromisoformat(day)) for day in there.keys]
        else:
            edges = [
                (self.edge(key, parent), self.latest_feed(parent))
                for parent in self.parents(key)
                if self.partitions(parent)
            ]
            moments = [
                max(
                    (moment for edge, upstream in edges for moment in _until_own_time(edge, upstream, position)),
                    default=None,
                )
                for position in range(len(there.keys))
            ]
        return [moment if able else None for moment, able in zip(moments, self.expected(key), strict=True)]

    def _feed(self, key: dg.AssetKey) -> Contract | None:
        """The contract that says which days an asset has and when they are due."""
        contract = self._contracts.get(key.path[-1]) if key.path[0] in OF_FEEDS and len(key.path) == 2 else None
        return contract if contract is not None and contract.days is not None else None

    def _list(self, definition: dg.PartitionsDefinition) -> Partitions:
        keys = definition.get_partition_keys()
        windows = (
            [definition.time_window_for_partition_key(key) for key in keys]
            if isinstance(definition, dg.TimeWindowPartitionsDefinition)
            else []
        )
        position = {key: number for number, key in enumerate(keys)}
        return Partitions(keys, position, [one.start for one in windows], [one.end for one in windows])

    def _edge(
        self,
        definition: dg.PartitionsDefinition,
        upstream: dg.PartitionsDefinition,
        offsets: tuple[int, int] | None,
        kind: type,
    ) -> Edge:
        mine, theirs = self._partitions_of(definition), self._partitions_of(upstream)
        end = len(theirs.keys)
        if offsets is not None:
            reads, own = [], []
            for start, stop in zip(mine.starts, mine.ends, strict=True):
                first, last = bisect_right(theirs.ends, start), bisect_left(theirs.starts, stop)
                begin, until = max(first + offsets[0], 0), min(last + offsets[1], end)
                reads.append(range(begin, until))
                own.append(range(max(begin, first), min(until, last)))
            return Edge(reads, own)
        positions = [theirs.position.get(key) for key in mine.keys]
        own = [range(0) if one is None else range(one, one + 1) for one in positions]
        return Edge([range(end)] * len(own) if kind is dg.AllPartitionMapping else own, own)


def _until_own_time(edge: Edge, upstream: Sequence[datetime | None], position: int) -> list[datetime]:
    """The moments of what a partition reads, but for what is later than its own time."""
    until = edge.own[position].stop
    return [moment for one in edge.reads[position] if one < until and (moment := upstream[one]) is not None]


def _any_or_none(able: Sequence[bool]) -> bool:
    return not able or any(able)
