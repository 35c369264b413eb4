"""Which metadata files of the lake ClickHouse's views name, and which snapshots those are.

Belongs here: reading the pins out of the views. Does not belong here: making the views (dbt_project/macros/lake_views.sql).
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.lake import local_path
from foundation.names import schema_prefix
from foundation.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.table import Table

PINNED = re.compile(r"iceberg\w+\('(?P<uri>[^']+)'.*?iceberg_metadata_file_path\s*=\s*'(?P<file>[^']+)'", re.IGNORECASE)


@dataclass(frozen=True)
class Pins:
    """What must stay of one table: metadata files by location, and the snapshots that are current in them."""

    metadata_files: frozenset[str]
    snapshots: frozenset[int]


def view_files(settings: Settings) -> frozenset[str]:
    """The locations of all metadata files that views of this environment name.

    Raises:
        AssayError: ClickHouse does not answer, so nobody knows what must stay.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    host, port = settings.clickhouse_address
    try:
        with clickhouse_connect.get_client(
            host=host, port=port, username=settings.clickhouse_user, password=settings.clickhouse_password
        ) as client:
            views = client.query(
                "select as_select from system.tables where database = {database:String} and engine = 'View'",
                parameters={"database": f"{schema_prefix(settings.environment)}lake"},
            ).result_rows
    except (ClickHouseError, OSError) as error:
        raise AssayError(
            f"ClickHouse does not say which states of the lake its views show: {str(error).splitlines()[0][:300]}",
            "see ./assay status, then run this again; nothing was deleted",
        ) from None
    return frozenset(named for (select,) in views for named in named_files(select))


def named_files(select: str) -> list[str]:
    """The metadata files that a view's statement names."""
    return [f"{match['uri'].rstrip('/')}/{match['file']}" for match in PINNED.finditer(select)]


def pins_of(settings: Settings, table: "Table", files: frozenset[str]) -> Pins:
    """Those of the views' files that are this table's, and their snapshots."""
    from pyiceberg.table import StaticTable

    folder = local_path(table.location()).rstrip("/") + "/"
    ours = frozenset(file for file in files if local_path(file).startswith(folder))
    snapshots: set[int] = set()
    for file in ours:
        try:
            static = StaticTable.from_metadata(file, settings.iceberg_catalog_properties())
        except FileNotFoundError:
            continue  # the view is broken already: dbt makes it anew at its next call
        snapshots |= {static.metadata.current_snapshot_id or 0}
    return Pins(ours, frozenset(snapshots - {0}))
