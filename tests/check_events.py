"""What a run said of its checks, day by day.

Belongs here: reading evaluations from an instance's log. Does not belong here: running anything.
"""

import dagster as dg


def evaluations_of(
    instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, name: str
) -> dict[str | None, dg.AssetCheckEvaluation]:
    """The evaluations of the checks of a name by partition, None for the table's. From the log: those of days are written
    there at once, and the result does not have them."""
    records = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [one.dagster_event.asset_check_evaluation_data for one in records if one.dagster_event]
    return {one.partition: one for one in found if one.check_name == name}
