"""Landing, Bronze, Silver and quarantine: the assets of a contract.

Belongs here: what every feed gets by having a contract. Does not belong here: anything of one feed.
"""

import dagster as dg

from foundation.contract import Contract
from foundation.settings import Settings
from orchestrator.automation import any_partition
from orchestrator.partitions import run_days
from orchestrator.reporting import column_schema, due_policy, lineage, report_days

ONE_FATE = "every_bronze_row_has_one_fate"
AUDITED = "keys_are_unique_and_required_columns_filled"


def lake_assets(
    settings: Settings, contract: Contract, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of one feed, in the order of the data."""
    landing, bronze, silver, quarantine = (
        dg.AssetKey([layer, contract.feed]) for layer in ("landing", "bronze", "silver", "quarantine")
    )

    landed = dg.AssetSpec(
        landing,
        group_name="landing",
        kinds={"file"},
        owners=[contract.owner],
        description=f"What the vendor sends to landing/{contract.feed}/ds=<day>/. {contract.description}",
        partitions_def=partitions,
    )

    @dg.asset(
        key=bronze,
        deps=[landing],
        group_name="bronze",
        kinds={"spark", "iceberg"},
        owners=[contract.owner],
        description=f"As received, every version of every file, as text. {contract.description}",
        metadata={"table": str(settings.table("bronze", contract.feed))},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=due_policy(contract),
        pool="spark",
    )
    def bronze_asset(context: dg.AssetExecutionContext) -> None:
        from spark_assets.bronze import ingest

        outcome = ingest(settings, contract, run_days(context), lineage(context, bronze))
        good = {
            day: {
                "dagster/partition_row_count": result.rows,
                "file_versions": len(result.versions),
                "files": sorted({version.path for version in result.versions}),
                "snapshot_id": str(outcome.snapshot_id),
            }
            for day, result in outcome.days.items()
            if result.error is None
        }
        for day, values in good.items():
            context.log_event(dg.AssetMaterialization(landing, partition=str(day), metadata={"files": values["files"]}))
        report_days(context, {bronze: good}, {d: r.error for d, r in outcome.days.items() if r.error is not None})

    @dg.multi_asset(
        name=f"silver__{contract.feed}",
        specs=[
            dg.AssetSpec(
                silver,
                deps=[bronze, *[dg.AssetKey(["silver", ref]) for ref in contract.refs]],
                group_name="silver",
                kinds={"spark", "iceberg"},
                owners=[contract.owner],
                description=f"Typed, deduplicated, UTC. {contract.description}",
                metadata={"table": str(settings.table("silver", contract.feed)), **column_schema(contract.columns)},
                freshness_policy=due_policy(contract),
                automation_condition=any_partition(),
                skippable=True,
            ),
            dg.AssetSpec(
                quarantine,
                deps=[bronze],
                group_name="quarantine",
                kinds={"spark", "iceberg"},
                owners=[contract.owner],
                description=f"The rows of {contract.feed} that are not in Silver, as received, with every reason.",
                metadata={"table": str(settings.table("quarantine", contract.feed))},
                freshness_policy=due_policy(contract),
                automation_condition=any_partition(),
                skippable=True,
            ),
        ],
        # Both are always written, as they are one truth; either may be asked for alone.
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                ONE_FATE, asset=silver, blocking=True, description="The four fates sum to Bronze, by day."
            ),
            dg.AssetCheckSpec(
                AUDITED, asset=silver, blocking=True, description="Held on the branch, before it was published."
            ),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="spark",
    )
    def silver_asset(context: dg.AssetExecutionContext):
        from spark_assets.publish import refine

        written = refine(settings, contract, run_days(context), lineage(context, silver))
        errors = {day: outcome.error for day, outcome in written.days.items() if outcome.error is not None}
        for check in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(
                asset_key=silver,
                check_name=check.name,
                passed=True,  # a day that broke either was not published, and its error follows
                metadata={"days": len(written.days) - len(errors), "days_not_published": [str(day) for day in errors]},
            )
        snapshots = {
            "snapshot_id": str(written.silver_snapshot_id),
            "bronze_snapshot_id": str(written.bronze_snapshot_id),
        }
        report_days(
            context,
            {
                silver: {
                    day: {"dagster/partition_row_count": outcome.rows["accepted"], **outcome.rows, **snapshots}
                    for day, outcome in written.days.items()
                },
                quarantine: {
                    day: {
                        "dagster/partition_row_count": outcome.rows["quarantined"],
                        "reasons": outcome.reasons,
                        "snapshot_id": str(written.quarantine_snapshot_id),
                    }
                    for day, outcome in written.days.items()
                },
            },
            errors,
        )
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key)

    return [landed, bronze_asset, silver_asset]
