"""How models are called in MLflow, and what their versions say about themselves.

Belongs here: names, tags and reading the registry. Does not belong here: training, or what a version is used for.
"""

import os
from dataclasses import dataclass
from datetime import date
from types import ModuleType

from foundation.names import schema_prefix
from foundation.settings import Settings

MODEL = "arrival_delay"
# Tags of a model version. A version without `trained_through` was registered by hand and is never chosen.
TRAINED_THROUGH = "trained_through"
MONTH = "month"
FINGERPRINT = "fingerprint"
RECIPE = "recipe"
SNAPSHOT = "snapshot."
# Set to "true" on a version to take it back: the next best one is chosen from then on.
WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class RegisteredModel:
    """A version of the model.

    Args:
        trained_through: the last day it learnt from.
        month: `YYYY-MM`, the month it was trained for.
        fingerprint: the content hash of its training set.
        recipe: the hash of its parameters, columns and code.
        snapshots: table (`lake.gold.flight_facts`) to the snapshot id it learnt from.
        withdrawn: whether somebody took it back.
    """

    name: str
    version: int
    run_id: str
    trained_through: date
    month: str
    fingerprint: str
    recipe: str
    snapshots: dict[str, int]
    withdrawn: bool

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` wants."""
        return f"models:/{self.name}/{self.version}"


def model_name(settings: Settings) -> str:
    """The registered model's name: prefixed as tables are, so that a branch's model is never production's."""
    return f"{schema_prefix(settings.environment)}{MODEL}"


def experiment_name(settings: Settings) -> str:
    """The MLflow experiment of an environment."""
    return f"assay-{settings.environment}"


def connect(settings: Settings) -> ModuleType:
    """MLflow, set to the tracking server of these settings and silent towards its makers."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # The bars would fill a run's log with carriage returns.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    mlflow.set_registry_uri(settings.mlflow_tracking_uri)
    return mlflow


def model_versions(settings: Settings) -> list[RegisteredModel]:
    """Every usable version in the registry, the oldest first."""
    client = connect(settings).MlflowClient()
    name = model_name(settings)
    found: list[RegisteredModel] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for version in page:
            tags: dict[str, str] = version.tags
            if version.status != "READY" or TRAINED_THROUGH not in tags:
                continue
            found.append(
                RegisteredModel(
                    name=name,
                    version=int(version.version),
                    run_id=version.run_id,
                    trained_through=date.fromisoformat(tags[TRAINED_THROUGH]),
                    month=tags.get(MONTH, ""),
                    fingerprint=tags.get(FINGERPRINT, ""),
                    recipe=tags.get(RECIPE, ""),
                    snapshots={t.removeprefix(SNAPSHOT): int(i) for t, i in tags.items() if t.startswith(SNAPSHOT)},
                    withdrawn=tags.get(WITHDRAWN) == "true",
                )
            )
        token = page.token
        if not token:
            return sorted(found, key=lambda model: model.version)
