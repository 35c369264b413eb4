"""All that a tree of this project declares, as JSON, so that two commits can be held side by side, each read by its own code.

    python -m orchestrator.describe FILE          in the tree's folder; `ASSAY_HOME` is a folder of the description's own

Belongs here: what a description holds. Does not belong here: comparing two (impact), where trees come from (trees). It may
write into the tree: it is a copy. No engine is asked; no home of a person's is read.

Of each asset `makes` has the fingerprints of what its rows are made by, and `says` of what is only told of it.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foundation.contract import Contract, load_contracts
from foundation.contract_changes import facts
from foundation.settings import PROJECT, Settings, load
from orchestrator import meaning
from orchestrator.dbt_sources import write_feed_sources
from orchestrator.domain_lineage import domain_columns
from orchestrator.lineage import Made, column_graph
from orchestrator.manifests import TARGETS, asset_path, build, read_manifest, why_unrendered

FORMAT = 1
# A home that was set up, as far as dbt's profile looks: nobody listens there.
NOWHERE = dict.fromkeys(("spark", "trino", "clickhouse", "mlflow", "dagster", "dagster-code"), 1)
SPARK = {
    "bronze": ("spark_assets/bronze.py", "spark_assets/tables.py"),
    "silver": ("spark_assets/classify.py", "spark_assets/publish.py", "spark_assets/tables.py"),
}
SPARK["quarantine"] = SPARK["silver"]
# Of a node's config, what is of its rows. The rest is told of it: owners, access, documentation.
CONFIG = ("materialized", "unique_key", "range_column", "order_by", "engine", "partition_by", "column_types")
MADE_OF_ROWS = ("model", "seed", "snapshot")
OWN_IMPORT = re.compile(r"^from (spark_assets\.silver)(?:\.(\w+))? import (.+)$", re.MULTILINE)


def prepare(settings: Settings) -> None:
    """Writes dbt's sources into the tree, as `./assay up` would, and builds the manifests in a home of the description's own.

    Raises:
        AssayError: a contract is refused, or dbt cannot parse the project.
    """
    write_feed_sources(load_contracts())
    settings.services_dir.mkdir(parents=True, exist_ok=True)
    (settings.services_dir / "addresses.json").write_text(json.dumps(NOWHERE))
    (settings.services_dir / "clickhouse.password").write_text("none\n")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda target: build(settings, target), TARGETS))


def describe(settings: Settings) -> dict[str, Any]:
    """This tree's description.

    Raises:
        AssayError: a contract is refused, or dbt's manifests were never built.
    """
    contracts = load_contracts()
    graph = column_graph(settings, domain_columns())
    known = {asset: _asset(made) for asset, made in graph.made.items()}
    for contract in contracts.values():
        for layer in ("landing", "bronze", "quarantine", "silver"):
            known[f"{layer}/{contract.feed}"] |= _of_contract(contract, layer)
    for target in TARGETS:
        manifest = read_manifest(settings, target)
        for asset, said in _of_dbt(manifest):
            known[asset] |= said
    return {
        "format": FORMAT,
        "contracts": {feed: facts(contract) for feed, contract in contracts.items()},
        "assets": known,
        "unrendered": {target: why for target in TARGETS if (why := why_unrendered(settings, target))},
    }


def _asset(made: Made) -> dict[str, Any]:
    makes = {file: _python(file) for file in made.code}
    if made.recipe:
        makes["recipe"] = meaning.fingerprint(repr(sorted(made.recipe.items())))
    return {
        "how": made.how,
        "columns": {name: [str_of(node) for node in of] for name, of in made.columns.items()},
        "rows": [str_of(node) for node in made.rows],
        "types": {},
        "makes": makes,
        "says": {},
        "keys": list(made.keys),
        "day": made.day,
        "by": "days" if made.day else None,
    }


def str_of(node: tuple[str, str | None]) -> list[str | None]:
    """A node of the graph as JSON can hold it."""
    return [node[0], node[1]]


def _of_contract(contract: Contract, layer: str) -> dict[str, Any]:
    if layer == "landing":
        return {}
    files = [*SPARK[layer], *(_transform(contract.feed) if layer != "bronze" else ())]
    row = ["source_file", "source_sequence", "source_row"]
    day = contract.days and (contract.days.column if layer == "silver" else "ds")
    return {
        "makes": {file: _python(file) for file in files},
        "keys": list(contract.keys) if layer == "silver" else row,
        "day": day,
        "by": "days" if contract.days else None,
    }


def _transform(feed: str) -> list[str]:
    """The file of a feed's `transform`, and those beside it that it takes from."""
    found: list[str] = []
    todo = [feed]
    while todo:
        file = f"spark_assets/silver/{todo.pop()}.py"
        if file not in found and (PROJECT / file).exists():
            found.append(file)
            for _, module, names in OWN_IMPORT.findall((PROJECT / file).read_text(encoding="utf-8")):
                todo += [module] if module else [name.split()[0] for name in names.split(",")]
    return found


def _of_dbt(manifest: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    tests: dict[str, dict[str, str]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            of = node.get("attached_node") or _tested(manifest, node)
            what = [node.get("test_metadata"), node["config"].get("severity"), node["config"].get("where")]
            found = meaning.fingerprint(meaning.macro(node["raw_code"]) + json.dumps(what))
            tests.setdefault(of, {})[f"check {node['name']}"] = found
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] in MADE_OF_ROWS:
            yield "/".join(asset_path(node)), _of_node(manifest, node, tests.get(unique_id, {}))
    for exposure in manifest.get("exposures", {}).values():
        said = {name: exposure.get(name) for name in ("type", "owner", "url", "maturity")}
        yield f"exposures/{exposure['name']}", {"says": {"declaration": meaning.fingerprint(json.dumps(said))}}


def _of_node(manifest: Mapping[str, Any], node: Mapping[str, Any], tests: Mapping[str, str]) -> dict[str, Any]:
    config, dialect = node["config"], manifest["metadata"]["adapter_type"]
    makes: dict[str, Any] = {"config": meaning.fingerprint(json.dumps({name: config.get(name) for name in CONFIG}))}
    makes |= {f"macro {name}": found for name, found in _macros(manifest, node).items()}
    if node["resource_type"] == "seed":
        makes["rows"] = node["checksum"]["checksum"][:16]
    else:
        makes["Jinja"] = meaning.jinja(node["raw_code"])
        makes["SQL"] = meaning.sql(node.get("compiled_code") or node["raw_code"], dialect)
    keys = config.get("unique_key") or []
    rules = [node.get("constraints"), *([name, one.get("constraints")] for name, one in node["columns"].items())]
    says = {
        "rules": meaning.fingerprint(json.dumps(rules)),
        "automation, owner": meaning.fingerprint(json.dumps([config.get("meta"), config.get("group"), node["tags"]])),
    }
    return {
        "types": {name: one.get("data_type") for name, one in node["columns"].items()},
        "makes": makes,
        "says": {**says, **tests},
        "keys": [keys] if isinstance(keys, str) else list(keys),
        "day": config.get("range_column"),
        "by": _partitions(node),
        "view": config.get("materialized") == "view",
        "sql_of": dialect,
    }


def _partitions(node: Mapping[str, Any]) -> str | None:
    """Whether its column of days holds days, or months by their first day, as a rule of its says."""
    day = node["config"].get("range_column")
    rules = [one.get("expression") for one in node.get("constraints") or ()]
    return None if "daily" not in node["tags"] else "months" if f"{day} = toStartOfMonth({day})" in rules else "days"


def _macros(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, str]:
    """The project's macros that make a node's rows: those that its SQL calls, and its materialization's; not its hooks'."""
    own, dialect = f"macro.{node['package_name']}.", manifest["metadata"]["adapter_type"]
    hooks = " ".join(hook["sql"] for hook in node["config"].get("post-hook", []) + node["config"].get("pre-hook", []))
    waiting = [
        name
        for name in node.get("depends_on", {}).get("macros", [])
        if (short := name.rsplit(".", 1)[1]) in node["raw_code"] or short not in hooks
    ]
    waiting.append(f"{own}materialization_{node['config'].get('materialized')}_{dialect}")
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name.startswith(own) and name in manifest["macros"] and name.removeprefix(own) not in found:
            one = manifest["macros"][name]
            found[name.removeprefix(own)] = meaning.macro(one["macro_sql"])
            waiting += one["depends_on"]["macros"]
    return found


def _tested(manifest: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """The node of a test that stands in a file of its own: the one that it names, else the last that it reads."""
    named = test["config"].get("meta", {}).get("dagster", {}).get("ref", {}).get("name")
    read = [one for one in test["depends_on"]["nodes"] if one in manifest["nodes"]]
    return next((one for one in read if manifest["nodes"][one]["name"] == named), read[-1] if read else "")


def _python(file: str) -> str:
    return meaning.python((PROJECT / file).read_text(encoding="utf-8"), str(PROJECT / file))


if __name__ == "__main__":
    from foundation.errors import AssayError

    try:
        prepare(load())
        said = describe(load())
    except AssayError as error:
        sys.exit(f"{error.what}.\nNext: {error.next_action}.")
    Path(sys.argv[1]).write_text(json.dumps(said))
