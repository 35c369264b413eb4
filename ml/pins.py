"""Which snapshots of the lake models and predictions name.

Belongs here: what expiry must ask before it removes a snapshot. Does not belong here: expiry (spark_assets/maintenance).
"""

from datetime import date

from foundation.errors import AssayError
from foundation.lake import load_table, open_catalog
from foundation.settings import Settings
from ml.predicting import PREDICTIONS
from ml.registry import model_versions


def named_snapshots(settings: Settings, since: date) -> dict[str, set[int]]:
    """Table (`lake.gold.flight_facts`) to the snapshots that a registered model learnt from, or that the predictions of a
    day were made from.

    A model's snapshots are tagged too; one that was registered by a run that was killed before it could tag is not yet.

    Args:
        since: predictions of earlier days no longer keep what they read: there is one snapshot a day.

    Raises:
        AssayError: MLflow does not answer, so nobody knows what must stay.
    """
    from mlflow.exceptions import MlflowException

    named: dict[str, set[int]] = {}
    try:
        models = model_versions(settings)
    except MlflowException as error:
        raise AssayError(
            f"MLflow does not say what its models learnt from: {str(error).splitlines()[0][:300]}",
            "see ./assay status, then run this again; nothing was deleted",
        ) from None
    for model in models:
        for table, snapshot in model.snapshots.items():
            named.setdefault(table, set()).add(snapshot)
    if not open_catalog(settings).table_exists(settings.table(*PREDICTIONS).in_catalog):
        return named
    read = {"schedule_snapshot_id": ("silver", "schedule"), "history_snapshot_id": ("gold", "carrier_history")}
    rows = (
        load_table(settings, *PREDICTIONS)
        .scan(row_filter=f"flight_date >= '{since}'", selected_fields=tuple(read))
        .to_arrow()
    )
    for column, table in read.items():
        values = rows.column(column).unique().to_pylist()
        named.setdefault(str(settings.table(*table)), set()).update(value for value in values if value is not None)
    return named
