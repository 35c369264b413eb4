"""A branch's copy of its base's lake: metadata of its own, over the base's data files.

Belongs here: cloning Iceberg tables, and which snapshots of the base living branches read. Does not belong here: the
branch's home and its other engines (deploy/embedded/branches).

A clone has its own location, manifests and metadata files; data and delete files stay the base's. `gc.enabled=false`
keeps every engine from deleting those. Manifests are copied although they would serve where they are: Trino's DROP TABLE
and full refresh delete manifests whatever that property says.
"""

import json
import re
import shutil
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.lake import iceberg_tables, local_path, open_catalog
from foundation.names import PhysicalName, schema_prefix
from foundation.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

FILE = "cloned.json"
# A commit between reading a table and copying its manifests may take these away; the next state has its own.
ATTEMPTS = 3
# Iceberg's format 3 has row lineage in its manifest lists, which PyIceberg does not write.
FORMAT_VERSION = 2
KEEPS_FILES = {"gc.enabled": "false"}
SAYS_SO = re.compile(rb'"gc\.enabled"\s*:\s*"false"')
# They would lead writes into the base's folders.
PATHS = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")


def clone_lake(base: Settings, branch: Settings) -> dict[str, int]:
    """Clones every table of the base, as it is now, into the branch's catalog.

    Args:
        base: a home with tables.
        branch: its branch, whose catalog file has no tables yet.

    Returns:
        The base's table (`lake.gold.facts`) to the snapshot that was cloned; tables that were never written are
        cloned too, but not in here.

    Raises:
        AssayError: a table is of a format that cannot be cloned.
    """
    catalog = open_catalog(base, metadata_only=True)
    found: dict[str, int] = {}
    rows: list[tuple[str, str, str]] = []
    for layer, name in iceberg_tables(base):
        of_base, of_branch = base.table(layer, name), branch.table(layer, name)
        table, metadata = _clone_newest(catalog, of_base.in_catalog, location=_location(branch, of_branch))
        rows.append((of_branch.schema, of_branch.table, metadata))
        if snapshot := table.current_snapshot():
            found[str(of_base)] = snapshot.snapshot_id
    (branch.home / FILE).write_text(json.dumps(found, indent=1))
    _register(branch, rows)
    return found


def cloned_snapshots(settings: Settings) -> dict[str, set[int]]:
    """Table (`lake.gold.facts`) to the snapshots that branches of this home were made from: their files must stay."""
    found: dict[str, set[int]] = {}
    for file in (settings.home / "branches").glob(f"*/{FILE}"):
        for table, snapshot in json.loads(file.read_text()).items():
            found.setdefault(table, set()).add(snapshot)
    return found


def keep_files_of_base(branch: Settings) -> list[str]:
    """Says `gc.enabled=false` again of the branch's tables that lost it: Trino's CREATE OR REPLACE TABLE forgets it while the
    table still knows the base's files, and a DROP would then delete those.

    Nothing is imported for a lake that is as it should be: it is asked before each statement that a person types.

    Returns:
        The tables, in the catalog's names, to which it was said.
    """
    with closing(sqlite3.connect(branch.catalog_file)) as connection:
        listed = connection.execute(
            "select table_namespace, table_name, metadata_location from iceberg_tables where catalog_name = ?",
            (branch.catalog,),
        ).fetchall()
    open_to_deletion = [f"{schema}.{table}" for schema, table, file in listed if not _keeps_files(file)]
    if open_to_deletion:
        catalog = open_catalog(branch, metadata_only=True)
        for name in open_to_deletion:
            with catalog.load_table(name).transaction() as change:
                change.set_properties(KEEPS_FILES)
    return open_to_deletion


def _keeps_files(metadata: str) -> bool:
    with suppress(FileNotFoundError):  # another commit was faster: the newest state is asked
        return SAYS_SO.search(Path(local_path(metadata)).read_bytes()) is not None
    return False


def _location(branch: Settings, name: PhysicalName) -> str:
    # With one slash: ClickHouse finds a file outside of the table's folder by cutting as many characters off as the location
    # has before its path, and Spark names the base's files file:/a. Trino's file:///a then is ///a to it, which is /a.
    return f"file:{local_path(branch.warehouse_uri)}/{name.schema}/{name.table}"


def _clone_newest(catalog: "Catalog", name: str, location: str) -> tuple["Table", str]:
    """The table that was cloned, and the clone's metadata file."""
    for _ in range(ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return (table := catalog.load_table(name)), _clone(table, location)
    return (table := catalog.load_table(name)), _clone(table, location)


def _clone(table: "Table", location: str) -> str:
    """Writes the clone's files; returns the location of its metadata file."""
    from pyiceberg.serializers import ToOutputFile
    from pyiceberg.table.refs import SnapshotRef
    from pyiceberg.table.snapshots import SnapshotLogEntry

    old = table.metadata
    if old.format_version != FORMAT_VERSION:
        raise AssayError(
            f"{'.'.join(table.name())} has Iceberg's format {old.format_version}; branches know {FORMAT_VERSION}",
            "rewrite the table in that format",
        )
    folder = Path(local_path(location)) / "metadata"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    snapshot = table.current_snapshot()
    changes: dict[str, object] = {
        "location": location,
        "table_uuid": uuid.uuid4(),
        "properties": {key: value for key, value in old.properties.items() if key not in PATHS} | KEEPS_FILES,
        "last_updated_ms": int(time.time() * 1000),
        "metadata_log": [],
        # Both are files of the base, which a DROP of the clone would delete.
        "statistics": [],
        "partition_statistics": [],
        "snapshots": [],
        "snapshot_log": [],
        "refs": {},
    }
    if snapshot:
        own = snapshot.model_copy(
            update={"manifest_list": _manifest_list(table, snapshot, folder), "parent_snapshot_id": None}
        )
        changes |= {
            "snapshots": [own],
            "snapshot_log": [
                SnapshotLogEntry.model_validate({"snapshot-id": own.snapshot_id, "timestamp-ms": own.timestamp_ms})
            ],
            "refs": {"main": SnapshotRef.model_validate({"snapshot-id": own.snapshot_id, "type": "branch"})},
        }
    file = f"file://{folder}/00000-{uuid.uuid4()}.metadata.json"
    ToOutputFile.table_metadata(old.model_copy(update=changes), table.io.new_output(file))
    return file


def _manifest_list(table: "Table", snapshot: "Snapshot", folder: Path) -> str:
    """Copies the manifests, and lists them with the sequence numbers they had: delete files go on applying."""
    from pyiceberg.manifest import ManifestFile, write_manifest_list

    file = f"file://{folder}/snap-{snapshot.snapshot_id}-{uuid.uuid4()}.avro"
    manifests: list[ManifestFile] = []
    for manifest in snapshot.manifests(table.io):
        source = Path(local_path(manifest.manifest_path))
        shutil.copyfile(source, folder / source.name)
        fields = (manifest[position] for position in range(1, len(manifest)))
        manifests.append(ManifestFile(f"file://{folder}/{source.name}", *fields))
    with write_manifest_list(
        FORMAT_VERSION, table.io.new_output(file), snapshot.snapshot_id, None, snapshot.sequence_number, "deflate"
    ) as listed:
        listed.add_manifests(manifests)
    return file


def _register(branch: Settings, rows: list[tuple[str, str, str]]) -> None:
    """One transaction for the whole lake: thirty by PyIceberg take seconds."""
    prefix = schema_prefix(branch.environment)
    schemas = sorted({schema for schema, _, _ in rows} | {f"{prefix}{layer}" for layer in ("bronze", "silver", "gold")})
    with closing(sqlite3.connect(branch.catalog_file)) as connection, connection:
        connection.executemany(
            "insert or replace into iceberg_namespace_properties values (?, ?, 'exists', 'true')",
            [(branch.catalog, schema) for schema in schemas],
        )
        connection.executemany(
            "insert or replace into iceberg_tables values (?, ?, ?, ?, null, 'TABLE')",
            [(branch.catalog, *row) for row in rows],
        )
