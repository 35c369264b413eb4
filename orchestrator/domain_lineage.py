"""What the columns of the default domain's own assets are made of: features, training set, model, predictions, drift.

Belongs here: what neither a contract nor a dbt model declares, from the lists that the code itself goes by. Does not belong
here: Dagster (lineage is asked for on the command line, which waits for nothing so long), the assets (domain). A copy of
`./assay init --empty` has an empty one in its place.
"""

from collections.abc import Mapping, Sequence

from feature_repo.definitions import ALL_VIEWS, AVAILABLE_AT, CALENDAR, CALENDAR_MADE_OF, SERVICE, VIEWS
from ml.features import KEY, MODEL_COLUMNS, NUMERIC, PREDICTED_AS_OF
from ml.training_set import LABEL, LABEL_AVAILABLE_AT, VIEW_AVAILABLE_AT
from orchestrator.feature_lineage import FEAST, made_of
from orchestrator.lineage import Made, Node

FACTS, SCHEDULE = "gold/flight_facts", "silver/schedule"
TRAINING_SET, MODEL = "models/arrival_delay_training_set", "models/arrival_delay"
PREDICTIONS, DRIFT = "predictions/arrival_delay", "monitoring/arrival_delay_drift"
# The files that make them: of two that one imports, only what is about rows.
LOOKED_UP = (
    *FEAST,
    "feature_repo/definitions.py",
    "feature_repo/service.py",
    "feature_repo/offline.py",
    "ml/features.py",
    "ml/tables.py",
)
TRAINING_SET_CODE = ("ml/training_set.py", *LOOKED_UP)
MODEL_CODE = ("ml/training.py", "ml/gate.py", "ml/metrics.py", "ml/promotion.py", "ml/scoring.py", "ml/served_model.py")
PREDICTIONS_CODE = ("ml/predicting.py", "ml/served_model.py", "ml/scoring.py", *LOOKED_UP)
DRIFT_CODE = ("ml/drift.py", "ml/tables.py")
INPUTS = {"columns": tuple(MODEL_COLUMNS)}
# What a flight's features are looked up by; a route is origin and dest.
LOOKED_UP_BY = ("carrier", "origin", "dest", "tailnum", "scheduled_departure")


def domain_columns() -> list[Made]:
    """An entry for each asset of domain_assets."""
    return [*map(made_of, ALL_VIEWS.values()), _training_set(), _model(), _predictions(), _drift()]


def columns_of(asset: str) -> Mapping[str, Sequence[Node]]:
    """What the columns of one of them are made of, such as of `features/x`."""
    return next(made.columns for made in domain_columns() if made.asset == asset)


def _training_set() -> Made:
    facts = {name: [Node(FACTS, name)] for name in (*KEY, "dest")}
    return Made(
        TRAINING_SET,
        "ml/training_set.py",
        {
            "month": [Node(FACTS, "flight_date")],
            **facts,
            PREDICTED_AS_OF: [Node(FACTS, "scheduled_departure")],
            **{name: _input(name, FACTS) for name in NUMERIC},
            **_known_from(),
            LABEL_AVAILABLE_AT: [Node(FACTS, "flight_date")],
            LABEL: [Node(FACTS, LABEL)],
            **_snapshots("flight_facts", *VIEWS),
        },
        # A flight without a label is not in it, and counted as cancelled or diverted.
        [*(Node(FACTS, name) for name in (*LOOKED_UP_BY, LABEL, "is_cancelled")), *_keys()],
        TRAINING_SET_CODE,
        {**INPUTS, "label": LABEL},
        ("month", *KEY),
        "flight_date",
    )


def _model() -> Made:
    learnt = (*MODEL_COLUMNS, LABEL)
    chosen_by = ("month", LABEL_AVAILABLE_AT, PREDICTED_AS_OF, *(name for name in KEY if name not in MODEL_COLUMNS))
    return Made(
        MODEL,
        "ml/training.py",
        {name: [Node(TRAINING_SET, name)] for name in learnt},
        [Node(TRAINING_SET, name) for name in chosen_by],
        MODEL_CODE,
        {**INPUTS, "label": LABEL, "service": SERVICE},
    )


def _predictions() -> Made:
    flights = {name: [Node(SCHEDULE, name)] for name in (*KEY, "dest", "scheduled_departure")}
    inputs = {name: _input(name, SCHEDULE) for name in NUMERIC}
    # Who is asked is the model, which stands on what it learnt from; what it is asked about are the flight's own inputs.
    said = [Node(MODEL, name) for name in (*MODEL_COLUMNS, LABEL)]
    said += [node for name in MODEL_COLUMNS for node in _input(name, SCHEDULE)]
    return Made(
        PREDICTIONS,
        "ml/predicting.py",
        {
            **flights,
            PREDICTED_AS_OF: [Node(SCHEDULE, "scheduled_departure")],
            **inputs,
            **_known_from(),
            "delay_probability": said,
            "delayed": said,
            **dict.fromkeys(("model_version", "model_run_id", "trained_through"), ()),
            **_snapshots("schedule", *VIEWS),
        },
        [*(Node(SCHEDULE, name) for name in (*LOOKED_UP_BY, "flight_date")), *_keys()],
        PREDICTIONS_CODE,
        INPUTS,
        KEY,
        "flight_date",
    )


def _drift() -> Made:
    compared = [Node(PREDICTIONS, name) for name in (*MODEL_COLUMNS, "delay_probability")]
    compared += [Node(TRAINING_SET, name) for name in MODEL_COLUMNS]
    whole = (
        "column_name",
        "statistic",
        "threshold",
        "model_version",
        "predictions_snapshot_id",
        "training_set_snapshot_id",
    )
    counted = [Node(DRIFT, None)]
    return Made(
        DRIFT,
        "ml/drift.py",
        {
            "flight_date": [Node(PREDICTIONS, "flight_date")],
            **dict.fromkeys(("value", "drifted"), compared),
            **dict.fromkeys(("window_days", "window_rows", "reference_rows"), counted),
            **dict.fromkeys(whole, ()),
        },
        [Node(PREDICTIONS, "flight_date"), Node(TRAINING_SET, "flight_date")],
        DRIFT_CODE,
        INPUTS,
        ("flight_date", "column_name", "statistic"),
        "flight_date",
    )


def _input(name: str, flights: str) -> Sequence[Node]:
    """What a column of the model is made of, when flights come from a table."""
    view, _, feature = name.rpartition("__")
    if view == CALENDAR:
        return [Node(flights, CALENDAR_MADE_OF[feature])]
    return [Node(f"features/{view}", feature)] if view else [Node(flights, name)]


def _known_from() -> dict[str, Sequence[Node]]:
    return {
        column: [Node(f"features/{name.rpartition('__')[0]}", AVAILABLE_AT)]
        for name, column in VIEW_AVAILABLE_AT.items()
    }


def _keys() -> list[Node]:
    """A feature is found by its view's key, as it was known at a moment."""
    return [Node(f"features/{view.name}", name) for view in VIEWS.values() for name in (view.key, AVAILABLE_AT)]


def _snapshots(*tables: str) -> dict[str, Sequence[Node]]:
    return {f"{table}_snapshot_id": () for table in tables}
