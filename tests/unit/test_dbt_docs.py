"""The documentation is one site: the two manifests become one, with lineage through both engines."""

from typing import Any

from orchestrator.cli.dbt_docs import merged_catalog, merged_manifest


def manifest(nodes: dict[str, list[str]], sources: list[str], **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"project_name": "assay"},
        "nodes": {name: {"depends_on": {"nodes": parents, "macros": []}} for name, parents in nodes.items()},
        "sources": {name: {"name": name} for name in sources},
        **{part: {} for part in ("macros", "docs", "exposures", "metrics", "groups", "selectors", "unit_tests")},
        **more,
    }


SILVER = "source.assay.silver.orders"
TRINO = manifest({"model.assay.facts": [SILVER]}, [SILVER])
CLICKHOUSE = manifest(
    {
        "model.assay.mart": ["source.assay.lake.gold_facts", "source.assay.lake.silver_orders"],
        "test.assay.of_gold": ["model.assay.facts"],
    },
    [SILVER, "source.assay.lake.gold_facts", "source.assay.lake.silver_orders", "source.assay.lake.predictions_delay"],
    exposures={"exposure.assay.board": {"depends_on": {"nodes": ["model.assay.mart"]}}},
)


def test_lineage_runs_from_silver_to_what_uses_a_mart() -> None:
    merged = merged_manifest([TRINO, CLICKHOUSE])
    assert merged["parent_map"]["model.assay.mart"] == ["model.assay.facts", SILVER]
    assert merged["parent_map"]["model.assay.facts"] == [SILVER]
    assert "model.assay.mart" in merged["child_map"]["model.assay.facts"]
    assert merged["child_map"]["model.assay.mart"] == ["exposure.assay.board"]
    # the page draws its graph from these
    assert merged["nodes"]["model.assay.mart"]["depends_on"]["nodes"] == ["model.assay.facts", SILVER]


def test_a_source_on_the_lake_that_nothing_else_describes_stays() -> None:
    sources = set(merged_manifest([TRINO, CLICKHOUSE])["sources"])
    assert sources == {SILVER, "source.assay.lake.predictions_delay"}


def test_a_test_whose_model_is_not_there_is_left_out() -> None:
    nobody = manifest({}, [])
    nobody["nodes"] = {"test.assay.x": {"attached_node": "model.assay.gone", "depends_on": {"nodes": []}}}
    assert merged_manifest([TRINO, nobody])["nodes"].keys() == {"model.assay.facts"}


def test_columns_of_both_engines_are_in_the_catalog() -> None:
    parts = [
        {"metadata": {}, "nodes": {"a": 1}, "sources": {}},
        {"metadata": {}, "nodes": {"b": 2}, "sources": {"s": 3}},
    ]
    merged = merged_catalog(parts)
    assert (merged["nodes"], merged["sources"]) == ({"a": 1, "b": 2}, {"s": 3})
