"""When assets are made by themselves.

Belongs here: automation conditions and the sensor that evaluates them. Does not belong here: the landing sensors, which
look at files.
https://docs.dagster.io/guides/automate/declarative-automation
"""

from collections.abc import Sequence

import dagster as dg

from orchestrator.conditions import Blocked, Changed, InTurn, NewCode, RequestedWith, RetryDue


def any_partition(
    but_not_for: Sequence[dg.AssetKey] = (),
    views: Sequence[dg.AssetKey] = (),
    optional: Sequence[dg.AssetKey] = (),
    earlier: Sequence[dg.AssetKey] = (),
) -> dg.AutomationCondition:
    """Make a partition when what it is made of changed, for any day, not only the latest: a late file is a file too. Make all
    that there are when what makes them changed. Try again what failed, three times.

    A change holds until an attempt began after it: one that comes while the partition is being made is not forgotten. What
    was just asked for waits for nothing: a chain is one run. Nothing is asked for that a step would refuse.

    Args:
        but_not_for: upstream assets that must be there, but whose change is no reason.
        views: upstream views. They must be there already: one that is being requested is another run's, as it has no
            partitions. Their change is no reason either: it would be one for each day that there is.
        optional: upstream assets that need not be there; when they come, the partition is made again.
        earlier: upstream assets of which an earlier partition alone is read. What was just asked of them is another run's, which
            Dagster does not see: it looks at the kind of the mapping, not at its offset. So these are waited for, also by what
            is due for another reason: it would be made now, and once more when they are there.
    """
    when, quiet = dg.AutomationCondition, {*but_not_for, *views}
    requested_with = RequestedWith(operand=when.will_be_requested())
    if apart := {*quiet, *earlier}:
        requested_with = requested_with.ignore(dg.AssetSelection.assets(*apart))
    due = Changed(but_not_for=frozenset(quiet)) | requested_with | NewCode() | RetryDue()
    absent = when.any_deps_missing()
    if optional:
        absent = absent.ignore(dg.AssetSelection.assets(*optional))
    # The run of a request may take longer to be there than the next tick.
    conditions = [due, ~Blocked(), ~when.newly_requested(), ~absent, ~when.any_deps_in_progress(), ~when.in_progress()]
    if earlier:
        conditions.append(~when.any_deps_match(when.will_be_requested()).allow(dg.AssetSelection.assets(*earlier)))
    if views:
        conditions.append(~when.any_deps_match(when.missing()).allow(dg.AssetSelection.assets(*views)))
    return InTurn(operands=conditions)


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
        use_user_code_server=True,
    )
