"""Learns, month by month, which flights will arrive more than 15 minutes late.

Belongs here: the training set, the fit, its score and its registration. Does not belong here: features (features.py),
choosing among versions (predicting.py), or when training runs.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings
from ml.features import (
    CATEGORICAL,
    FLIGHT_COLUMNS,
    HISTORY_AVAILABLE_AT,
    KEY,
    MODEL_COLUMNS,
    NUMERIC,
    before_day,
    with_features,
)
from ml.metrics import probability_metrics
from ml.registry import (
    FINGERPRINT,
    MONTH,
    RECIPE,
    SNAPSHOT,
    TRAINED_THROUGH,
    RegisteredModel,
    connect,
    experiment_name,
    model_name,
    model_versions,
)

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd

LABEL = "is_delayed"
# Deterministic: the same rows give the same trees on any machine, so that a fingerprint stands for a model. Two
# threads, because LightGBM promises equal trees only for an equal number of them.
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    # Small trees, large leaves: all flights of a day share its weather, so there are far fewer independent cases than
    # rows. Trained on all months before, scored on February 1-9, March, May, August and November 2013, against the base
    # rate: log loss skill +0.8, 5.4, 9.2, 5.3 and 4.4 %; with 31 leaves of 100 rows at rate 0.05 -0.7, 2.9, 9.1, 4.0
    # and 3.8 %.
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_data_in_leaf": 500,
    "lambda_l2": 1.0,
    "feature_fraction": 0.8,
    "cat_smooth": 20.0,
    "seed": 2013,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}
TREES = 150
# The last fifth of the days, a week at most, is kept from the first fit and scored: days, not rows, because delays of
# one day hang together and a random split would let the model see each test day's weather.
HELD_OUT_SHARE = 5
HELD_OUT_DAYS = 7
WRITE_ATTEMPTS = 5


@dataclass(frozen=True)
class TrainingSet:
    """Labelled flights with the features that were known two hours before each left.

    Args:
        month: first day of the month the model is for; every label is from a day before it.
        frame: `KEY`, `judged_at`, `history_available_at`, `MODEL_COLUMNS` and the label `is_delayed`, sorted by key.
        features: the columns a model may look at.
        label: the column it learns.
        snapshots: table (`lake.gold.flight_facts`) to the snapshot id that was read.
        trained_through: the last day with a label.
        fingerprint: SHA-256 of the content; the same rows from another snapshot have the same one.
    """

    month: date
    frame: "pd.DataFrame"
    features: list[str]
    label: str
    snapshots: dict[str, int]
    trained_through: date
    fingerprint: str


@dataclass(frozen=True)
class ModelReport:
    """What training did.

    Args:
        reused: an equal model was registered before for this month, and nothing was registered now.
        metrics: scores on the held-out days (see `ml.metrics`); empty if there was but one day to learn from.
        snapshot_tags: table to the Iceberg tag that spares the snapshot from expiry. A snapshot of a reused version
            that expired before it could be tagged is missing here.
    """

    name: str
    version: int
    run_id: str
    month: date
    reused: bool
    trained_through: date
    fingerprint: str
    rows: int
    metrics: dict[str, float]
    snapshots: dict[str, int]
    snapshot_tags: dict[str, str]


def build_training_set(settings: Settings, month: date) -> TrainingSet:
    """Reads every labelled flight before a month, with the features as they were known before it left.

    Args:
        settings: the environment whose Gold is read.
        month: any day of the month the model is for.

    Raises:
        AssayError: Gold has no flight with a known arrival delay before the month, or a table is missing.
    """
    first = month.replace(day=1)
    facts_name = settings.table("gold", "flight_facts")
    facts = load_table(settings, "gold", "flight_facts")
    facts_snapshot = current_snapshot_id(facts)
    flights = (
        facts.scan(
            row_filter=f"{before_day(first)} and {LABEL} is not null",
            selected_fields=(*FLIGHT_COLUMNS, LABEL),
        )
        .to_arrow()
        .to_pandas()
    )
    if flights.empty or facts_snapshot is None:
        raise AssayError(
            f"{facts_name} has no flight with a known arrival delay before {first}, so the model for {first:%Y-%m} has "
            "nothing to learn from",
            f"materialize gold/flight_facts for days before {first}, or train for a later month",
        )
    frame, history_snapshot = with_features(settings, flights)
    columns = [*KEY, "judged_at", HISTORY_AVAILABLE_AT, *(c for c in MODEL_COLUMNS if c not in KEY), LABEL]
    frame = frame.filter(items=columns).sort_values(KEY, ignore_index=True)
    frame = frame.astype({"flight": "int64", "sched_dep_time": "int64", LABEL: "bool"})
    snapshots = {str(facts_name): facts_snapshot}
    if history_snapshot is not None:
        snapshots[str(settings.table("gold", "carrier_history"))] = history_snapshot
    return TrainingSet(
        month=first,
        frame=frame,
        features=list(MODEL_COLUMNS),
        label=LABEL,
        snapshots=snapshots,
        trained_through=max(frame["flight_date"]),
        fingerprint=_fingerprint(frame),
    )


def _fingerprint(frame: "pd.DataFrame") -> str:
    """Hashes names and content of a sorted frame; types were made equal before, so widths in SQL do not matter."""
    import numpy as np
    from pandas.util import hash_pandas_object

    digest = hashlib.sha256(json.dumps(list(frame.columns)).encode())
    digest.update(np.asarray(hash_pandas_object(frame, index=False)).tobytes())  # pyright: ignore[reportCallIssue]
    return digest.hexdigest()


def _recipe() -> str:
    """Hashes what, besides the data, decides the trees and what the served model does with them."""
    parts = [PARAMETERS, TREES, CATEGORICAL, NUMERIC, HELD_OUT_DAYS, HELD_OUT_SHARE, version("lightgbm")]
    code = Path(__file__).with_name("served_model.py").read_bytes()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + code).hexdigest()


def train(settings: Settings, training_set: TrainingSet, month: date, lineage: Mapping[str, str]) -> ModelReport:
    """Scores a model on the last days, refits it on all of them, and registers it; once for equal data and code.

    Args:
        settings: the environment; its MLflow receives run and version.
        training_set: from `build_training_set` for the same month.
        month: any day of the month the model is for.
        lineage: tags for the MLflow run, such as `dagster.run_id`.

    Raises:
        AssayError: the training set is another month's, or Gold's snapshots cannot be tagged.
    """
    first = month.replace(day=1)
    if training_set.month != first:
        raise AssayError(
            f"The training set is the one of {training_set.month:%Y-%m}, not of {first:%Y-%m}",
            f"build the training set of {first:%Y-%m} and train with it",
        )
    mlflow = connect(settings)
    recipe = _recipe()
    model = _registered(settings, training_set, recipe)
    reused = model is not None
    if model is None:
        _fit_and_register(settings, mlflow, training_set, recipe, lineage)
        model = _registered(settings, training_set, recipe)
        if model is None:
            raise AssayError(
                f"{model_name(settings)} was registered in MLflow but does not show there",
                "look at MLflow's log, run again",
            )
    # Tagged also when reused: a run that was killed after registering had no time to.
    tags = {table: tag for table, i in model.snapshots.items() if (tag := _tag(settings, table, i, model))}
    return ModelReport(
        name=model.name,
        version=model.version,
        run_id=model.run_id,
        month=first,
        reused=reused,
        trained_through=model.trained_through,
        fingerprint=model.fingerprint,
        rows=len(training_set.frame),
        metrics=dict(mlflow.MlflowClient().get_run(model.run_id).data.metrics),
        snapshots=model.snapshots,
        snapshot_tags=tags,
    )


def _registered(settings: Settings, training_set: TrainingSet, recipe: str) -> RegisteredModel | None:
    wanted = (f"{training_set.month:%Y-%m}", training_set.fingerprint, recipe)
    equal = [m for m in model_versions(settings) if (m.month, m.fingerprint, m.recipe) == wanted]
    return equal[-1] if equal else None


def _encoding(frame: "pd.DataFrame") -> dict[str, Any]:
    return {
        "categorical": {name: sorted(frame[name].dropna().unique().tolist()) for name in CATEGORICAL},
        "numeric": NUMERIC,
    }


def _fit(frame: "pd.DataFrame", encoding: dict[str, Any]) -> "lightgbm.Booster":
    import lightgbm

    from ml.served_model import encode

    return lightgbm.train(
        PARAMETERS,
        lightgbm.Dataset(encode(frame, encoding), label=frame[LABEL].astype("float64")),
        num_boost_round=TREES,
    )


def _score(frame: "pd.DataFrame") -> dict[str, float]:
    """Learns from all days but the last, and scores those; nothing if there is but one day."""
    import numpy as np

    from ml.served_model import encode

    days = sorted(frame["flight_date"].unique())
    held_out = min(HELD_OUT_DAYS, max(1, len(days) // HELD_OUT_SHARE))
    if len(days) < 2:
        return {}
    border = days[-held_out]
    before, after = frame.loc[frame["flight_date"] < border], frame.loc[frame["flight_date"] >= border]
    encoding = _encoding(before)
    probabilities = np.asarray(_fit(before, encoding).predict(encode(after, encoding), num_threads=1)).tolist()
    metrics = probability_metrics(after[LABEL].tolist(), probabilities, float(before[LABEL].mean()))
    return {**metrics, "held_out_days": float(held_out), "learnt_rows": float(len(before))}


def _fit_and_register(
    settings: Settings, mlflow: ModuleType, training_set: TrainingSet, recipe: str, lineage: Mapping[str, str]
) -> None:
    import pandas as pd
    from mlflow.models import infer_signature

    from ml import served_model
    from ml.snapshot_source import SnapshotSource

    frame = training_set.frame
    metrics = _score(frame)
    encoding = _encoding(frame)
    booster = _fit(frame, encoding)
    tags = {
        MONTH: f"{training_set.month:%Y-%m}",
        TRAINED_THROUGH: training_set.trained_through.isoformat(),
        FINGERPRINT: training_set.fingerprint,
        RECIPE: recipe,
        **{f"{SNAPSHOT}{table}": str(snapshot) for table, snapshot in training_set.snapshots.items()},
    }
    name = model_name(settings)
    mlflow.set_experiment(experiment_name(settings))
    with mlflow.start_run(run_name=f"{name} {training_set.month:%Y-%m}", tags={**lineage, **tags}) as run:
        mlflow.log_params({**PARAMETERS, "trees": TREES})
        for table, snapshot in training_set.snapshots.items():
            dataset = mlflow.data.from_pandas(
                frame.filter(items=[*MODEL_COLUMNS, LABEL]),
                source=SnapshotSource(f"{table}@{snapshot}"),
                name=table,
                targets=LABEL,
            )
            mlflow.log_input(dataset, context="training")
        mlflow.log_metrics(metrics)
        example = frame.filter(items=MODEL_COLUMNS).head(5)
        answer = pd.DataFrame({"delay_probability": [0.5], "delayed": [False]})
        with tempfile.TemporaryDirectory() as folder:
            artifacts = {"booster": Path(folder) / "booster.txt", "encoding": Path(folder) / "encoding.json"}
            booster.save_model(artifacts["booster"])
            artifacts["encoding"].write_text(json.dumps(encoding))
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=served_model.__file__,
                artifacts={key: str(path) for key, path in artifacts.items()},
                signature=infer_signature(example, answer),
                input_example=example,
                # Given, because MLflow otherwise starts a process that imports everything to find out.
                pip_requirements=[f"{p}=={version(p)}" for p in ("mlflow", "lightgbm", "pandas", "numpy")],
            )
    # After the run, and with the tags in the same request: a version never shows without what it learnt from.
    mlflow.register_model(logged.model_uri, name, tags={**tags, "run_id": run.info.run_id})


def _tag(settings: Settings, table_name: str, snapshot_id: int, model: RegisteredModel) -> str | None:
    """Tags what a version learnt from, so that expiry spares it.

    Returns:
        The tag's name, or None if the snapshot is gone.

    Raises:
        AssayError: other writers were quicker five times.
    """
    from pyiceberg.exceptions import CommitFailedException

    _, layer, table = table_name.split(".")
    layer = layer.split("__")[-1]
    tag = f"model_{model.name}_v{model.version}"
    for _ in range(WRITE_ATTEMPTS):
        loaded = load_table(settings, layer, table)
        if tag in loaded.metadata.refs and loaded.metadata.refs[tag].snapshot_id == snapshot_id:
            return tag
        if loaded.snapshot_by_id(snapshot_id) is None:
            return None
        try:
            loaded.manage_snapshots().create_tag(snapshot_id, tag).commit()
        except CommitFailedException:
            continue
        return tag
    raise AssayError(
        f"{table_name} was written by others each time its snapshot {snapshot_id} was to be tagged",
        "train again: it is reused",
    )
