"""`./assay dbt docs`: one documentation site for both engines, with lineage from Silver to the marts.

Belongs here: making dbt's two manifests and catalogs one, and serving the site. Does not belong here: what stands in it;
that is the models' YAML. The page itself is dbt's own.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from foundation.errors import AssayError
from foundation.names import schema_prefix
from orchestrator.manifests import TARGETS
from orchestrator.selection import LAKE

if TYPE_CHECKING:
    from orchestrator.cli.dbt import DbtCall

HOST = "127.0.0.1"
# What of a manifest is a dictionary by id; the rest is taken from the first.
BY_ID = ("nodes", "sources", "macros", "docs", "exposures", "metrics", "groups", "selectors", "unit_tests")


def docs(call: "DbtCall", console: Console, words: Sequence[str]) -> int:
    """Writes the site and serves it until it is stopped.

    Raises:
        AssayError: an option is wrong, or the port is taken.
    """
    port, serve = _options(words)
    site = generated(call)
    if site is None:
        return 1
    if not serve:
        print(site)
        return 0
    handler = partial(_Quiet, directory=str(site))
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise AssayError(
            f"Port {port} cannot be used: {error.strerror}", "choose another, or none, with --port"
        ) from None
    console.print(f"The documentation is at http://{HOST}:{server.server_port} until you press Ctrl-C.", soft_wrap=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def generated(call: "DbtCall") -> Path | None:
    """The folder of the site; None if dbt could not make it, and has said why.

    It describes the shared tables, from the models as they are in this checkout.
    """
    settings = call.settings
    os.environ.update({"ASSAY_DBT_PREFIX": schema_prefix(settings.environment), "DBT_DEFER": "false"})
    folder = settings.dbt_target / (schema_prefix(settings.environment) + "docs")
    for target in TARGETS:
        call.pin(target)
        done = call.invoke(target, ["--quiet", "docs", "generate"], folder / target)
        if not done.success:
            return None
    site = folder / "site"
    site.mkdir(parents=True, exist_ok=True)
    for name, merge in (("manifest.json", merged_manifest), ("catalog.json", merged_catalog)):
        parts = [json.loads((folder / target / name).read_text()) for target in TARGETS]
        (site / name).write_text(json.dumps(merge(parts)))
    shutil.copy(folder / TARGETS[0] / "index.html", site / "index.html")
    return site


def merged_manifest(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One manifest of both: ClickHouse's sources on the lake are the models and sources that they show."""
    merged = dict(manifests[0]) | {part: {} for part in BY_ID} | {"disabled": {}, "parent_map": {}, "child_map": {}}
    for manifest in manifests:
        for part in BY_ID:
            merged[part] |= manifest.get(part) or {}
    stands_for = {source: shown for source in merged["sources"] if (shown := _shown(source, merged))}
    merged["sources"] = {name: source for name, source in merged["sources"].items() if name not in stands_for}
    # The tests of models that are the other engine's are in each manifest: those of the right one came with their model.
    merged["nodes"] = {
        name: _reading(node, stands_for)
        for name, node in merged["nodes"].items()
        if node.get("attached_node") in (None, *merged["nodes"])
    }
    merged["exposures"] = {name: _reading(node, stands_for) for name, node in merged["exposures"].items()}
    everything = {**merged["sources"], **merged["nodes"], **merged["exposures"]}
    merged["parent_map"] = {name: [] for name in everything}
    merged["child_map"] = {name: [] for name in everything}
    for name, node in everything.items():
        for parent in node.get("depends_on", {}).get("nodes", []):
            if parent in everything:
                merged["parent_map"][name].append(parent)
                merged["child_map"][parent].append(name)
    return merged


def merged_catalog(catalogs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One catalog of both."""
    merged = dict(catalogs[0]) | {"nodes": {}, "sources": {}}
    for catalog in catalogs:
        merged["nodes"] |= catalog["nodes"]
        merged["sources"] |= catalog["sources"]
    return merged


def _shown(source: str, manifest: Mapping[str, Any]) -> str | None:
    """What a source on ClickHouse's database `lake` shows: `lake.gold_x` the model x, `lake.silver_x` the source silver.x."""
    _, project, schema, name = source.split(".", 3)
    if schema != LAKE:
        return None
    layer, _, table = name.partition("_")
    candidates = [*(f"{kind}.{project}.{table}" for kind in ("model", "seed")), f"source.{project}.{layer}.{table}"]
    return next((one for one in candidates if one in manifest["nodes"] or one in manifest["sources"]), None)


def _reading(node: Mapping[str, Any], stands_for: Mapping[str, str]) -> dict[str, Any]:
    read = node.get("depends_on", {})
    parents = list(dict.fromkeys(stands_for.get(parent, parent) for parent in read.get("nodes", [])))
    return {**node, "depends_on": {**read, "nodes": parents}}


def _options(words: Sequence[str]) -> tuple[int, bool]:
    port, serve = 0, True
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if name == "--port" and (value or rest) and (number := value or rest.pop(0)).isdigit():
            port = int(number)
        elif word in ("--no-serve", "generate"):
            serve = False
        elif word != "serve":
            raise AssayError(f"./assay dbt docs does not know {word}", "use --port 8001 or --no-serve")
    return port, serve


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of what it served."""
