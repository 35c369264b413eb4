"""When assets are made by themselves.

Belongs here: automation conditions and the sensor that evaluates them. Does not belong here: the landing sensors, which
look at files.
https://docs.dagster.io/guides/automate/declarative-automation
"""

from collections.abc import Sequence

import dagster as dg


def any_partition(
    but_not_for: Sequence[dg.AssetKey] = (),
    views: Sequence[dg.AssetKey] = (),
    optional: Sequence[dg.AssetKey] = (),
) -> dg.AutomationCondition:
    """Make a partition when what it is made of changed, for any day, not only the latest: a late file is a file too.

    Args:
        but_not_for: upstream assets that must be there, but whose change is no reason.
        views: upstream views. They must be there already: one that is being requested is another run's, as it has no
            partitions. Their change is no reason either: it would be one for each day that there is.
        optional: upstream assets that need not be there; when they come, the partition is made again.
    """
    condition = dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
    if but_not_for or views:
        updated = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(*but_not_for, *views))
        condition = condition.replace("any_deps_updated", updated)
    if optional:
        missing = dg.AutomationCondition.any_deps_missing().ignore(dg.AssetSelection.assets(*optional))
        condition = condition.replace("any_deps_missing", missing)
    if views:
        absent = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.missing())
        condition &= ~absent.allow(dg.AssetSelection.assets(*views))
    return condition & ~behind_a_failed_check()


def behind_a_failed_check() -> dg.AutomationCondition:
    """Whether a blocking check of what a partition is made of failed when it last ran. One that never ran blocks nothing."""
    failed = dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
    return dg.AutomationCondition.any_deps_match(failed)


def view_condition() -> dg.AutomationCondition:
    """Make a view when something that it shows is there for the first time, or when what it says has changed; not when its
    tables have new rows."""
    first = dg.AutomationCondition.missing() & dg.AutomationCondition.any_deps_updated()
    changed = dg.AutomationCondition.code_version_changed()
    return (first | changed) & ~dg.AutomationCondition.in_progress()


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
