"""The default domain's own part of the graph: flights.

Belongs here: the assets that neither a contract nor a dbt model declares, which are those of features, models and
monitoring. Does not belong here: anything that the platform needs. A copy of `./assay init --empty` has an empty one in its
place.
"""

import dagster as dg

from foundation.settings import Settings
from ml.expectations import TRAINING_SET
from orchestrator.assets.features import feature_assets
from orchestrator.assets.models import model_assets
from orchestrator.assets.monitoring import monitoring_assets
from quality.profile import Subject


def domain_assets(
    settings: Settings, daily: dg.DailyPartitionsDefinition, monthly: dg.MonthlyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The features, the model, its predictions and their drift."""
    return [
        *feature_assets(settings, daily),
        *model_assets(settings, daily, monthly),
        *monitoring_assets(settings, daily),
    ]


def domain_subjects() -> list[Subject]:
    """What is expected of tables that neither a contract nor a dbt model declares."""
    return [TRAINING_SET]
