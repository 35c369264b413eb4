"""Predicts each scheduled flight two hours before it leaves, from schedule and features alone.

Belongs here: predicting, and writing `predictions/arrival_delay`. Does not belong here: which model is valid on a day
(promotion.py), how good predictions were (scoring.py), or when any of this runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from feature_repo.definitions import VIEWS
from foundation import clock
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings
from ml.features import FLIGHT_COLUMNS, KEY, MODEL_COLUMNS, NUMERIC, PREDICTED_AS_OF, on_days, with_features
from ml.promotion import champion, month_of
from ml.registry import RegisteredModel, RegistryDown, model_name, probabilities
from ml.tables import Columns, arrow_schema, replace_part
from ml.training_set import SNAPSHOT_ID, VIEW_AVAILABLE_AT, refuse_leaks

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = ("predictions", "arrival_delay")
# Everything a reader may group by is required.
COLUMNS: Columns = [
    ("flight_date", "date", True),
    ("carrier", "string", True),
    ("flight", "int", True),
    ("origin", "string", True),
    ("dest", "string", False),
    ("sched_dep_time", "int", True),
    ("scheduled_departure", "timestamptz", False),
    (PREDICTED_AS_OF, "timestamptz", False),
    *((name, "double", False) for name in NUMERIC),
    *((name, "timestamptz", False) for name in VIEW_AVAILABLE_AT.values()),
    ("delay_probability", "double", True),
    ("delayed", "boolean", True),
    ("model_version", "int", True),
    ("model_run_id", "string", True),
    ("trained_through", "date", True),
    ("schedule_snapshot_id", "long", True),
    *((name, "long", False) for name in SNAPSHOT_ID.values()),
]


@dataclass(frozen=True)
class DayPrediction:
    """What became of one day.

    Args:
        day: the partition.
        error: why nothing was written for it; None if it was, and then all that follows is known.
        rows: flights predicted, one row each.
        unknown: view to flights of which it knew nothing in time.
        mean_probability: the share of flights expected to be late.
        model: the champion of the day's month.
        schedule_snapshot_id: the schedule that was read.
        snapshots: table of Gold to the snapshot that was read; an empty table has none.
        snapshot_id: what was written.
    """

    day: date
    error: AssayError | None = None
    rows: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    mean_probability: float | None = None
    model: RegisteredModel | None = None
    schedule_snapshot_id: int | None = None
    snapshots: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None


def champion_of(settings: Settings, day: date) -> RegisteredModel:
    """The model that is valid on a day: the champion of its month.

    Raises:
        AssayError: there is none, or the one that the log names is gone.
        RegistryDown: MLflow does not answer.
    """
    model = champion(settings, day)
    if model is None:
        raise AssayError(
            f"{model_name(settings)} has no champion in {month_of(day)}, so {day} cannot be predicted",
            f"materialize models/arrival_delay_training_set for the months before, then models/arrival_delay for "
            f"{month_of(day)}; if the gate refused it, ./assay models says why",
        )
    return model


def predict(settings: Settings, days: Sequence[date], lineage: Mapping[str, str]) -> list[DayPrediction]:
    """Predicts every flight of the schedule of some days and replaces those days in one commit.

    A day that cannot be predicted keeps what it had and does not hold up the others.

    Args:
        settings: the environment. Nothing that became available after its clock is used.
        days: the partitions, in any order.
        lineage: properties for the Iceberg snapshot, such as `dagster.run_id`.

    Returns:
        An outcome per day, in the order of `days`.

    Raises:
        AssayError: schedule or histories do not exist at all.
        RegistryDown: MLflow does not answer.
    """
    import pandas as pd

    wanted = list(dict.fromkeys(days))
    if not wanted:
        return []
    schedule_name = settings.table("silver", "schedule")
    schedule = load_table(settings, "silver", "schedule")
    schedule_snapshot = current_snapshot_id(schedule)
    flights = schedule.scan(row_filter=on_days(wanted), selected_fields=tuple(FLIGHT_COLUMNS)).to_arrow().to_pandas()
    outcomes: dict[date, DayPrediction] = {}
    models: dict[date, RegisteredModel] = {}
    champions: dict[str, RegisteredModel] = {}
    for day in wanted:
        try:
            _check_schedule(str(schedule_name), day, flights.loc[flights["flight_date"] == day])
            if month_of(day) not in champions:
                champions[month_of(day)] = champion_of(settings, day)
            models[day] = champions[month_of(day)]
        except RegistryDown:
            raise
        except AssayError as error:
            outcomes[day] = DayPrediction(day, error=error)
    if not models:
        return [outcomes[day] for day in wanted]

    known = with_features(settings, flights.loc[flights["flight_date"].isin(list(models))], as_of=clock.now(settings))
    refuse_leaks(known.frame)
    predicted: list[pd.DataFrame] = []
    # Not by version: a branch's and its base's have the same numbers.
    for model in {model.run_id: model for model in models.values()}.values():
        of_model = [day for day, one in models.items() if one.run_id == model.run_id]
        try:
            predicted.append(_predicted(settings, known.frame.loc[known.frame["flight_date"].isin(of_model)], model))
        except RegistryDown:
            raise
        except AssayError as error:
            for day in of_model:
                del models[day]
                outcomes[day] = DayPrediction(day, error=error)
    if not models:
        return [outcomes[day] for day in wanted]

    ids = {column: known.snapshots.get(str(settings.table("gold", view))) for view, column in SNAPSHOT_ID.items()}
    written = pd.concat(predicted).assign(schedule_snapshot_id=schedule_snapshot, **ids)
    snapshot = _replace_days(settings, written, list(models), lineage)
    for day, model in models.items():
        rows = written.loc[written["flight_date"] == day]
        outcomes[day] = DayPrediction(
            day=day,
            rows=len(rows),
            unknown={view: int(rows[f"{view}_available_at"].isna().sum()) for view in VIEWS},
            mean_probability=float(rows["delay_probability"].mean()),
            model=model,
            schedule_snapshot_id=schedule_snapshot,
            snapshots=known.snapshots,
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


def _predicted(settings: Settings, frame: "pd.DataFrame", model: RegisteredModel) -> "pd.DataFrame":
    answer = probabilities(settings, model, frame.filter(items=MODEL_COLUMNS))
    return frame.rename(columns=VIEW_AVAILABLE_AT).assign(
        delay_probability=answer["delay_probability"].to_numpy(),
        delayed=answer["delayed"].to_numpy(),
        model_version=model.version,
        model_run_id=model.run_id,
        trained_through=model.trained_through,
    )


def _replace_days(
    settings: Settings, frame: "pd.DataFrame", days: Sequence[date], lineage: Mapping[str, str]
) -> int | None:
    import pyarrow as pa

    wanted = arrow_schema(COLUMNS)
    rows = pa.Table.from_pandas(frame.filter(items=wanted.names).sort_values(KEY), schema=wanted, preserve_index=False)
    return replace_part(settings, PREDICTIONS, COLUMNS, rows, on_days(days), lineage)
