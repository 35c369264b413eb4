"""dbt's sources for Silver are what the contracts say now, so that plain dbt works without the rest."""

import yaml

from foundation.contract import load_contracts
from orchestrator.dbt_sources import FILE, feed_sources


def test_the_committed_file_is_what_the_contracts_say() -> None:
    assert FILE.read_text(encoding="utf-8") == feed_sources(load_contracts()), "run ./assay up and commit the file"


def test_every_contract_is_a_source_with_all_its_columns() -> None:
    (source,) = yaml.safe_load(feed_sources(load_contracts()))["sources"]
    tables = {table["name"]: [column["name"] for column in table["columns"]] for table in source["tables"]}
    assert set(tables) == set(load_contracts())
    for feed, contract in load_contracts().items():
        assert tables[feed][: len(contract.columns)] == [column.name for column in contract.columns]
