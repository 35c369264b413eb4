"""Feast's feature views as assets, and a check of each: the online store serves what Gold has.

Belongs here: keys, dependencies, and what an outcome means to Dagster. Does not belong here: what a feature is
(feature_repo).
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from feature_repo.definitions import ALL_VIEWS
from feature_repo.views import AVAILABLE_AT, View
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.feature_lineage import made_of
from orchestrator.gates import shut_days
from orchestrator.partitions import consecutive, run_days
from orchestrator.reporting import column_lineage, described_schema, on_last, report_parts

if TYPE_CHECKING:
    from feature_repo.store import OnlineComparison


ONLINE = "online_is_what_gold_has"
NAMED_KEYS = 10


def feature_assets(settings: Settings, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One asset a feature view."""
    return [_view_asset(settings, view, partitions) for view in ALL_VIEWS.values()]


def _view_asset(settings: Settings, view: View, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    key = dg.AssetKey(["features", view.name])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["gold", view.name])],
        group_name="features",
        kinds={"feast"},
        owners=[view.owner],
        description=f"{view.description}; registered in Feast and online.",
        metadata=described_schema(
            {
                view.key: ("string", "Of what a row is."),
                **dict.fromkeys(view.counts, ("bigint", "")),
                **dict.fromkeys(view.numbers, ("double", "")),
                AVAILABLE_AT: ("timestamp", "From when on the row could be known."),
            }
        ),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        automation_condition=any_partition(),
        pool="feast",
        check_specs=[
            dg.AssetCheckSpec(
                ONLINE, asset=key, description="Every key is served with the newest row that Gold has of it."
            )
        ],
    )
    def feature_view(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from feature_repo.store import compare_online_with_offline, materialize

        errors = shut_days(context, run_days(context))
        made: dict[date | None, Mapping[str, Any]] = {}
        for first, last in consecutive(day for day in run_days(context) if day not in errors):
            done = materialize(settings, view.name, first, last)
            online = {"keys_online": done["keys_written"], "snapshot_id": str(done["snapshot_id"])}
            for day, rows in done["rows_by_day"].items():
                if rows:
                    made[day] = {"dagster/partition_row_count": rows, **online}
                else:
                    errors[day] = _late(settings, view, day)
        # Said before a bad day fails the step.
        yield _result(key, compare_online_with_offline(settings, view.name))
        report_parts(context, {key: on_last(made, column_lineage(made_of(view).columns))}, errors)
        yield dg.MaterializeResult(asset_key=key)

    return feature_view


def _late(settings: Settings, view: View, day: date) -> AssayError:
    return AssayError(
        f"{settings.table('gold', view.name)} has no row of {day}: what it is made of has not come",
        f"materialize gold/{view.name} for {day} once it has; until then older rows are served, with their age",
    )


def _result(key: dg.AssetKey, compared: "OnlineComparison") -> dg.AssetCheckResult:
    wrong = {name: getattr(compared, name) for name in ("missing", "older", "different")}
    said = ", ".join(
        f"{len(keys)} {name} (such as {', '.join(keys[:NAMED_KEYS])})" for name, keys in wrong.items() if keys
    )
    metadata: dict[str, dg.RawMetadataValue] = {name: len(keys) for name, keys in wrong.items()}
    metadata |= {"keys": compared.keys, "newer": len(compared.newer), "snapshot_id": str(compared.snapshot_id)}
    if compared.days:
        days = f"{compared.days[0]}...{compared.days[1]}"
        metadata["next"] = f"./assay dagster asset materialize --select {key.to_user_string()} --partition-range {days}"
    return dg.AssetCheckResult(
        passed=compared.same,
        asset_key=key,
        check_name=ONLINE,
        description=f"of {compared.keys} keys {said}" if said else f"all {compared.keys} keys are the same",
        metadata=metadata,
    )
