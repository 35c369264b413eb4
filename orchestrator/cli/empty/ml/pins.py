"""Which snapshots of the lake models and predictions name: none, until there is a model.

Belongs here: what expiry must ask before it removes a snapshot. Does not belong here: expiry (spark_assets/maintenance).
"""

from datetime import date

from foundation.settings import Settings


def named_snapshots(settings: Settings, since: date) -> dict[str, set[int]]:
    """Table (`lake.gold.x`) to the snapshots that something still names.

    Args:
        since: predictions of earlier days no longer keep what they read.
    """
    return {}
