"""Whether what is predicted of late still looks like what the champion learnt from.

Belongs here: comparing predicted flights with the champion's training set, column by column, and writing the outcome to
`monitoring/arrival_delay_drift`. Does not belong here: how good predictions were (the warehouse's
mart_prediction_quality), or when any of this runs.

Not a day is compared but the 28 days up to it, as a day has one weekday and one weather. And not significance is asked
but size: of 26,000 flights every difference is significant.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings
from ml.features import CATEGORICAL, MODEL_COLUMNS, NUMERIC, on_days
from ml.predicting import PREDICTIONS, champion_of
from ml.promotion import month_of
from ml.registry import RegisteredModel, RegistryDown, owner_of, probabilities
from ml.tables import Columns, arrow_schema, open_table, replace_part
from ml.training_set import TRAINING_SET, learnt_from

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

DRIFT = ("monitoring", "arrival_delay_drift")
TABLE_COLUMNS: Columns = [
    ("flight_date", "date", True),
    ("column_name", "string", True),
    ("statistic", "string", True),
    ("value", "double", True),
    ("threshold", "double", True),
    ("drifted", "boolean", True),
    ("window_days", "int", True),
    ("window_rows", "int", True),
    ("reference_rows", "int", True),
    ("model_version", "int", True),
    ("predictions_snapshot_id", "long", True),
    ("training_set_snapshot_id", "long", True),
]
SAID = "delay_probability"
COLUMNS = [*CATEGORICAL, *NUMERIC, SAID]
WINDOW_DAYS = 28
# Whole weeks: of 16 days two weekdays are more than the others, and that alone is 0.16 on the weekday's scale.
WEEK = 7
# The first days of predictions have fewer, and are not judged.
FEWEST_DAYS = 14
# Of each side. Evidently takes 0.7 s for so many, 1.3 s for twice as many, and no statistic of 2013 differs by 0.02.
ROWS = 10_000
SEED = 2013

Statistic = Literal["wasserstein", "jensen_shannon", "missing_share_change"]
EVIDENTLY: dict[Statistic, str] = {"wasserstein": "wasserstein", "jensen_shannon": "jensenshannon"}
# What is drift. Beside each threshold the most that 2013 itself had: the 28 days up to the 7th, 14th, 21st and 28th of
# each month, February to December, against all flights before the month. What the schedule says hardly moves, so little is
# drift there. Weather and delays have seasons, which a training set of some months does not know: June is 2.0 standard
# deviations warmer than January to May, and in September a carrier's delayed share is 1.4 below the months before. Who
# lowers these learns in June that it is June. What they do find is a feature that is broken: of another unit, or stuck.
THRESHOLDS: dict[str, float] = {
    "carrier": 0.06,  # 0.03
    "origin": 0.06,  # 0.03
    "dest": 0.15,  # 0.09
    "distance": 0.15,  # 0.05
    "flight_calendar__departure_minute": 0.15,  # 0.03
    "flight_calendar__arrival_minute": 0.15,  # 0.05
    "flight_calendar__weekday": 0.15,  # 0.05
    "carrier_history__delayed_share": 1.0,  # 0.67
    "carrier_history__delayed_share_28d": 2.0,  # 1.39
    "carrier_history__mean_arrival_delay_28d": 2.0,  # 1.56
    "route_history__delayed_share": 0.8,  # 0.47
    "route_history__delayed_share_28d": 1.6,  # 1.15
    "route_history__mean_arrival_delay_28d": 1.6,  # 1.28
    "aircraft_history__delayed_share": 0.5,  # 0.29
    "aircraft_history__delayed_share_28d": 1.0,  # 0.60
    "aircraft_history__mean_arrival_delay_28d": 1.0,  # 0.68
    "origin_weather__temp": 2.5,  # 2.01
    "origin_weather__humid": 1.0,  # 0.50
    "origin_weather__wind_speed": 1.0,  # 0.44
    "origin_weather__wind_gust": 1.0,  # 0.77
    "origin_weather__precip": 1.0,  # 0.31
    "origin_weather__visib": 1.0,  # 0.50
    "origin_weather__pressure": 1.2,  # 0.85
    SAID: 0.8,  # 0.51
}
# How much the share of missing values may change. A gust is only measured when there is one, pressure fails for days, and
# of aircraft January knows little; the most of 2013 is 0.16, 0.09 and 0.11, of all others 0.04.
MISSING_MAY_CHANGE = 0.1
MISSING_OF: dict[str, float] = {
    "origin_weather__wind_gust": 0.25,
    "origin_weather__pressure": 0.2,
    **{name: 0.2 for name in NUMERIC if name.startswith("aircraft_history__")},
}


@dataclass(frozen=True)
class ColumnDrift:
    """One column of the window against the training set.

    Args:
        statistic: `wasserstein` (how far numbers moved, in standard deviations of the training set), `jensen_shannon`
            (distance of the shares of values, 0 to 0.83), or `missing_share_change` (0 to 1).
        drifted: whether the value is above the threshold.
    """

    column: str
    statistic: Statistic
    value: float
    threshold: float
    drifted: bool


@dataclass(frozen=True)
class DayDrift:
    """What became of one day.

    Args:
        day: the last day of the window.
        error: why nothing was written for it; None if it was.
        days: days of the window, all of which have predictions. With fewer than `FEWEST_DAYS` the day is not judged.
        columns: the outcome; empty if the day was not judged.
        model: the champion whose training set is the reference.
        report: where Evidently's JSON is.
        snapshot_id: what was written.
    """

    day: date
    error: AssayError | None = None
    days: int = 0
    columns: tuple[ColumnDrift, ...] = ()
    model: RegisteredModel | None = None
    report: str | None = None
    snapshot_id: int | None = None

    @property
    def drifted(self) -> list[str]:
        """The columns that drifted, in the model's order."""
        return list(dict.fromkeys(one.column for one in self.columns if one.drifted))


@dataclass(frozen=True)
class _Reference:
    """What a champion learnt from, and what it says of it now."""

    model: RegisteredModel
    frame: "pd.DataFrame"
    snapshot_id: int


def compare(
    reference: "pd.DataFrame", window: "pd.DataFrame", draw: bool = False
) -> "tuple[Snapshot, list[ColumnDrift]]":
    """Measures how far each column moved.

    Args:
        reference: what was learnt from, with `COLUMNS`.
        window: what was predicted of late, with the same.
        draw: make the plots of Evidently's page.

    Returns:
        Evidently's result, to be kept or shown, and its numbers.
    """
    # Evidently tells its makers that it was used otherwise.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import MissingValueCount, ValueDrift

    definition = DataDefinition(numerical_columns=[*NUMERIC, SAID], categorical_columns=list(CATEGORICAL))
    # Evidently refuses a column without any value. That all of it is missing is what the other statistic says.
    filled = [name for name in COLUMNS if len(reference[name].dropna()) and len(window[name].dropna())]
    moved = [ValueDrift(column=n, method=EVIDENTLY[_statistic(n)], threshold=THRESHOLDS[n]) for n in filled]
    missing = [MissingValueCount(column=name) for name in COLUMNS]
    with warnings.catch_warnings(), _drawing(draw):
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value divides by zero in its summary
        snapshot = Report([*moved, *missing]).run(
            current_data=Dataset.from_pandas(window.filter(items=COLUMNS), data_definition=definition),
            reference_data=Dataset.from_pandas(reference.filter(items=COLUMNS), data_definition=definition),
        )
    values: list[Any] = [metric["value"] for metric in snapshot.dict()["metrics"]]
    found = [_judged(n, _statistic(n), value, THRESHOLDS[n]) for n, value in zip(filled, values, strict=False)]
    for name, value in zip(COLUMNS, values[len(filled) :], strict=True):
        change = abs(value["share"] - reference[name].isna().mean())
        found.append(_judged(name, "missing_share_change", change, MISSING_OF.get(name, MISSING_MAY_CHANGE)))
    return snapshot, found


def _judged(column: str, statistic: Statistic, value: Any, threshold: float) -> ColumnDrift:
    return ColumnDrift(column, statistic, float(value), threshold, drifted=bool(value > threshold))


def _statistic(column: str) -> Statistic:
    return "jensen_shannon" if column in CATEGORICAL else "wasserstein"


@contextmanager
def _drawing(wanted: bool) -> Iterator[None]:
    """Evidently draws each column while it compares it, three quarters of its time, whether or not anybody asks for the
    page; it has no switch for that."""
    if wanted:
        yield
        return
    from evidently.metrics.column_statistics import ValueDriftCalculation

    with patch.object(ValueDriftCalculation, "_render", lambda *_: None):
        yield


def drift(settings: Settings, days: Sequence[date], lineage: Mapping[str, str]) -> list[DayDrift]:
    """Compares the window of each day with what the champion of that day learnt from, and replaces those days in one
    commit. A day that cannot be compared keeps what it had and does not hold up the others.

    Args:
        settings: the environment.
        days: the partitions, in any order.
        lineage: properties for the Iceberg snapshot, such as `dagster.run_id`.

    Returns:
        An outcome per day, in the order of `days`.

    Raises:
        AssayError: nothing was ever predicted, or there is no training set.
        RegistryDown: MLflow does not answer.
    """
    wanted = list(dict.fromkeys(days))
    if not wanted:
        return []
    predicted, predictions_snapshot = _predictions(settings, min(wanted), max(wanted))
    outcomes: dict[date, DayDrift] = {}
    rows: list[dict[str, Any]] = []
    references: dict[str, _Reference | AssayError] = {}
    for day in wanted:
        window = _window(predicted, day)
        count = len(set(window["flight_date"]))
        try:
            _refuse_empty(settings, window, day)
            if count < FEWEST_DAYS:
                outcomes[day] = DayDrift(day, days=count)
                continue
            reference = _reference(settings, day, references)
        except RegistryDown:
            raise
        except AssayError as error:
            outcomes[day] = DayDrift(day, error=error)
            continue
        sampled = _sample(window)
        snapshot, columns = compare(reference.frame, sampled)
        report = _keep(settings, day, snapshot)
        outcomes[day] = DayDrift(day, None, count, tuple(columns), reference.model, report)
        rows += [
            {
                "flight_date": day,
                "column_name": one.column,
                "statistic": one.statistic,
                "value": one.value,
                "threshold": one.threshold,
                "drifted": one.drifted,
                "window_days": count,
                "window_rows": len(sampled),
                "reference_rows": len(reference.frame),
                "model_version": reference.model.version,
                "predictions_snapshot_id": predictions_snapshot,
                "training_set_snapshot_id": reference.snapshot_id,
            }
            for one in columns
        ]
    written = [day for day in wanted if outcomes[day].error is None]
    if not written:
        return [outcomes[day] for day in wanted]
    snapshot_id = _replace_days(settings, rows, written, lineage)
    for day in written:
        outcomes[day] = replace(outcomes[day], snapshot_id=snapshot_id)
    return [outcomes[day] for day in wanted]


def draw(settings: Settings, day: date, file: Path) -> list[ColumnDrift]:
    """Compares one day again and writes Evidently's page, 4 MB; no table is touched.

    Raises:
        AssayError: the day cannot be compared.
        RegistryDown: MLflow does not answer.
    """
    predicted, _ = _predictions(settings, day, day)
    window = _window(predicted, day)
    _refuse_empty(settings, window, day)
    snapshot, columns = compare(_reference(settings, day, {}).frame, _sample(window), draw=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(file))
    return columns


def kept(settings: Settings, day: date) -> list[ColumnDrift]:
    """What the table says of a day.

    Raises:
        AssayError: nothing.
    """
    table = load_table(settings, *DRIFT)
    names = ("column_name", "statistic", "value", "threshold", "drifted")
    found = table.scan(row_filter=on_days([day]), selected_fields=names).to_arrow().to_pylist()
    if not found:
        raise AssayError(
            f"{settings.table(*DRIFT)} says nothing of {day}: it was not made, or its window had fewer than {FEWEST_DAYS} "
            "days of predictions",
            f"materialize monitoring/arrival_delay_drift for {day}",
        )
    order = {name: number for number, name in enumerate(COLUMNS)}
    columns = [ColumnDrift(column=row.pop("column_name"), **row) for row in found]
    return sorted(columns, key=lambda one: (one.statistic == "missing_share_change", order.get(one.column, len(order))))


def _predictions(settings: Settings, first: date, last: date) -> "tuple[pd.DataFrame, int | None]":
    table = load_table(settings, *PREDICTIONS)
    start = first - timedelta(days=WINDOW_DAYS - 1)
    scan = table.scan(
        row_filter=f"flight_date >= '{start}' and flight_date <= '{last}'", selected_fields=("flight_date", *COLUMNS)
    )
    frame = scan.to_arrow().to_pandas()
    return frame.sort_values(["flight_date", *COLUMNS], ignore_index=True), current_snapshot_id(table)


def _window(predicted: "pd.DataFrame", day: date) -> "pd.DataFrame":
    """The last whole weeks of days that have predictions, four at most."""
    there = sorted({one for one in predicted["flight_date"] if day - timedelta(days=WINDOW_DAYS) < one <= day})
    weeks = max(len(there) // WEEK * WEEK, min(len(there), WEEK))
    return predicted.loc[predicted["flight_date"].isin(there[-weeks:])]


def _refuse_empty(settings: Settings, window: "pd.DataFrame", day: date) -> None:
    if day not in set(window["flight_date"]):
        raise AssayError(
            f"{settings.table(*PREDICTIONS)} has no flight on {day}", f"materialize predictions/arrival_delay for {day}"
        )


def _sample(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows of the same frame each time."""
    return frame if len(frame) <= ROWS else frame.sample(ROWS, random_state=SEED)


def _reference(settings: Settings, day: date, known: dict[str, "_Reference | AssayError"]) -> _Reference:
    """Read once a month of days, as all of them have one champion; what failed fails for each of them."""
    month = month_of(day)
    if month not in known:
        try:
            known[month] = _read_reference(settings, champion_of(settings, day), known)
        except RegistryDown:
            raise
        except AssayError as error:
            known[month] = error
    found = known[month]
    if isinstance(found, AssayError):
        raise found
    return found


def _read_reference(
    settings: Settings, model: RegisteredModel, known: Mapping[str, "_Reference | AssayError"]
) -> _Reference:
    for one in known.values():
        if isinstance(one, _Reference) and one.model.run_id == model.run_id:
            return one
    learnt = learnt_from(settings, model)
    frame = _sample(learnt.frame)
    said = probabilities(settings, model, frame.filter(items=MODEL_COLUMNS))
    (snapshot, *_) = learnt.snapshots[str(owner_of(settings, model).table(*TRAINING_SET))]
    return _Reference(model, frame.assign(**{SAID: said[SAID].to_numpy()}), snapshot)


def _keep(settings: Settings, day: date, snapshot: "Snapshot") -> str:
    """Writes Evidently's JSON beside the table's folder, not into it: maintenance takes away what is no file of the table.
    Before the table is committed, so that each row of it has its file."""
    name = settings.table(*DRIFT)
    uri = f"{settings.warehouse_uri}/{name.schema}/{name.table}_reports/{day}.json"
    table = open_table(settings, DRIFT, TABLE_COLUMNS)
    with table.io.new_output(uri).create(overwrite=True) as file:
        file.write(snapshot.json().encode())
    return uri


def _replace_days(
    settings: Settings, rows: Sequence[Mapping[str, Any]], days: Sequence[date], lineage: Mapping[str, str]
) -> int | None:
    import pyarrow as pa

    written = pa.Table.from_pylist(list(rows), schema=arrow_schema(TABLE_COLUMNS))
    return replace_part(settings, DRIFT, TABLE_COLUMNS, written, on_days(days), lineage)
