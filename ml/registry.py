"""How models are called in MLflow, and what their versions say about themselves.

Belongs here: names, tags, reading the registry, and what a person is told if it does not answer. Does not belong here:
training, or which version is valid when (promotion.py).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import ModuleType
from typing import TYPE_CHECKING, Any

from foundation.errors import AssayError
from foundation.names import schema_prefix
from foundation.settings import Settings, base_settings

if TYPE_CHECKING:
    import pandas as pd

MODEL = "arrival_delay"
# Tags of a model version. One without `trained_through` was registered by hand: the platform does not look at it.
TRAINED_THROUGH = "trained_through"
MONTH = "month"
FINGERPRINT = "fingerprint"
RECIPE = "recipe"
FEAST_SERVICE = "feast_service"
GATE = "gate"
SNAPSHOT = "snapshot."
# A server that restarts is back in seconds. MLflow's own seven attempts take four minutes, in which nobody learns that it
# is down; three take six seconds.
ATTEMPTS = "3"


class RegistryDown(AssayError):
    """MLflow does not answer, or its database is locked: what comes next would fail too."""


@dataclass(frozen=True)
class RegisteredModel:
    """A version of the model.

    Args:
        trained_through: the last day it learnt from, calibration and gate included.
        month: `YYYY-MM`, the month it was trained for.
        fingerprint: the content hash of the rows it learnt from.
        recipe: the hash of its parameters, columns and code.
        snapshots: table (`lake.models.arrival_delay_training_set`) to the ids of what it was made from, the newest first.
            The training set has one; a feature table has as many as there were runs that made the training set's months.
    """

    name: str
    version: int
    run_id: str
    trained_through: date
    month: str
    fingerprint: str
    recipe: str
    snapshots: dict[str, tuple[int, ...]]

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` wants."""
        return f"models:/{self.name}/{self.version}"


def model_name(settings: Settings) -> str:
    """The registered model's name: prefixed as tables are, so that a branch's model is never production's."""
    return f"{schema_prefix(settings.environment)}{MODEL}"


def owner_of(settings: Settings, model: "RegisteredModel") -> Settings:
    """The environment that made a version: a branch's models may be its base's, and what those learnt from is there, too."""
    return settings if model.name == model_name(settings) else base_settings(settings)


def experiment_name(settings: Settings) -> str:
    """The MLflow experiment of an environment."""
    return f"assay-{settings.environment}"


def connect(settings: Settings) -> ModuleType:
    """MLflow, set to the tracking server of these settings and silent towards its makers."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # The bars would fill a run's log with carriage returns.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", ATTEMPTS)
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    mlflow.set_registry_uri(settings.mlflow_tracking_uri)
    return mlflow


@contextmanager
def answering(doing: str) -> Iterator[None]:
    """Says in a person's words that MLflow did not do what it was asked.

    Args:
        doing: what for, as in `MLflow failed while <doing>`.

    Raises:
        AssayError: MLflow refused.
        RegistryDown: it does not answer, or its database is locked by another writer.
    """
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, ConnectionError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        code = getattr(error, "error_code", "TEMPORARILY_UNAVAILABLE")
        # MLflow calls an address that refuses connections an internal error, as it does what it cannot classify.
        if code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "RESOURCE_EXHAUSTED"):
            raise RegistryDown(
                f"MLflow does not answer, while {doing}: {text}",
                "see ./assay status, then run this again: it goes on from here, and the champion is who it was",
            ) from error
        raise AssayError(
            f"MLflow refused, while {doing}: {text}", "look at ./assay logs mlflow, then run this again"
        ) from error


def model_versions(settings: Settings) -> list[RegisteredModel]:
    """Every usable version in the registry, the oldest first.

    Raises:
        RegistryDown: MLflow does not answer.
    """
    client = connect(settings).MlflowClient()
    name = model_name(settings)
    found: list[RegisteredModel] = []
    token: str | None = None
    with answering(f"listing the versions of {name}"):
        while True:
            page = client.search_model_versions(f"name = '{name}'", page_token=token)
            found += [_described(name, v) for v in page if v.status == "READY" and TRAINED_THROUGH in v.tags]
            token = page.token
            if not token:
                return sorted(found, key=lambda model: model.version)


def _described(name: str, version: Any) -> RegisteredModel:
    tags: dict[str, str] = version.tags
    return RegisteredModel(
        name=name,
        version=int(version.version),
        run_id=version.run_id,
        trained_through=date.fromisoformat(tags[TRAINED_THROUGH]),
        month=tags.get(MONTH, ""),
        fingerprint=tags.get(FINGERPRINT, ""),
        recipe=tags.get(RECIPE, ""),
        snapshots={
            name.removeprefix(SNAPSHOT): tuple(int(one) for one in value.split(","))
            for name, value in tags.items()
            if name.startswith(SNAPSHOT)
        },
    )


def probabilities(settings: Settings, model: RegisteredModel, frame: "pd.DataFrame") -> "pd.DataFrame":
    """What a registered version says of some flights.

    Args:
        frame: has the model's columns (`ml.features.MODEL_COLUMNS`).

    Returns:
        `delay_probability` (0 to 1) and `delayed`, a row per row.

    Raises:
        AssayError: its files are damaged or gone, or the frame has not the columns that it learnt from.
        RegistryDown: MLflow does not answer.
    """
    loaded = load_model(settings, model)
    refuse_other_columns(loaded, model, frame.columns)
    return loaded.predict(frame)


def refuse_other_columns(loaded: Any, model: RegisteredModel, columns: Iterable[str]) -> None:
    """A version learnt from columns that may have been taken out of the code since.

    Args:
        loaded: what `load_model` returned for it.
        columns: those that it is about to be given.

    Raises:
        AssayError: it wants others; names them.
    """
    there = set(columns)
    if lacking := [name for name in loaded.metadata.get_input_schema().input_names() if name not in there]:
        raise AssayError(
            f"{model.name} version {model.version} learnt from {', '.join(lacking)}, and these flights do not have it",
            f"if that feature was taken out of ml/features.py, materialize models/arrival_delay from {model.month} on: each "
            "month learns the columns of today, and is judged against the month before",
        )


def load_model(settings: Settings, model: RegisteredModel) -> Any:
    """A registered version as MLflow loads it.

    Raises:
        AssayError: its files are damaged or gone.
        RegistryDown: MLflow does not answer.
    """
    mlflow = connect(settings)
    version = f"{model.name} version {model.version}"
    with answering(f"finding the files of {version}"):
        mlflow.MlflowClient().get_model_version_download_uri(model.name, str(model.version))
    try:
        return mlflow.pyfunc.load_model(model.uri)
    except Exception as error:  # the version's own code runs here: what a damaged file raises is open
        raise AssayError(
            f"The files of {version} are damaged or gone: {_first_line(error)}",
            f"restore the artifacts of MLflow run {model.run_id}; or delete version {model.version} in MLflow and materialize "
            f"models/arrival_delay for {model.month}; or go to another champion: ./assay models roll-back",
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")
