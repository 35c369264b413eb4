"""The Iceberg tables that ml/ writes: made from a list of columns, and a part of one replaced in one commit.

Belongs here: how that is done. Does not belong here: which columns a table has (the module that fills it).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from foundation.lake import current_snapshot_id, open_catalog
from foundation.lock import writer_lock, writer_of
from foundation.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

# Name, Iceberg's name of its type, and whether every row has a value.
Columns = Sequence[tuple[str, str, bool]]


def arrow_schema(columns: Columns) -> "pa.Schema":
    """What rows must look like to be written."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    return schema_to_pyarrow(_schema(columns), include_field_ids=False)


def open_table(settings: Settings, asset: tuple[str, str], columns: Columns) -> "Table":
    """A table of ml/, made on first use, partitioned by its first column, and widened when the model gains a feature."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    wanted = _schema(columns)
    name = settings.table(*asset)
    catalog = open_catalog(settings)
    catalog.create_namespace_if_not_exists(name.schema)
    first = PartitionSpec(
        PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name=wanted.fields[0].name)
    )
    table = catalog.create_table_if_not_exists(name.in_catalog, schema=wanted, partition_spec=first)
    if missing := [field for field in wanted.fields if field.name not in table.schema().column_names]:
        with table.update_schema() as update:
            for column in missing:
                # Rows that are there already have no value for it.
                update.add_column(column.name, column.field_type)
    return table


def replace_part(
    settings: Settings,
    asset: tuple[str, str],
    columns: Columns,
    rows: "pa.Table",
    part: str,
    properties: Mapping[str, str],
) -> int | None:
    """Replaces what a filter selects: a reader, or a kill, sees the old part or the new one.

    Args:
        rows: as `arrow_schema` says.
        part: PyIceberg's filter; what it selects goes.
        properties: of the snapshot, such as `dagster.run_id`.

    Returns:
        The snapshot that was written.
    """
    with writer_lock(settings, writer_of(*asset)), warnings.catch_warnings():
        # A part that is written for the first time has nothing to delete; PyIceberg warns of that.
        warnings.filterwarnings("ignore", message="Delete operation did not match any records")
        # Within the lock: maintenance may have committed while the rows were made.
        table = open_table(settings, asset, columns)
        table.overwrite(rows, overwrite_filter=part, snapshot_properties=dict(properties))
    return current_snapshot_id(table)


def _schema(columns: Columns) -> "Schema":
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    return Schema(
        *(
            NestedField.model_validate({"id": number, "name": name, "type": kind, "required": required})
            for number, (name, kind, required) in enumerate(columns, start=1)
        )
    )
