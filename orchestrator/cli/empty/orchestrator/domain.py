"""The domain's own part of the graph.

Belongs here: assets that neither a contract nor a dbt model declares, such as features and models. Does not belong here:
anything that the platform needs.
"""

import dagster as dg

from foundation.settings import Settings
from orchestrator.assets.features import feature_assets
from quality.profile import Subject


def domain_assets(
    settings: Settings, daily: dg.DailyPartitionsDefinition, monthly: dg.MonthlyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The feature views. Give assets of your own `daily` or `monthly`, the days and months of the contracts, as their
    partitions."""
    return [*feature_assets(settings, daily)]


def domain_subjects() -> list[Subject]:
    """None yet. What is expected of tables that neither a contract nor a dbt model declares."""
    return []
