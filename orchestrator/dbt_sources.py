"""dbt's sources, generated from the contracts: `dbt_project/models/sources/feeds.yml`.

Belongs here: what of a contract dbt may know. Does not belong here: the contract (foundation). The file is committed, so
that plain dbt works without the rest; set-up writes it anew, and a test holds that it is current.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from foundation.contract import Contract, Moment
from foundation.settings import PROJECT
from spark_assets.tables import Columns, bronze_columns, silver_columns

FILE = PROJECT / "dbt_project" / "models" / "sources" / "feeds.yml"
# An analyst's own environment reads the shared lake: ASSAY_SOURCE_PREFIX is the prefix of what is read.
SCHEMA = "{{{{ env_var('ASSAY_SOURCE_PREFIX', env_var('ASSAY_SCHEMA_PREFIX', '')) }}}}{}"
HEAD = "# Generated from contracts/ by `./assay up`. Change the contract, not this file.\n"
# macros/freshness.sql says what these hours are: overdue, and a day overdue.
FRESHNESS = {
    "loaded_at_query": "{{ loaded_at() }}",
    "freshness": {"warn_after": {"count": 24, "period": "hour"}, "error_after": {"count": 48, "period": "hour"}},
}


def feed_sources(contracts: Mapping[str, Contract]) -> str:
    """The file's text: Silver of every feed, and Bronze of those whose every delivery is the whole table."""
    sources = [
        _source(
            "silver",
            "Typed, deduplicated, UTC: written by Spark from the contracts.",
            [_silver(contract) for contract in contracts.values()],
        ),
        _source(
            "bronze",
            "Every version of every file, as received. Of full feeds: Silver has the newest delivery alone.",
            [_bronze(contract) for contract in contracts.values() if contract.days is None],
        ),
    ]
    return HEAD + yaml.safe_dump({"version": 2, "sources": sources}, sort_keys=False, width=120, allow_unicode=True)


def write_feed_sources(contracts: Mapping[str, Contract]) -> None:
    """Writes the file if its text would change."""
    text = feed_sources(contracts)
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text, encoding="utf-8")


def _source(layer: str, description: str, tables: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": layer,
        "description": description,
        "database": "{{ env_var('ASSAY_CATALOG', 'lake') }}",
        "schema": SCHEMA.format(layer),
        # Trino reads them; ClickHouse has views of its own, pinned to the snapshots of a run.
        "config": {"enabled": "{{ target.type == 'trino' }}"},
        "tables": tables,
    }


def _silver(contract: Contract) -> dict[str, Any]:
    known: dict[str, Any] = {}
    days = contract.days
    if days:
        known |= {"day": days.column, "due": _moment(days.due), "available": _moment(days.available)}
        known |= {"ends": str(days.ends)} if days.ends else {}
        known |= {"row_available": asdict(days.row_available)} if days.row_available else {}
    return _table(contract, known, bool(days), silver_columns(contract))


def _bronze(contract: Contract) -> dict[str, Any]:
    known = {"due": _moment(contract.next_due)} if contract.next_due else {}
    return _table(contract, known, bool(known), bronze_columns(contract))


def _table(contract: Contract, known: Mapping[str, Any], has_due: bool, columns: Columns) -> dict[str, Any]:
    return {
        "name": contract.feed,
        "description": contract.description,
        "config": {"meta": {"owner": contract.owner, **known}, **(FRESHNESS if has_due else {})},
        "columns": [{"name": name, "description": text} for name, (_, text) in columns.items()],
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {"days": moment.days, "minutes": moment.at.hour * 60 + moment.at.minute, "zone": str(moment.zone)}
