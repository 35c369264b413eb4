"""Judges each scheduled flight two hours before it leaves, from schedule and features alone.

Belongs here: choosing a model for a day, predicting, and writing `predictions/arrival_delay`. Does not belong here: how
good predictions were (scoring.py), training, or when any of this runs.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table, open_catalog
from foundation.lock import writer_lock, writer_of
from foundation.settings import Settings
from ml.features import FLIGHT_COLUMNS, HISTORY_AVAILABLE_AT, KEY, MODEL_COLUMNS, NUMERIC, on_days, with_features
from ml.registry import RegisteredModel, connect, model_name, model_versions

if TYPE_CHECKING:
    import pandas as pd
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

PREDICTIONS = ("predictions", "arrival_delay")


@dataclass(frozen=True)
class DayPrediction:
    """What became of one day.

    Args:
        day: the partition.
        error: why nothing was written for it; None if it was, and then all that follows is known.
        rows: flights judged, one row each.
        without_history: how many of them had no feature that was known in time.
        mean_probability: the share of flights expected to be late.
        model: the version that judged them.
        schedule_snapshot_id, history_snapshot_id: what was read; the history's is None if that table is empty.
        snapshot_id: what was written.
    """

    day: date
    error: AssayError | None = None
    rows: int = 0
    without_history: int = 0
    mean_probability: float | None = None
    model: RegisteredModel | None = None
    schedule_snapshot_id: int | None = None
    history_snapshot_id: int | None = None
    snapshot_id: int | None = None


def choose_model(settings: Settings, day: date) -> RegisteredModel:
    """The newest version that learnt only from days before a day; of equal ones the highest. Withdrawn ones never are.

    Raises:
        AssayError: there is none.
    """
    return _choose(settings, model_versions(settings), day)


def _choose(settings: Settings, versions: Sequence[RegisteredModel], day: date) -> RegisteredModel:
    fit = [model for model in versions if model.trained_through < day and not model.withdrawn]
    if not fit:
        raise AssayError(
            f"{model_name(settings)} has no version in MLflow that learnt only from days before {day}",
            f"materialize models/arrival_delay for {day:%Y-%m}",
        )
    return max(fit, key=lambda model: (model.trained_through, model.version))


def predict(settings: Settings, days: Sequence[date], lineage: Mapping[str, str]) -> list[DayPrediction]:
    """Judges every flight of the schedule of some days and replaces those days in one commit.

    A day that cannot be judged keeps what it had and does not hold up the others.

    Args:
        settings: the environment.
        days: the partitions, in any order.
        lineage: properties for the Iceberg snapshot, such as `dagster.run_id`.

    Returns:
        An outcome per day, in the order of `days`.

    Raises:
        AssayError: schedule or history do not exist at all.
    """
    import pandas as pd

    wanted = list(dict.fromkeys(days))
    if not wanted:
        return []
    schedule_name = settings.table("silver", "schedule")
    schedule = load_table(settings, "silver", "schedule")
    schedule_snapshot = current_snapshot_id(schedule)
    flights = schedule.scan(row_filter=on_days(wanted), selected_fields=tuple(FLIGHT_COLUMNS)).to_arrow().to_pandas()
    versions = model_versions(settings)
    outcomes: dict[date, DayPrediction] = {}
    models: dict[date, RegisteredModel] = {}
    for day in wanted:
        try:
            _check_schedule(str(schedule_name), day, flights.loc[flights["flight_date"] == day])
            models[day] = _choose(settings, versions, day)
        except AssayError as error:
            outcomes[day] = DayPrediction(day, error=error)
    if not models:
        return [outcomes[day] for day in wanted]

    frame, history_snapshot = with_features(settings, flights.loc[flights["flight_date"].isin(list(models))])
    judged = [
        _judge(settings, frame.loc[frame["flight_date"].isin([d for d, m in models.items() if m is model])], model)
        for model in {model.version: model for model in models.values()}.values()
    ]
    written = pd.concat(judged).assign(schedule_snapshot_id=schedule_snapshot, history_snapshot_id=history_snapshot)
    snapshot = _replace_days(settings, written, list(models), lineage)
    for day, model in models.items():
        rows = written.loc[written["flight_date"] == day]
        outcomes[day] = DayPrediction(
            day=day,
            rows=len(rows),
            without_history=int(rows[HISTORY_AVAILABLE_AT].isna().sum()),
            mean_probability=float(rows["delay_probability"].mean()),
            model=model,
            schedule_snapshot_id=schedule_snapshot,
            history_snapshot_id=history_snapshot,
            snapshot_id=snapshot,
        )
    return [outcomes[day] for day in wanted]


def _check_schedule(schedule: str, day: date, flights: "pd.DataFrame") -> None:
    if flights.empty:
        raise AssayError(f"{schedule} has no flight on {day}", f"materialize silver/schedule for {day}")
    twice = int(flights.duplicated(KEY).sum())
    if twice:
        raise AssayError(
            f"{schedule} has {twice} flights twice on {day}, by {', '.join(KEY)}",
            f"materialize silver/schedule for {day} again",
        )


def _judge(settings: Settings, frame: "pd.DataFrame", model: RegisteredModel) -> "pd.DataFrame":
    answer = connect(settings).pyfunc.load_model(model.uri).predict(frame.filter(items=MODEL_COLUMNS))
    return frame.assign(
        delay_probability=answer["delay_probability"].to_numpy(),
        delayed=answer["delayed"].to_numpy(),
        model_version=model.version,
        model_run_id=model.run_id,
        trained_through=model.trained_through,
    )


def _schema() -> "Schema":
    """The predictions' columns; everything a reader may group by is required."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import (
        BooleanType,
        DateType,
        DoubleType,
        IntegerType,
        LongType,
        NestedField,
        StringType,
        TimestamptzType,
    )

    columns = [
        ("flight_date", DateType(), True),
        ("carrier", StringType(), True),
        ("flight", IntegerType(), True),
        ("origin", StringType(), True),
        ("dest", StringType(), False),
        ("sched_dep_time", IntegerType(), True),
        ("scheduled_departure", TimestamptzType(), False),
        ("judged_at", TimestamptzType(), False),
        *((name, DoubleType(), False) for name in NUMERIC),
        (HISTORY_AVAILABLE_AT, TimestamptzType(), False),
        ("delay_probability", DoubleType(), True),
        ("delayed", BooleanType(), True),
        ("model_version", IntegerType(), True),
        ("model_run_id", StringType(), True),
        ("trained_through", DateType(), True),
        ("schedule_snapshot_id", LongType(), True),
        ("history_snapshot_id", LongType(), False),
    ]
    return Schema(
        *(
            NestedField(field_id=number, name=name, field_type=kind, required=required)
            for number, (name, kind, required) in enumerate(columns, start=1)
        )
    )


def _open_predictions(settings: Settings) -> "Table":
    """The table, created on first use and widened when the model gains a feature."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    schema = _schema()
    name = settings.table(*PREDICTIONS)
    catalog = open_catalog(settings)
    catalog.create_namespace_if_not_exists(name.schema)
    # By day, because a day is what is replaced: its old files then leave whole, without being rewritten.
    by_day = PartitionSpec(
        PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name="flight_date")
    )
    table = catalog.create_table_if_not_exists(name.in_catalog, schema=schema, partition_spec=by_day)
    if missing := [field for field in schema.fields if field.name not in table.schema().column_names]:
        with table.update_schema() as update:
            for field in missing:
                # Rows that are there already have no value for it.
                update.add_column(field.name, field.field_type)
    return table


def _replace_days(
    settings: Settings, frame: "pd.DataFrame", days: Sequence[date], lineage: Mapping[str, str]
) -> int | None:
    """One transaction: a reader, or a kill, sees the old days or the new ones."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    wanted = schema_to_pyarrow(_schema(), include_field_ids=False)
    ordered = frame.filter(items=wanted.names).sort_values(KEY)
    rows = pa.Table.from_pandas(ordered, schema=wanted, preserve_index=False)
    with writer_lock(settings, writer_of(*PREDICTIONS)), warnings.catch_warnings():
        # Days judged for the first time have nothing to delete; PyIceberg warns of that.
        warnings.filterwarnings("ignore", message="Delete operation did not match any records")
        table = _open_predictions(settings)  # within the lock: maintenance may have committed while flights were judged
        table.overwrite(
            rows,
            overwrite_filter=on_days(days),
            snapshot_properties=dict(lineage),
        )
    return current_snapshot_id(table)
