"""What there is to learn from: labelled flights with what was known of each two hours before it left.

Belongs here: `models/arrival_delay_training_set`, writing it month by month, reading what a model may learn from, and
refusing what nobody could have known. Does not belong here: learning (training.py), or how features are looked up.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from feature_repo.definitions import VIEWS
from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings
from ml.features import (
    AVAILABLE_AT,
    FLIGHT_COLUMNS,
    KEY,
    MODEL_COLUMNS,
    NUMERIC,
    PREDICTED_AS_OF,
    PREDICTED_BEFORE_DEPARTURE,
    with_features,
)
from ml.registry import RegisteredModel, owner_of
from ml.tables import Columns, arrow_schema, replace_part

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyiceberg.table import Table

TRAINING_SET = ("models", "arrival_delay_training_set")
LABEL = "is_delayed"
LABEL_AVAILABLE_AT = "label_available_at"
# How the tables of ml/ call the moment that a view's row was known, and the snapshot that it was read from.
VIEW_AVAILABLE_AT = {f"{view}__available_at": f"{view}_available_at" for view in VIEWS}
SNAPSHOT_ID = {view: f"{view}_snapshot_id" for view in VIEWS}
FACTS_SNAPSHOT_ID = "flight_facts_snapshot_id"
# What a fingerprint is made of: the same rows made from other snapshots are the same to learn from.
CONTENT = [*KEY, PREDICTED_AS_OF, *(name for name in MODEL_COLUMNS if name not in KEY), LABEL]
# A month is a column, because it is what is replaced: its old file then leaves whole.
COLUMNS: Columns = [
    ("month", "date", True),
    ("flight_date", "date", True),
    ("carrier", "string", True),
    ("flight", "int", True),
    ("origin", "string", True),
    ("sched_dep_time", "int", True),
    ("dest", "string", True),
    (PREDICTED_AS_OF, "timestamptz", True),
    *((name, "double", False) for name in NUMERIC),
    *((name, "timestamptz", False) for name in VIEW_AVAILABLE_AT.values()),
    (LABEL_AVAILABLE_AT, "timestamptz", True),
    (LABEL, "boolean", True),
    (FACTS_SNAPSHOT_ID, "long", True),
    *((name, "long", False) for name in SNAPSHOT_ID.values()),
]


@dataclass(frozen=True)
class MonthOfTrainingSet:
    """What became of one month.

    Args:
        month: its first day.
        error: why nothing was written for it; None if it was, and then what follows is known.
        rows: labelled flights, one row each.
        days: days that have one.
        cancelled, diverted: flights that have no label and were left out: they never left, or never arrived where they
            were to.
        unknown: view to rows without any value of it.
        snapshots: table to the snapshot that was read.
        snapshot_id: what was written.
    """

    month: date
    error: AssayError | None = None
    rows: int = 0
    days: int = 0
    cancelled: int = 0
    diverted: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None


@dataclass(frozen=True)
class Learnable:
    """What the model of a month may learn from.

    Args:
        month: its first day.
        frame: `CONTENT` and `label_available_at`, sorted by key; every label was available before the month's first
            flight was to be predicted.
        snapshots: table to the snapshots that the rows come from, the newest first: one of the training set itself, and as
            many of a feature table as there were runs that made the months.
        fingerprint: SHA-256 of the content.
    """

    month: date
    frame: "pd.DataFrame"
    snapshots: dict[str, tuple[int, ...]]
    fingerprint: str

    @property
    def days(self) -> list[date]:
        """The days with a labelled flight, in order."""
        return sorted(self.frame["flight_date"].unique())

    @property
    def trained_through(self) -> date:
        """The last of them."""
        return self.days[-1]


def first_prediction_of(month: date) -> datetime:
    """The moment at which the first flight that a month may have is predicted: two hours before its midnight, as the
    flights' contract counts days. A model of that month that knows more could not have been used."""
    zone = find_contract("flights").daily.available.zone
    return datetime.combine(month.replace(day=1), time(), zone) - PREDICTED_BEFORE_DEPARTURE


def make_training_set(
    settings: Settings, months: Sequence[date], lineage: Mapping[str, str]
) -> list[MonthOfTrainingSet]:
    """Puts each labelled flight of some months together with what was known before it, and replaces those months in one
    commit. A month that cannot be made keeps what it had and does not hold up the others.

    Args:
        settings: the environment.
        months: any day of each, in any order.
        lineage: properties for the Iceberg snapshot, such as `dagster.run_id`.

    Returns:
        An outcome per month, in time order.

    Raises:
        AssayError: Gold has not the tables, or a feature of any flight was not known when it was to be predicted (then
            nothing is written at all).
    """
    wanted = sorted({month.replace(day=1) for month in months})
    if not wanted:
        return []
    name = settings.table("gold", "flight_facts")
    facts = load_table(settings, "gold", "flight_facts")
    facts_snapshot = current_snapshot_id(facts)
    flights = (
        facts.scan(
            row_filter=" or ".join(f"({_of_month('flight_date', month)})" for month in wanted),
            selected_fields=(*FLIGHT_COLUMNS, LABEL, "is_cancelled"),
        )
        .to_arrow()
        .to_pandas()
    )
    flights = flights.assign(month=[day.replace(day=1) for day in flights["flight_date"]])
    labelled = flights.loc[flights[LABEL].notna()]
    outcomes = {month: MonthOfTrainingSet(month, error=_nothing_in(str(name), month)) for month in wanted}
    made = [month for month in wanted if (labelled["month"] == month).any()]
    if not made:
        return list(outcomes.values())
    known = with_features(settings, labelled)
    refuse_leaks(known.frame)
    snapshots = {str(name): facts_snapshot or 0, **known.snapshots}  # rows were read, so there is one
    written = _as_written(settings, known.frame, snapshots)
    snapshot_id = _replace_months(settings, written, made, {**lineage, **_said_of(snapshots)})
    for month in made:
        rows, missing = (frame.loc[frame["month"] == month] for frame in (written, flights.loc[flights[LABEL].isna()]))
        cancelled = int(missing["is_cancelled"].astype("bool").sum())
        outcomes[month] = MonthOfTrainingSet(
            month,
            rows=len(rows),
            days=int(rows["flight_date"].nunique()),
            cancelled=cancelled,
            diverted=len(missing) - cancelled,
            unknown={view: int(rows[f"{view}_available_at"].isna().sum()) for view in VIEWS},
            snapshots=snapshots,
            snapshot_id=snapshot_id,
        )
    return list(outcomes.values())


def refuse_leaks(frame: "pd.DataFrame") -> None:
    """Rule 9: nothing beside a flight was available later than it was to be predicted.

    Args:
        frame: `predicted_as_of` and, for each view, `<view>__available_at`; null where nothing was known.

    Raises:
        AssayError: something was; names the view and the first flight.
    """
    for name in AVAILABLE_AT:
        late = frame.loc[frame[name] > frame[PREDICTED_AS_OF]]
        if len(late):
            first = late.sort_values(KEY).iloc[0]
            flight = ", ".join(str(first[column]) for column in KEY)
            raise AssayError(
                f"{name.removesuffix('__available_at')} of {len(late)} flights was available only after they were to be "
                f"predicted; the first is {flight}: available {first[name]}, predicted as of {first[PREDICTED_AS_OF]}. "
                "Nothing was written",
                "look at how that feature is looked up (feature_repo/service.py), and report it: no model may see it",
            )


def learnable(settings: Settings, month: date) -> Learnable:
    """The rows that the model of a month may learn from: those whose label was available before the month's first flight
    was to be predicted. So the day before the month is not among them: it lands at six in the morning.

    Args:
        month: any day of the month.

    Raises:
        AssayError: there are none, or the training set lacks days that Gold has by now.
    """
    first = month.replace(day=1)
    table = load_table(settings, *TRAINING_SET)
    snapshot = current_snapshot_id(table)
    rows = _scan(settings, table, snapshot, first)
    _refuse_gaps(settings, rows, first)
    return _learnable(settings, rows, first, snapshot or 0)


def learnt_from(settings: Settings, model: RegisteredModel) -> Learnable:
    """The rows that a registered version learnt from, at the snapshot that it names.

    Raises:
        AssayError: the snapshot is gone.
    """
    first = date.fromisoformat(f"{model.month}-01")
    settings = owner_of(settings, model)
    (snapshot, *_) = model.snapshots.get(str(settings.table(*TRAINING_SET)), (0,))
    table = load_table(settings, *TRAINING_SET)
    if table.snapshot_by_id(snapshot) is None:
        raise AssayError(
            f"{settings.table(*TRAINING_SET)} has no snapshot {snapshot}, from which {model.name} version {model.version} "
            "learnt",
            f"materialize models/arrival_delay_training_set and models/arrival_delay for {model.month}",
        )
    return _learnable(settings, _scan(settings, table, snapshot, first), first, snapshot)


def _scan(settings: Settings, table: "Table", snapshot: int | None, first: date) -> "pa.Table":
    wanted = (*CONTENT, LABEL_AVAILABLE_AT, *SNAPSHOT_ID.values())
    if lacking := [column for column in wanted if column not in table.schema().column_names]:
        raise AssayError(
            f"{settings.table(*TRAINING_SET)} has no column {', '.join(lacking)}, and ml/features.py names it",
            f"materialize models/arrival_delay_training_set for all months before {first:%Y-%m}",
        )
    known_by = first_prediction_of(first).isoformat()
    return table.scan(
        row_filter=f"{LABEL_AVAILABLE_AT} <= '{known_by}' and month < '{first}'",
        selected_fields=wanted,
        snapshot_id=snapshot,
    ).to_arrow()


def _learnable(settings: Settings, rows: "pa.Table", first: date, snapshot: int) -> Learnable:
    frame = rows.select([*CONTENT, LABEL_AVAILABLE_AT]).to_pandas().sort_values(KEY, ignore_index=True)
    frame = frame.astype(
        {"flight": "int64", "sched_dep_time": "int64", LABEL: "bool", **dict.fromkeys(NUMERIC, "float64")}
    )
    snapshots = {str(settings.table(*TRAINING_SET)): (snapshot,)}
    for view, column in SNAPSHOT_ID.items():
        # Never through pandas: a column with a null becomes float, and a snapshot's number has more digits than that.
        newest = rows.group_by(column).aggregate([("flight_date", "max")]).sort_by([("flight_date_max", "descending")])
        if named := tuple(one for one in newest.column(column).to_pylist() if one is not None):
            snapshots[str(settings.table("gold", view))] = named
    return Learnable(first, frame, snapshots, _fingerprint(frame))


def _fingerprint(frame: "pd.DataFrame") -> str:
    """Hashes names and content of a sorted frame; types were made equal before, so widths in SQL do not matter."""
    import numpy as np
    from pandas.util import hash_pandas_object

    content = frame.filter(items=CONTENT)
    digest = hashlib.sha256(json.dumps(list(content.columns)).encode())
    digest.update(np.asarray(hash_pandas_object(content, index=False)).tobytes())  # pyright: ignore[reportCallIssue]
    return digest.hexdigest()


def _refuse_gaps(settings: Settings, rows: "pa.Table", first: date) -> None:
    """A model must not learn from less than there is because somebody forgot a month, or made it too early."""
    facts = load_table(settings, "gold", "flight_facts")
    days = facts.scan(
        row_filter=f"flight_date < '{first}' and {LABEL} is not null", selected_fields=("flight_date",)
    ).to_arrow()
    available = find_contract("flights").daily.available
    due = {d for d in days.column(0).unique().to_pylist() if available.of(d) <= first_prediction_of(first)}
    lacking = sorted(due - set(rows.column("flight_date").unique().to_pylist()))
    if lacking:
        months = sorted({f"{day:%Y-%m}" for day in lacking})
        raise AssayError(
            f"{settings.table(*TRAINING_SET)} lacks {len(lacking)} days before {first} of which Gold knows what became of "
            f"their flights, the first {lacking[0]}",
            f"materialize models/arrival_delay_training_set for {', '.join(months)}, then this again",
        )
    if not rows.num_rows:
        raise AssayError(
            f"No flight's arrival was known before {first}, so the model of {first:%Y-%m} has nothing to learn from",
            f"materialize gold/flight_facts and models/arrival_delay_training_set for months before {first:%Y-%m}, or train "
            "for a later month",
        )


def _nothing_in(facts: str, month: date) -> AssayError:
    return AssayError(
        f"{facts} has no flight with a known arrival in {month:%Y-%m}",
        f"materialize gold/flight_facts for days of {month:%Y-%m}",
    )


def _of_month(column: str, first: date) -> str:
    after = (first + timedelta(days=32)).replace(day=1)
    return f"{column} >= '{first}' and {column} < '{after}'"


def _said_of(snapshots: Mapping[str, int]) -> dict[str, str]:
    """The snapshots that were read, as properties of the one that is written."""
    return {f"read.{table}": str(snapshot) for table, snapshot in snapshots.items()}


def _as_written(settings: Settings, frame: "pd.DataFrame", snapshots: Mapping[str, int]) -> "pd.DataFrame":
    import pandas as pd

    available = find_contract("flights").daily.available
    by_day = {day: pd.Timestamp(available.of(day)) for day in frame["flight_date"].unique()}
    known = pd.Series([by_day[day] for day in frame["flight_date"]], index=frame.index)
    return frame.rename(columns=VIEW_AVAILABLE_AT).assign(
        **{
            LABEL_AVAILABLE_AT: known.astype("datetime64[us, UTC]"),
            FACTS_SNAPSHOT_ID: snapshots[str(settings.table("gold", "flight_facts"))],
            **{column: snapshots.get(str(settings.table("gold", v))) for v, column in SNAPSHOT_ID.items()},
        }
    )


def _replace_months(
    settings: Settings, frame: "pd.DataFrame", months: Sequence[date], properties: Mapping[str, str]
) -> int | None:
    import pyarrow as pa

    wanted = arrow_schema(COLUMNS)
    rows = pa.Table.from_pandas(frame.filter(items=wanted.names).sort_values(KEY), schema=wanted, preserve_index=False)
    quoted = ", ".join(f"'{month}'" for month in months)
    return replace_part(settings, TRAINING_SET, COLUMNS, rows, f"month in ({quoted})", properties)
