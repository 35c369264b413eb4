"""The domain's own part of the graph.

Belongs here: assets that neither a contract nor a dbt model declares, such as features and models. Does not belong here:
anything that the platform needs.
"""

import dagster as dg

from foundation.settings import Settings


def domain_assets(
    settings: Settings, daily: dg.DailyPartitionsDefinition, monthly: dg.MonthlyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """None yet. Give assets `daily` or `monthly`, the days and months of the contracts, as their partitions."""
    return []
