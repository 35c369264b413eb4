"""dbt's sources for Silver, generated from the contracts: `dbt_project/models/sources/silver.yml`.

Belongs here: what of a contract dbt may know. Does not belong here: the contract (foundation). The file is committed, so
that plain dbt works without the rest; set-up writes it anew, and a test holds that it is current.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from foundation.contract import Contract, Moment
from foundation.settings import PROJECT
from spark_assets.tables import silver_columns

FILE = PROJECT / "dbt_project" / "models" / "sources" / "silver.yml"
# An analyst's own environment reads the shared lake: ASSAY_SOURCE_PREFIX is the prefix of what is read.
SCHEMA = "{{{{ env_var('ASSAY_SOURCE_PREFIX', env_var('ASSAY_SCHEMA_PREFIX', '')) }}}}{}"
HEAD = "# Generated from contracts/ by `./assay up`. Change the contract, not this file.\n"


def silver_sources(contracts: Mapping[str, Contract]) -> str:
    """The file's text."""
    source = {
        "name": "silver",
        "description": "Typed, deduplicated, UTC: written by Spark from the contracts.",
        "database": "lake",
        "schema": SCHEMA.format("silver"),
        "tables": [_table(contract) for contract in contracts.values()],
    }
    return HEAD + yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, width=120, allow_unicode=True)


def write_silver_sources(contracts: Mapping[str, Contract]) -> None:
    """Writes the file if its text would change."""
    text = silver_sources(contracts)
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text, encoding="utf-8")


def _table(contract: Contract) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if contract.days:
        known["available"] = _moment(contract.days.available)
        if contract.days.row_available:
            known["row_available"] = asdict(contract.days.row_available)
    return {
        "name": contract.feed,
        "description": contract.description,
        "config": {"meta": {"owner": contract.owner, **known}},
        "columns": [{"name": name, "description": text} for name, (_, text) in silver_columns(contract).items()],
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {"days": moment.days, "minutes": moment.at.hour * 60 + moment.at.minute, "zone": str(moment.zone)}
