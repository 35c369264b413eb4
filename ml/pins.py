"""Which snapshots of the lake models and predictions name.

Belongs here: what expiry must ask before it removes a snapshot. Does not belong here: expiry (spark_assets/maintenance).
"""

from collections.abc import Mapping
from datetime import date

from foundation.errors import AssayError
from foundation.lake import load_table, open_catalog
from foundation.settings import Settings
from ml.predicting import PREDICTIONS
from ml.registry import RegistryDown, model_versions
from ml.training_set import SNAPSHOT_ID, TRAINING_SET


def named_snapshots(settings: Settings, since: date) -> dict[str, set[int]]:
    """Table (`lake.gold.flight_facts`) to the snapshots that a registered model learnt from, or that the predictions of a
    day were made from.

    A model's snapshots are tagged too; one that was registered by a run that was killed before it could tag is not yet.

    Args:
        since: predictions of earlier days no longer keep what they read: there is one snapshot a day.

    Raises:
        AssayError: MLflow does not answer, so nobody knows what must stay.
    """
    named: dict[str, set[int]] = {}
    try:
        models = model_versions(settings)
    except RegistryDown as error:
        raise AssayError(
            f"MLflow does not say what its models learnt from: {error.what}",
            "see ./assay status, then run this again; nothing was deleted",
        ) from error
    for model in models:
        for table, snapshots in model.snapshots.items():
            named.setdefault(table, set()).update(snapshots)
    features = {column: ("gold", view) for view, column in SNAPSHOT_ID.items()}
    # The training set as it is now, and what it was made from: the next model learns from it.
    _add_named(settings, named, TRAINING_SET, features, None)
    _add_named(
        settings,
        named,
        PREDICTIONS,
        {"schedule_snapshot_id": ("silver", "schedule"), **features},
        f"flight_date >= '{since}'",
    )
    return named


def _add_named(
    settings: Settings,
    named: dict[str, set[int]],
    table: tuple[str, str],
    read: Mapping[str, tuple[str, str]],
    rows: str | None,
) -> None:
    """What the rows of a table (all, or those that a filter finds) say in which column they were made from."""
    from pyiceberg.expressions import AlwaysTrue

    if not open_catalog(settings).table_exists(settings.table(*table).in_catalog):
        return
    loaded = load_table(settings, *table)
    # A table that was last written by an older version of this code lacks some.
    there = [column for column in read if column in loaded.schema().column_names]
    found = loaded.scan(row_filter=rows or AlwaysTrue(), selected_fields=tuple(there)).to_arrow()
    for column in there:
        values = found.column(column).unique().to_pylist()
        named.setdefault(str(settings.table(*read[column])), set()).update(
            value for value in values if value is not None
        )
