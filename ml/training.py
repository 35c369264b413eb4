"""Learns, month by month, which flights will arrive more than 15 minutes late.

Belongs here: the fit, its calibration, its registration, and the gate's decision about it. Does not belong here: what there
is to learn from (training_set.py), what is good enough (gate.py), or when training runs.

Each step is found again by the next run: a version that is registered is not registered twice, and one that was decided
about keeps its decision. So a run that was killed anywhere is completed by the same command.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import SERVICE
from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.lock import writer_lock
from foundation.settings import PROJECT, Settings
from ml.features import CATEGORICAL, MODEL_COLUMNS, NUMERIC
from ml.gate import CHALLENGER, CHAMPION, baselines, judge
from ml.metrics import probability_metrics
from ml.promotion import Decision, champion, decision_of, month_before, month_of, record, repair
from ml.registry import (
    FEAST_SERVICE,
    FINGERPRINT,
    MODEL,
    MONTH,
    RECIPE,
    SNAPSHOT,
    TRAINED_THROUGH,
    RegisteredModel,
    answering,
    connect,
    experiment_name,
    model_name,
    model_versions,
    probabilities,
)
from ml.training_set import LABEL, TRAINING_SET, Learnable, learnable

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd

# Deterministic: the same rows give the same trees on any machine, so that a fingerprint stands for a model. One thread,
# because LightGBM promises equal trees only for an equal number of them.
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    # Small trees, large leaves: all flights of a day share its weather, so there are far fewer independent cases than
    # rows. With 7 leaves the Brier score on the gate's days beats both baselines in each month from February to December
    # (December: 0.147, base rate 0.160, carrier and hour 0.154).
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_data_in_leaf": 500,
    "lambda_l2": 1.0,
    "feature_fraction": 0.8,
    "cat_smooth": 20.0,
    "seed": 2013,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
TREES = 150
# Platt's two numbers are not regularised: C is the inverse of that.
CALIBRATION_C = 1e6
# With twelve weeks: two weeks to calibrate on, two to judge on, whole weeks because weekdays differ. With less, 60/20/20.
FULL_HISTORY_DAYS, CALIBRATION_DAYS, GATE_DAYS = 84, 14, 14
FEWEST_DAYS = 10
WRITE_ATTEMPTS = 5
TRAINING_LOCK = f"models.{MODEL}.training"


@dataclass(frozen=True)
class Parts:
    """Days in time order: what the trees learn from, what the calibration does, and what the gate judges on."""

    fit: list[date]
    calibrate: list[date]
    gate: list[date]


@dataclass(frozen=True)
class Fitted:
    """Trees, and what turns plain columns into their input and their output into a probability."""

    booster: "lightgbm.Booster"
    encoding: dict[str, Any]


@dataclass(frozen=True)
class ModelReport:
    """What training did.

    Args:
        model: the version.
        reused: an equal one was registered before for this month, and nothing was registered now.
        decision: the gate's.
        scores: `ml.metrics.probability_metrics` on the gate's days, by who was scored (`challenger`, `champion`,
            `base_rate`, `carrier_hour`).
        rows: labelled flights it learnt from, calibration and gate included.
        parts: which days were for what.
        snapshot_tags: table to the Iceberg tags that spare its snapshots from expiry. A snapshot of a reused version that
            expired before it could be tagged has none.
        page: where MLflow shows its run; None if its address is no server's.
    """

    model: RegisteredModel
    reused: bool
    decision: Decision
    scores: dict[str, dict[str, float]]
    rows: int
    parts: Parts
    snapshot_tags: dict[str, list[str]]
    page: str | None


def split_days(days: Sequence[date]) -> Parts:
    """Which days are for what: nothing that the gate judges on was seen before, in time order.

    Args:
        days: those with a labelled flight, distinct, in any order.

    Raises:
        AssayError: there are fewer than ten.
    """
    known, count = sorted(days), len(days)
    if count < FEWEST_DAYS:
        raise AssayError(
            f"There are {count} days to learn from, and a model needs {FEWEST_DAYS}: six to fit, two to calibrate, two to be "
            "judged on",
            "train for a later month, or materialize gold/flight_facts and models/arrival_delay_training_set for earlier days",
        )
    if count >= FULL_HISTORY_DAYS:
        first, second = count - CALIBRATION_DAYS - GATE_DAYS, count - GATE_DAYS
    else:
        first, second = round(count * 0.6), round(count * 0.8)
    return Parts(known[:first], known[first:second], known[second:])


def train(settings: Settings, month: date, lineage: Mapping[str, str], by: str = "") -> ModelReport:
    """Makes the model of a month and decides whether it becomes champion; both once for equal rows and code.

    Args:
        settings: the environment; its MLflow receives run, version and decision.
        month: any day of the month the model is for.
        lineage: tags for the MLflow run, such as `dagster.run_id`.
        by: whom the promotion log names.

    Raises:
        AssayError: there is too little to learn from, a feature has no value at all, all flights of a part are alike, or
            MLflow fails. The champion is then who it was, and no version shows that has not its tags.
    """
    rows = learnable(settings, month.replace(day=1))
    parts = split_days(rows.days)
    _refuse_what_teaches_nothing(rows, parts)
    mlflow = connect(settings)
    recipe = _recipe()
    with writer_lock(settings, TRAINING_LOCK):
        model = _registered(settings, rows, recipe)
        reused = model is not None
        if model is None:
            fitted = fit(_of(rows.frame, parts.fit), _of(rows.frame, parts.calibrate))
            with answering(f"registering the model of {month_of(rows.month)}"):
                _register(settings, mlflow, rows, fitted, recipe, lineage)
            model = _registered(settings, rows, recipe)
            if model is None:
                raise AssayError(
                    f"{model_name(settings)} was registered in MLflow but does not show there",
                    "look at ./assay logs mlflow, then run this again",
                )
        # Tagged also when reused: a run that was killed after registering had no time to.
        tags = {table: _tag(settings, table, ids, model) for table, ids in model.snapshots.items()}
        decision = decision_of(settings, model.version)
        if decision is None:
            decision = _decide(settings, mlflow, rows, parts, model, by)
        else:
            repair(settings)  # what a run that was killed after deciding did not show
    with answering(f"reading the scores of {model.name} version {model.version}"):
        run = mlflow.MlflowClient().get_run(model.run_id)
    return ModelReport(
        model=model,
        reused=reused,
        decision=decision,
        scores=scores_of(run.data.metrics),
        rows=len(rows.frame),
        parts=parts,
        snapshot_tags=tags,
        page=_page(settings, run.info.experiment_id, model.run_id),
    )


def fit(learnt: "pd.DataFrame", calibrated: "pd.DataFrame") -> Fitted:
    """Learns trees from the first frame and their calibration from the second; the same rows give the same of both.

    Args:
        learnt, calibrated: `MODEL_COLUMNS` and the label, of days of which the second come after the first.
    """
    import lightgbm
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from ml.served_model import encode

    encoding: dict[str, Any] = {
        "categorical": {name: sorted(learnt[name].dropna().unique().tolist()) for name in CATEGORICAL},
        "numeric": NUMERIC,
    }
    booster = lightgbm.train(
        PARAMETERS,
        lightgbm.Dataset(encode(learnt, encoding), label=learnt[LABEL].astype("float64")),
        num_boost_round=TREES,
    )
    logits = np.asarray(booster.predict(encode(calibrated, encoding), raw_score=True, num_threads=1))
    platt = LogisticRegression(C=CALIBRATION_C).fit(logits.reshape(-1, 1), calibrated[LABEL].astype("bool"))
    encoding["calibration"] = {"slope": float(platt.coef_[0][0]), "intercept": float(platt.intercept_[0])}
    return Fitted(booster, encoding)


def scores_of(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The scores of a run, by who was scored: MLflow keeps them flat, as `challenger.brier`."""
    scores: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        who, dot, what = name.partition(".")
        if dot:
            scores.setdefault(who, {})[what] = value
    return scores


def _of(frame: "pd.DataFrame", days: Sequence[date]) -> "pd.DataFrame":
    return frame.loc[frame["flight_date"].between(days[0], days[-1])]


def _refuse_what_teaches_nothing(rows: Learnable, parts: Parts) -> None:
    learnt = _of(rows.frame, parts.fit)
    empty = [name for name in NUMERIC if not learnt[name].notna().to_numpy().any()]
    if empty:
        views = sorted({name.partition("__")[0] for name in empty if "__" in name})
        raise AssayError(
            f"{', '.join(empty)} has no value in any of the {len(learnt)} flights from {parts.fit[0]} to {parts.fit[-1]}, of "
            f"which the model of {month_of(rows.month)} would learn",
            f"materialize gold/{' and gold/'.join(views)} and models/arrival_delay_training_set for these days, or take the "
            "feature out of ml/features.py",
        )
    for part, days in (("learn", parts.fit), ("be calibrated", parts.calibrate), ("be judged", parts.gate)):
        labels = _of(rows.frame, days)[LABEL].tolist()
        if len(set(labels)) < 2:
            what = "late" if labels[0] else "on time"
            raise AssayError(
                f"All {len(labels)} flights from {days[0]} to {days[-1]} were {what}, and the model of "
                f"{month_of(rows.month)} was to {part} on them",
                "look at is_delayed in gold/flight_facts; train for a month with more days before it",
            )


def _recipe() -> str:
    """Hashes what, besides the data, decides the trees and what the served model does with them."""
    parts = [
        PARAMETERS,
        TREES,
        CALIBRATION_C,
        [FULL_HISTORY_DAYS, CALIBRATION_DAYS, GATE_DAYS],
        CATEGORICAL,
        NUMERIC,
        SERVICE,
        version("lightgbm"),
    ]
    code = Path(__file__).with_name("served_model.py").read_bytes()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + code).hexdigest()


def _registered(settings: Settings, rows: Learnable, recipe: str) -> RegisteredModel | None:
    wanted = (month_of(rows.month), rows.fingerprint, recipe)
    equal = [m for m in model_versions(settings) if (m.month, m.fingerprint, m.recipe) == wanted]
    return equal[-1] if equal else None


def _register(
    settings: Settings,
    mlflow: ModuleType,
    rows: Learnable,
    fitted: Fitted,
    recipe: str,
    lineage: Mapping[str, str],
) -> None:
    from ml import served_model

    tags = {
        MONTH: month_of(rows.month),
        TRAINED_THROUGH: rows.trained_through.isoformat(),
        FINGERPRINT: rows.fingerprint,
        RECIPE: recipe,
        FEAST_SERVICE: SERVICE,
        **{f"{SNAPSHOT}{table}": ",".join(map(str, ids)) for table, ids in rows.snapshots.items()},
    }
    name = model_name(settings)
    mlflow.set_experiment(experiment_name(settings))
    with mlflow.start_run(run_name=f"{name} {month_of(rows.month)}", tags={**lineage, **tags, **_commit()}) as run:
        mlflow.log_params({**PARAMETERS, "trees": TREES, **fitted.encoding["calibration"]})
        for dataset in _inputs(settings, rows):
            mlflow.log_input(dataset, context="training")
        example = rows.frame.filter(items=MODEL_COLUMNS).head(5)
        with tempfile.TemporaryDirectory() as folder:
            trees = fitted.booster.model_to_string().encode()
            encoding = {**fitted.encoding, "booster_sha256": hashlib.sha256(trees).hexdigest()}
            artifacts = {"booster": Path(folder) / "booster.txt", "encoding": Path(folder) / "encoding.json"}
            artifacts["booster"].write_bytes(trees)
            artifacts["encoding"].write_text(json.dumps(encoding))
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=served_model.__file__,
                artifacts={key: str(path) for key, path in artifacts.items()},
                signature=_signature(),
                input_example=example,
                # Given, because MLflow otherwise starts a process that imports everything to find out.
                pip_requirements=[f"{p}=={version(p)}" for p in ("mlflow", "lightgbm", "pandas", "numpy")],
            )
    # After the run, and with the tags in the same request: a version never shows without what it learnt from.
    mlflow.register_model(logged.model_uri, name, tags={**tags, "run_id": run.info.run_id})


def _signature() -> Any:
    """Said, not inferred from rows: MLflow takes a column that has a gap in them for one that may be missing."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    asked = [ColSpec(DataType.string, name) for name in CATEGORICAL] + [
        ColSpec(DataType.double, name) for name in NUMERIC
    ]
    answered = [ColSpec(DataType.double, "delay_probability"), ColSpec(DataType.boolean, "delayed")]
    return ModelSignature(inputs=Schema([*asked]), outputs=Schema([*answered]))


def _inputs(settings: Settings, rows: Learnable) -> list[Any]:
    """Every table at every snapshot, as MLflow's inputs of the run. Without the rows: MLflow would look at each value of
    them to find out its type, 14 s of CPU for a year."""
    from mlflow.data.meta_dataset import MetaDataset

    from ml.snapshot_source import SnapshotSource

    training_set = str(settings.table(*TRAINING_SET))
    return [
        MetaDataset(
            SnapshotSource(f"{table}@{snapshot}"),
            name=table,
            # MLflow shows at most 36 characters of it.
            digest=rows.fingerprint[:36] if table == training_set else str(snapshot),
            schema=_signature().inputs if table == training_set else None,
        )
        for table, ids in rows.snapshots.items()
        for snapshot in ids
    ]


def _commit() -> dict[str, str]:
    """The code's git commit as a run's tag; nothing where the project is no checkout."""
    git = ["git", "-C", str(PROJECT)]
    try:
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    if done.returncode:
        return {}
    return {"git.commit": done.stdout.strip(), "git.changed": str(bool(changed.stdout.strip())).lower()}


def _decide(
    settings: Settings, mlflow: ModuleType, rows: Learnable, parts: Parts, model: RegisteredModel, by: str
) -> Decision:
    """Scores everybody on the gate's days, shows it in the model's run, and writes the decision down.

    The model is judged as it is registered: one whose files cannot be read never becomes champion.
    """
    from ml.plots import curves

    gate = _of(rows.frame, parts.gate)
    labels = gate[LABEL].tolist()
    said = baselines(_of(rows.frame, [*parts.fit, *parts.calibrate]), gate, LABEL)
    said[CHALLENGER] = probabilities(settings, model, gate.filter(items=MODEL_COLUMNS))["delay_probability"].to_numpy()
    rival = champion(settings, date.fromisoformat(f"{month_before(model.month)}-01"))
    if rival is not None:
        said[CHAMPION] = probabilities(settings, rival, gate.filter(items=MODEL_COLUMNS))[
            "delay_probability"
        ].to_numpy()
    scores = {str(who): probability_metrics(labels, said[who].tolist()) for who in said.columns}
    verdict = judge(scores)
    metrics = {f"{who}.{what}": value for who, one in scores.items() for what, value in one.items()}
    metrics |= {"gate.rows": float(len(gate)), "gate.observed_rate": float(gate[LABEL].mean())}
    with (
        answering(f"writing the scores of {model.name} version {model.version}"),
        mlflow.start_run(run_id=model.run_id),
    ):
        mlflow.log_metrics(metrics)
        mlflow.log_params({f"{part}_from": getattr(parts, part)[0] for part in ("fit", "calibrate", "gate")})
        for name, figure in curves(labels, said).items():
            mlflow.log_figure(figure, f"plots/{name}.png")
    why = verdict.why
    if rival is not None and rival.name != model.name:
        why += f"; the champion was the base's {rival.name}"
    return record(settings, model, verdict.passed, rival.version if rival else None, why, by)


def _page(settings: Settings, experiment: str, run_id: str) -> str | None:
    address = settings.mlflow_tracking_uri
    return f"{address}/#/experiments/{experiment}/runs/{run_id}" if address.startswith("http") else None


def _tag(settings: Settings, table_name: str, snapshots: Sequence[int], model: RegisteredModel) -> list[str]:
    """Tags what a version was made from, so that expiry spares it: `model_<name>_v<version>`, and with `_2` and so on what
    is older.

    Returns:
        The tags' names; not of a snapshot that is gone.
    """
    found: list[str] = []
    for number, snapshot in enumerate(snapshots, start=1):
        tag = f"model_{model.name}_v{model.version}" + (f"_{number}" if number > 1 else "")
        if _tag_one(settings, table_name, snapshot, tag):
            found.append(tag)
    return found


def _tag_one(settings: Settings, table_name: str, snapshot_id: int, tag: str) -> bool:
    """
    Raises:
        AssayError: other writers were quicker five times.
    """
    from pyiceberg.exceptions import CommitFailedException

    _, layer, table = table_name.split(".")
    for _ in range(WRITE_ATTEMPTS):
        loaded = load_table(settings, layer.split("__")[-1], table)
        if tag in loaded.metadata.refs and loaded.metadata.refs[tag].snapshot_id == snapshot_id:
            return True
        if loaded.snapshot_by_id(snapshot_id) is None:
            return False
        try:
            loaded.manage_snapshots().create_tag(snapshot_id, tag).commit()
        except CommitFailedException:
            continue
        return True
    raise AssayError(
        f"{table_name} was written by others each time its snapshot {snapshot_id} was to be tagged",
        "train again: it is reused",
    )
