"""When assets are made by themselves.

Belongs here: automation conditions and the sensor that evaluates them. Does not belong here: the landing sensors, which
look at files.
https://docs.dagster.io/guides/automate/declarative-automation
"""

from collections.abc import Sequence

import dagster as dg


def any_partition(but_not_for: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition:
    """Make a partition when what it is made of changed, for any day, not only the latest: a late file is a file too.

    Args:
        but_not_for: upstream assets that must be there, but whose change is no reason.
    """
    condition = dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
    if but_not_for:
        updated = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(*but_not_for))
        condition = condition.replace("any_deps_updated", updated)
    return condition


def each_hour() -> dg.AutomationCondition:
    """At the fifth minute of each hour: contracts say when something is due in minutes, people look in hours."""
    return dg.AutomationCondition.cron_tick_passed("5 * * * *") & ~dg.AutomationCondition.in_progress()


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates every asset's condition each 30 s, and is on from the start."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
