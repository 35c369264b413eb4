"""Opens Iceberg tables for Python by layer and table.

Belongs here: loading a table, which of its snapshots is current, and how PyIceberg is told which days. Does not belong
here: writing, or any table's meaning.
"""

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.names import CATALOG
from foundation.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


def open_catalog(settings: Settings) -> "Catalog":
    """The Iceberg catalog of these settings, under the name that Spark and Trino give it too."""
    from pyiceberg.catalog import load_catalog

    return load_catalog(CATALOG, **settings.iceberg_catalog_properties())


def load_table(settings: Settings, layer: str, table: str) -> "Table":
    """The newest state of a table.

    Args:
        settings: where the catalog is.
        layer: the first part of the asset key.
        table: the second part of the asset key.

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


def on_days(days: Iterable[date]) -> str:
    """PyIceberg's filter for some days, at least one, of a table with a `flight_date`."""
    quoted = ", ".join(f"'{day}'" for day in days)
    return f"flight_date in ({quoted})"


def before_day(day: date) -> str:
    """PyIceberg's filter for all days before one."""
    return f"flight_date < '{day}'"
