"""dbt's sources are what the contracts say now, so that plain dbt works without the rest."""

from typing import Any

import yaml

from foundation.contract import load_contracts
from foundation.settings import PROJECT
from orchestrator.dbt_sources import FILE, feed_sources


def test_the_committed_file_is_what_the_contracts_say() -> None:
    assert FILE.read_text(encoding="utf-8") == feed_sources(load_contracts()), (
        f"{FILE.relative_to(PROJECT)} is not what contracts/ say: run ./assay up, and commit it"
    )


def sources() -> dict[str, dict[str, Any]]:
    """Source to table to its declaration."""
    found = yaml.safe_load(feed_sources(load_contracts()))["sources"]
    return {source["name"]: {table["name"]: table for table in source["tables"]} for source in found}


def test_every_contract_is_a_source_with_all_its_columns() -> None:
    silver = sources()["silver"]
    assert set(silver) == set(load_contracts())
    for feed, contract in load_contracts().items():
        named = [column["name"] for column in silver[feed]["columns"]]
        assert named[: len(contract.columns)] == [column.name for column in contract.columns]


def test_bronze_is_a_source_where_silver_has_the_newest_delivery_alone() -> None:
    assert set(sources()["bronze"]) == {feed for feed, contract in load_contracts().items() if contract.load == "full"}


def test_what_has_a_due_time_has_a_freshness() -> None:
    has = {
        (layer, name): "freshness" in table["config"] and "due" in table["config"]["meta"]
        for layer, tables in sources().items()
        for name, table in tables.items()
    }
    for feed, contract in load_contracts().items():
        assert has["silver", feed] == (contract.days is not None)
        if contract.days is None:
            assert has["bronze", feed] == (contract.next_due is not None)
