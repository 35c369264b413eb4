"""What is in quarantine, read with PyIceberg: a look needs no engine.

Belongs here: counting and sampling quarantined rows. Does not belong here: judging them (classify), or making their days
again (orchestrator).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.settings import Settings
from spark_assets.classify import DUPLICATE, QUARANTINED

HIDDEN = "•••"
WHERE = ("source_file", "source_row", "reasons")


@dataclass(frozen=True)
class Quarantine:
    """What stands in a feed's quarantine table. `reasons` counts rows by day and reason (a row may have several), `rows` and
    `duplicates` by day; days are those of the files' paths, of a full feed those of arrival. `snapshot_id` is what was
    read."""

    reasons: dict[date, Counter[str]]
    rows: Counter[date]
    duplicates: Counter[date]
    snapshot_id: int | None


def count_quarantined(settings: Settings, contract: Contract) -> Quarantine:
    """Counts a feed's quarantine; an empty one if the feed was never refined."""
    found = Quarantine({}, Counter(), Counter(), None)
    try:
        table = load_table(settings, "quarantine", contract.feed)
    except AssayError:
        return found
    batches = table.scan(selected_fields=("ds", "fate", "reasons")).to_arrow_batch_reader()
    for batch in batches:
        for row in batch.to_pylist():
            if row["fate"] == DUPLICATE:
                found.duplicates[row["ds"]] += 1
                continue
            found.rows[row["ds"]] += 1
            found.reasons.setdefault(row["ds"], Counter()).update(row["reasons"])
    snapshot = table.current_snapshot()
    return Quarantine(found.reasons, found.rows, found.duplicates, snapshot.snapshot_id if snapshot else None)


def sample_quarantined(
    settings: Settings, contract: Contract, days: Sequence[date], reason: str | None, limit: int
) -> list[dict[str, Any]]:
    """Some quarantined rows as received, with file, row and every reason. Values of sensitive columns are not shown.

    Args:
        days: only these days' rows; none is every day.
        reason: only rows with this reason, such as `missing:dest`.
        limit: how many rows at most.
    """
    from pyiceberg.expressions import AlwaysTrue

    try:
        table = load_table(settings, "quarantine", contract.feed)
    except AssayError:
        return []
    quoted = ", ".join(f"'{day}'" for day in days)
    chosen = f"ds in ({quoted})" if days else AlwaysTrue()
    hidden = {column.name for column in contract.received if column.is_sensitive}
    # a malformed line is shown nowhere if any of its columns is nobody's business
    hidden |= {"corrupt_record"} if hidden else set()
    rows: list[dict[str, Any]] = []
    if not limit:
        return rows
    for batch in table.scan(row_filter=chosen).to_arrow_batch_reader():
        for row in batch.to_pylist():
            if row["fate"] not in (QUARANTINED, None) or (reason and reason not in row["reasons"]):
                continue
            rows.append(
                {name: HIDDEN if name in hidden and value is not None else value for name, value in row.items()}
            )
            if len(rows) == limit:
                return rows
    return rows
