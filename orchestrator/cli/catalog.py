"""`./assay catalog`: a page for people on every table, as files that need no service.

Belongs here: where it is written, and the last rows: from the lake's files, and from ClickHouse if it answers. Does not belong
here: what else is said (orchestrator/catalog.py), the files (orchestrator/catalog_pages.py).
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from foundation.errors import AssayError
from foundation.lake import open_catalog
from foundation.settings import Settings
from orchestrator.cli.engines import newest_rows

if TYPE_CHECKING:
    import dagster as dg

    from orchestrator.catalog import LastRows, Rows

LAST = 5


def write_catalog(settings: Settings, console: Console, folder: Path | None) -> None:
    """Writes the catalog of this home and says where it is.

    Args:
        folder: the default is `catalog` in the home.

    Raises:
        AssayError: the home was never set up, or the folder holds something else.
    """
    from orchestrator.catalog import collect, dagster_address
    from orchestrator.catalog_pages import write
    from orchestrator.cli.tables import open_graph
    from orchestrator.domain_lineage import domain_columns
    from orchestrator.lineage import column_graph

    target = (folder or settings.home / "catalog").expanduser().resolve()
    with open_graph(settings) as graph:
        columns = column_graph(settings, domain_columns())
        found = collect(settings, graph.instance, graph.assets, graph.contracts, columns, last_rows(settings))
    index = write(found, target, graph.contracts, dagster_address(settings))
    made = sum(table.made_at is not None for table in found.tables)
    console.print(
        f"{len(found.tables)} tables, {made} of them made, as of {found.moment:%Y-%m-%d %H:%M} UTC. Open {index.as_uri()}",
        soft_wrap=True,
    )
    if not made:
        console.print("Nothing was made yet. Next: ./assay up, then put files into landing.", soft_wrap=True)


def last_rows(settings: Settings) -> "LastRows":
    """Reads a few rows of the newest partition of a table; ClickHouse is asked once whether it answers."""
    from orchestrator.catalog import Rows, is_iceberg

    down = _warehouse_is_down(settings)

    def read(key: "dg.AssetKey", partition: str | None, columns: Sequence[str], newest_by: str | None) -> "Rows":
        if is_iceberg(key):
            return _of_lake(settings, key, partition, columns)
        if key.path[0] != "warehouse":
            return Rows()
        if down or not columns:
            return Rows(note=down)
        try:
            answer = newest_rows(settings, key.path[1], columns, newest_by, LAST)
        except AssayError as error:
            return Rows(note=f"{error.what}.")
        return Rows(columns, answer.rows)

    return read


def _of_lake(settings: Settings, key: "dg.AssetKey", partition: str | None, columns: Sequence[str]) -> "Rows":
    from pyiceberg.exceptions import NoSuchTableError
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.types import DateType

    from orchestrator.catalog import Rows

    name = settings.table(*key.path)
    try:
        table = open_catalog(settings).load_table(name.in_catalog)
        schema = table.schema()
        days = [schema.find_field(field.source_id) for field in table.spec().fields]
        day = next((field.name for field in days if isinstance(field.field_type, DateType)), None)
        chosen = f"{day} = '{partition}'" if day and partition else AlwaysTrue()
        types = {field.name: str(field.field_type) for field in schema.fields}
        shown = [column for column in columns if column in types]
        if not shown:
            return Rows(types=types)
        rows = table.scan(chosen, selected_fields=tuple(shown), limit=LAST).to_arrow().select(shown)
    except (NoSuchTableError, OSError, AssayError) as error:
        return Rows(note=f"{name} cannot be read: {error}")
    return Rows(shown, [tuple(row.values()) for row in rows.to_pylist()], types)


def _warehouse_is_down(settings: Settings) -> str:
    """Why ClickHouse cannot be asked; nothing if it can."""
    try:
        socket.create_connection(settings.clickhouse_address, timeout=2).close()
    except (AssayError, OSError):
        return "ClickHouse did not answer when this was written."
    return ""
