"""A branch's clone of the lake: the same rows at once, and nothing that is done to it reaches the base's files."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from deploy.embedded.programs import make_catalog
from foundation.errors import AssayError
from foundation.lake import local_path, open_catalog
from foundation.settings import Settings, branch_settings, load_base
from spark_assets.clone import clone_lake, cloned_snapshots, keep_files_of_base
from spark_assets.maintenance import expirable

ROWS = pa.table({"day": ["a", "a", "b"], "n": [1, 2, 3]})


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with one table of two commits, one that was never written, and one of a person's own environment."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    settings = load_base()
    make_catalog(settings.catalog_file)
    catalog = open_catalog(settings)
    for schema in ("silver", "gold", "dev_ana__gold"):
        catalog.create_namespace(schema)
    table = catalog.create_table("gold.facts", ROWS.schema)
    table.append(ROWS)
    table.append(pa.table({"day": ["c"], "n": [4]}))
    catalog.create_table("silver.nothing", ROWS.schema)
    catalog.create_table("dev_ana__gold.facts", ROWS.schema).append(ROWS)
    return settings


@pytest.fixture
def branch(base: Settings) -> Settings:
    made = branch_settings(base, "pr-42")
    made.home.mkdir(parents=True)
    make_catalog(made.catalog_file)
    clone_lake(base, made)
    return made


def files(settings: Settings) -> dict[str, str]:
    """Every file of a warehouse, and what is in it."""
    found = Path(local_path(settings.warehouse_uri)).rglob("*")
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in found if file.is_file()}


def rows(catalog: Catalog, name: str) -> list[dict[str, object]]:
    return catalog.load_table(name).scan().to_arrow().sort_by("n").to_pylist()


def test_a_branch_has_every_table_of_its_base_and_nobody_elses(base: Settings, branch: Settings) -> None:
    catalog = open_catalog(branch)
    assert rows(catalog, "pr_42__gold.facts") == rows(open_catalog(base), "gold.facts")
    assert rows(catalog, "pr_42__silver.nothing") == []
    assert catalog.list_tables("pr_42__gold") == [("pr_42__gold", "facts")]
    with_tables = {space[0] for space in catalog.list_namespaces() if catalog.list_tables(space)}
    assert with_tables == {"pr_42__gold", "pr_42__silver"}


def test_a_clone_has_metadata_of_its_own_over_the_bases_data(base: Settings, branch: Settings) -> None:
    old, own = open_catalog(base).load_table("gold.facts"), open_catalog(branch).load_table("pr_42__gold.facts")
    assert own.metadata.table_uuid != old.metadata.table_uuid
    assert own.current_snapshot().snapshot_id == old.current_snapshot().snapshot_id  # pyright: ignore[reportOptionalMemberAccess]
    assert len(own.metadata.snapshots) == 1
    assert own.properties["gc.enabled"] == "false"

    def manifests(table: object) -> list[tuple[int, int, int]]:
        found = table.current_snapshot().manifests(table.io)  # pyright: ignore[reportAttributeAccessIssue]
        return [(one.sequence_number, one.min_sequence_number, one.manifest_length) for one in found]

    # A delete file applies to data of lower numbers only.
    assert manifests(own) == manifests(old)
    data = {task.file.file_path for task in old.scan().plan_files()}
    assert {task.file.file_path for task in own.scan().plan_files()} == data
    home = str(branch.home)
    listed = own.current_snapshot().manifests(own.io)  # pyright: ignore[reportOptionalMemberAccess]
    below = [own.location(), own.metadata_location, own.current_snapshot().manifest_list]  # pyright: ignore[reportOptionalMemberAccess]
    assert all(local_path(at).startswith(home) for at in [*below, *(one.manifest_path for one in listed)])


def test_what_a_branch_writes_is_the_branchs_alone(base: Settings, branch: Settings) -> None:
    before, catalog = files(base), open_catalog(branch)
    table = catalog.load_table("pr_42__gold.facts")
    table.overwrite(pa.table({"day": ["a"], "n": [9]}), overwrite_filter="day = 'a'")
    assert [row["n"] for row in rows(catalog, "pr_42__gold.facts")] == [3, 4, 9]
    table.delete("n = 3")
    catalog.purge_table("pr_42__silver.nothing")
    assert files(base) == before
    assert [row["n"] for row in rows(open_catalog(base), "gold.facts")] == [1, 2, 3, 4]


def test_what_the_base_writes_later_does_not_reach_the_branch(base: Settings, branch: Settings) -> None:
    open_catalog(base).load_table("gold.facts").overwrite(pa.table({"day": ["z"], "n": [0]}))
    assert [row["n"] for row in rows(open_catalog(branch), "pr_42__gold.facts")] == [1, 2, 3, 4]


def test_the_bases_upkeep_spares_what_a_living_branch_reads(base: Settings, branch: Settings) -> None:
    table = open_catalog(base).load_table("gold.facts")
    cloned = table.current_snapshot().snapshot_id  # pyright: ignore[reportOptionalMemberAccess]
    for n in range(3):
        table.overwrite(pa.table({"day": ["z"], "n": [n]}))
    assert cloned_snapshots(base) == {"lake.gold.facts": {cloned}}
    from datetime import UTC, datetime

    future = datetime(2999, 1, 1, tzinfo=UTC)
    assert cloned in expirable(table, [], future, keep_last=1)
    assert cloned not in expirable(table, cloned_snapshots(base)["lake.gold.facts"], future, keep_last=1)
    own = open_catalog(branch).load_table("pr_42__gold.facts")
    own.append(ROWS)
    assert expirable(own, [], future, keep_last=1) == []


def test_a_table_that_forgot_whose_files_it_has_is_told_again(base: Settings, branch: Settings) -> None:
    assert keep_files_of_base(branch) == []
    with open_catalog(branch).load_table("pr_42__gold.facts").transaction() as change:
        change.remove_properties("gc.enabled")  # as Trino's CREATE OR REPLACE TABLE does
    assert keep_files_of_base(branch) == ["pr_42__gold.facts"]
    assert open_catalog(branch).load_table("pr_42__gold.facts").properties["gc.enabled"] == "false"
    assert keep_files_of_base(branch) == []
    assert "gc.enabled" not in open_catalog(base).load_table("gold.facts").properties


def test_cloning_again_after_a_kill_gives_the_same_tables(base: Settings, branch: Settings) -> None:
    clone_lake(base, branch)
    assert rows(open_catalog(branch), "pr_42__gold.facts") == rows(open_catalog(base), "gold.facts")
    metadata = Path(local_path(open_catalog(branch).load_table("pr_42__gold.facts").location())) / "metadata"
    assert len(list(metadata.glob("*.metadata.json"))) == 1


def test_a_format_that_cannot_be_cloned_is_named(base: Settings, branch: Settings) -> None:
    table = open_catalog(base).load_table("gold.facts")
    file = Path(local_path(table.metadata_location))
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, "format-version": 3, "next-row-id": 0}))
    with pytest.raises(AssayError, match=r"gold\.facts has Iceberg's format 3"):
        clone_lake(base, branch)
