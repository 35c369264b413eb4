"""Questions to the Iceberg catalog that every engine's user asks: which table, which snapshot, which metadata file.

Belongs here: reading the catalog with PyIceberg. Does not belong here: writing, or any table's meaning.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.names import schema_prefix
from foundation.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

# What ClickHouse shows of the lake. Bronze and quarantine are for engineers, models for who trains them: Trino and Spark
# show them.
PUBLISHED = ("silver", "gold", "predictions", "monitoring")
# The layers whose tables are Iceberg's, in the order of the data.
LAYERS = ("bronze", "silver", "quarantine", "gold", "models", "predictions", "monitoring")
# A commit waits this long for another engine's commit to the SQLite catalog (the driver's default is 3 s).
CATALOG_BUSY_MILLISECONDS = 30_000
SQLITE_OPEN_READONLY = "1"


@dataclass(frozen=True)
class Pin:
    """One state of a table: where it is, its metadata file relative to that, and the snapshot that is current there."""

    layer: str
    table: str
    uri: str
    metadata: str
    snapshot_id: int

    @property
    def view(self) -> str:
        """The name of its view in ClickHouse's database `lake`."""
        return f"{self.layer}_{self.table}"


def open_catalog(settings: Settings, metadata_only: bool = False) -> "Catalog":
    """The Iceberg catalog of these settings, under the name that Spark and Trino give it too.

    Args:
        metadata_only: no rows will be read. Local metadata then comes without pyarrow, whose import takes 0.6 s.

    Raises:
        AssayError: the home was never started.
    """
    from pyiceberg.catalog import load_catalog

    if not settings.is_external("catalog") and not settings.catalog_file.parent.is_dir():
        raise AssayError(f"{settings.home} has no tables yet", "start it with ./assay up, or ./assay demo")
    light: dict[str, str] = {}
    if metadata_only and not settings.is_external("storage"):
        light = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
    return load_catalog(settings.catalog, **settings.iceberg_catalog_properties(), **light)


def jdbc_url(settings: Settings) -> str:
    """The embedded catalog as Java's engines reach it."""
    return f"jdbc:sqlite:{settings.catalog_file}?busy_timeout={CATALOG_BUSY_MILLISECONDS}"


def spark_catalog(settings: Settings) -> dict[str, str]:
    """The configuration of the embedded catalog in Spark; of a read-only look at a home, one that cannot commit."""
    name = f"spark.sql.catalog.{settings.catalog}"
    configuration = {
        name: "org.apache.iceberg.spark.SparkCatalog",
        f"{name}.type": "jdbc",
        f"{name}.uri": jdbc_url(settings),
        f"{name}.jdbc.schema-version": "V1",
        f"{name}.warehouse": settings.warehouse_uri,
        # Another engine's commit must be seen by the next statement; the default caches a table for 30 s.
        f"{name}.cache-enabled": "false",
    }
    return configuration | {f"{name}.jdbc.open_mode": SQLITE_OPEN_READONLY} if settings.read_only else configuration


def load_table(settings: Settings, layer: str, table: str) -> "Table":
    """The newest state of a table.

    Raises:
        AssayError: the table does not exist yet.
    """
    from pyiceberg.exceptions import NoSuchTableError

    name = settings.table(layer, table)
    try:
        return open_catalog(settings).load_table(name.in_catalog)
    except NoSuchTableError as error:
        raise AssayError(f"{name} does not exist", f"materialize the asset {layer}/{table}") from error


def current_snapshot_id(table: "Table") -> int | None:
    """The snapshot that a scan of this loaded table reads; None if nothing was ever written."""
    snapshot = table.current_snapshot()
    return None if snapshot is None else snapshot.snapshot_id


def pin_published(settings: Settings, layers: Iterable[str] = PUBLISHED) -> list[Pin]:
    """One state of every table of these layers of this environment that has rows or had them, in name order."""
    from pyiceberg.exceptions import NoSuchTableError

    catalog = open_catalog(settings, metadata_only=True)
    pins: list[Pin] = []
    for layer, table in _listed(settings, catalog, layers):
        try:
            loaded = catalog.load_table(settings.table(layer, table).in_catalog)
        except NoSuchTableError:
            continue  # dropped since it was listed
        snapshot = loaded.current_snapshot()
        if snapshot is not None:
            metadata = loaded.metadata_location.rsplit("/", 1)[1]
            pins.append(Pin(layer, table, local_path(loaded.location()), f"metadata/{metadata}", snapshot.snapshot_id))
    return pins


def iceberg_tables(settings: Settings) -> list[tuple[str, str]]:
    """(layer, table) of every Iceberg table of this environment, in the order of the data."""
    return list(_listed(settings, open_catalog(settings), LAYERS))


def _listed(settings: Settings, catalog: "Catalog", layers: Iterable[str]) -> Iterator[tuple[str, str]]:
    prefix = schema_prefix(settings.environment)
    for layer in layers:
        if catalog.namespace_exists(f"{prefix}{layer}"):
            for _, table in sorted(catalog.list_tables(f"{prefix}{layer}")):
                if "__dbt_" not in table:  # dbt's temporary tables come and go
                    yield layer, table


def local_path(location: str) -> str:
    """A local location without its scheme (Spark writes file:/a, Trino file:///a), any other as it is."""
    if location.startswith("file:"):
        return "/" + location.removeprefix("file:").lstrip("/")
    return location
