"""`./assay dagster asset materialize` and `asset list`: the selection is read before Dagster acts on it.

Belongs here: what of a selection is certainly a mistake. Does not belong here: what a selection means; Dagster says that.

Dagster drops the part of a selection that matches nothing, and takes a selection of such parts alone for the whole graph.
The second is refused for plain `dagster` too (orchestrator/executor.py); the first only here, where the words are known.
"""

import difflib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from foundation.errors import AssayError

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

CHECKED = (["asset", "materialize"], ["asset", "list"])
# The terms of an expression such as `key:"silver/x"+ or group:gold`.
TERM = re.compile(
    r'\b(?:key|group|tag|owner|kind|table_name|column|column_tag|code_location|status):(?:"[^"]*"|[^\s(),+]+)'
)


def read_options(words: Sequence[str]) -> dict[str, str]:
    """Dagster's options of a command line by their name: `--select x` and `--select=x`."""
    found: dict[str, str] = {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            found[name] = value if equals else next(iter(words[number + 1 : number + 2]), "")
    return found


def run_checked(words: Sequence[str]) -> None:
    """Refuses a selection or partition that is a mistake, then becomes dagster in this process, where the graph is loaded by
    now: the check costs no second load of it.

    Raises:
        AssayError: a part of the selection matches nothing, or a partition is none of an asset's; nothing was run.
        SystemExit: dagster's exit code.
    """
    from dagster._cli import main

    from orchestrator.definitions import defs

    options = read_options(words)
    refuse_mistakes(
        defs.get_repository_def().asset_graph,
        options.get("--select", ""),
        options.get("--partition", ""),
        options.get("--partition-range", ""),
        makes=words[1] == "materialize",
    )
    sys.argv = ["dagster", *words]
    main()


def refuse_mistakes(graph: "AssetGraph", select: str, partition: str = "", days: str = "", makes: bool = False) -> None:
    """Looks at each part of a selection by itself.

    Args:
        select: parts with commas between them, as Dagster reads them.
        partition: one partition, or empty.
        days: a range `first...last`, or empty.
        makes: whether the assets are to be made, for which those of partitions need one.

    Raises:
        AssayError: a part or a term is no selection, or matches no asset; an asset has no such partition, or the range ends
            before it begins.
    """
    import dagster as dg
    from dagster._check import CheckError

    def matched(part: str) -> set[dg.AssetKey]:
        try:
            return set(dg.AssetSelection.from_coercible([part]).resolve(graph, allow_missing=True))
        except (
            dg.DagsterError,
            CheckError,
            NotImplementedError,
        ) as error:  # it does not parse, or asks what is not known here
            raise AssayError(
                f"--select {part!r} is no selection of assets",
                """write silver/orders, key:"silver/*" or group:silver, with commas between them, in single quotes""",
            ) from error

    known = sorted(key.to_user_string() for key in graph.get_all_asset_keys())
    keys: set[dg.AssetKey] = set()
    for part in filter(None, map(str.strip, select.split(","))):
        for piece in [*TERM.findall(part), part]:
            if not matched(piece):
                raise _matches_nothing(piece, known)
        keys |= matched(part)
    ends = days.split("...") if days else [partition] if partition else []
    partitioned = {
        key.to_user_string(): definition
        for key in sorted(keys, key=lambda one: one.to_user_string())
        if (definition := graph.get(key).partitions_def) is not None
    }
    if partition and days:
        raise AssayError("--partition and --partition-range both name partitions", "leave one of them out")
    if makes and partitioned and not ends:
        asset, definition = next(iter(partitioned.items()))
        raise AssayError(
            f"{asset} has partitions, and none is named",
            f"add --partition {definition.get_last_partition_key()}, or --partition-range first...last",
        )
    if days and len(ends) != 2:
        raise AssayError(f"--partition-range {days} is no range", "write it as first...last, with three dots")
    if len(ends) == 2 and ends[0] > ends[1]:
        raise AssayError(
            f"--partition-range {days} ends before it begins", f"write it as --partition-range {ends[1]}...{ends[0]}"
        )
    for asset, definition in partitioned.items():
        for end in ends:
            if not definition.has_partition_key(end):
                first, last = definition.get_first_partition_key(), definition.get_last_partition_key()
                raise AssayError(f"{asset} has no partition {end!r}", f"choose one from {first} to {last}")


def _matches_nothing(piece: str, known: Sequence[str]) -> AssayError:
    word = piece.partition(":")[2].strip('"+') or piece.strip("+")
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return AssayError(
        f"--select {piece} matches no asset",
        f"did you mean {', '.join(near)}?" if near else "./assay tables lists what there is",
    )
