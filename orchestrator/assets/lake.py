"""Landing, Bronze, Silver and quarantine: the assets of a contract.

Belongs here: what every feed gets by having a contract. Does not belong here: anything of one feed.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator import spikes
from orchestrator.assets.expectations import (
    EXPECTATIONS,
    expectation_specs,
    judge_table,
    nothing_of,
    parts_of,
    report_expectations,
)
from orchestrator.automation import any_partition
from orchestrator.lineage import columns_of
from orchestrator.partitions import run_days
from orchestrator.reporting import (
    column_lineage,
    column_schema,
    described_schema,
    due_policy,
    lineage,
    on_last,
    report_check,
    report_parts,
)
from quality.suites import subject_of_feed
from spark_assets.tables import bronze_columns, quarantine_columns

if TYPE_CHECKING:
    from quality.validate import Report

ONE_FATE = "every_bronze_row_has_one_fate"
AUDITED = "keys_are_unique_and_required_columns_filled"


def lake_assets(
    settings: Settings, contract: Contract, daily: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of one feed, in the order of the data. Those of a full feed have no partitions."""
    landing, bronze, silver, quarantine = (
        dg.AssetKey([layer, contract.feed]) for layer in ("landing", "bronze", "silver", "quarantine")
    )
    partitions = daily if contract.days else None
    subject = subject_of_feed(contract)
    folder = f"landing/{contract.feed}/{'ds=<day>/' if contract.days else ''}"

    landed = dg.AssetSpec(
        landing,
        group_name="landing",
        kinds={"file"},
        owners=[contract.owner],
        description=f"What the vendor sends to {folder}. {contract.description}",
        partitions_def=partitions,
    )

    @dg.asset(
        key=bronze,
        deps=[landing],
        group_name="bronze",
        kinds={"spark", "iceberg"},
        owners=[contract.owner],
        description=f"As received, every version of every file, as text. {contract.description}",
        metadata={
            "table": str(settings.table("bronze", contract.feed)),
            **described_schema(bronze_columns(contract)),
        },
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=due_policy(contract),
        pool="spark",
    )
    def bronze_asset(context: dg.AssetExecutionContext) -> None:
        from spark_assets.bronze import ingest

        days = run_days(context) if contract.days else None
        outcome = ingest(settings, contract, days, lineage(context, bronze))
        written = {
            part: {
                "dagster/partition_row_count" if contract.days else "dagster/row_count": result.rows,
                "file_versions": len(result.versions),
                "files": sorted({version.path for version in result.versions}),
                "newest_sequence": max((version.sequence for version in result.versions), default=0),
                "snapshot_id": str(outcome.snapshot_id),
            }
            for part, result in outcome.parts.items()
            if result.rows is not None
        }
        for part, values in written.items():
            partition = None if part is None else str(part)
            context.log_event(
                dg.AssetMaterialization(landing, partition=partition, metadata={"files": values["files"]})
            )
        written = on_last(written, column_lineage(columns_of(contract, "bronze")))
        report_parts(context, {bronze: written}, {p: r.error for p, r in outcome.parts.items() if r.error is not None})

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
                metadata={"table": str(settings.table("silver", contract.feed)), **column_schema(contract)},
                freshness_policy=due_policy(contract),
                # A new delivery of a reference is not a reason to make every day again.
                automation_condition=any_partition(but_not_for=[dg.AssetKey(["silver", ref]) for ref in contract.refs]),
                skippable=True,
            ),
            dg.AssetSpec(
                quarantine,
                deps=[bronze],
                group_name="quarantine",
                kinds={"spark", "iceberg"},
                owners=[contract.owner],
                description=f"The rows of {contract.feed} that are not in Silver, as received, with every reason.",
                metadata={
                    "table": str(settings.table("quarantine", contract.feed)),
                    **described_schema(quarantine_columns(contract)),
                },
                freshness_policy=due_policy(contract),
                automation_condition=any_partition(),
                skippable=True,
            ),
        ],
        # Both are always written, as they are one truth; either may be asked for alone.
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                ONE_FATE,
                asset=silver,
                blocking=True,
                partitions_def=partitions,
                description="The four fates sum to Bronze, by day.",
            ),
            dg.AssetCheckSpec(
                AUDITED,
                asset=silver,
                blocking=True,
                partitions_def=partitions,
                description="Held on the branch, before it was published.",
            ),
            *expectation_specs(subject),
            *([spikes.spec(quarantine)] if contract.days else []),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="spark",
    )
    def silver_asset(context: dg.AssetExecutionContext):
        from spark_assets.classify import ACCEPTED, DUPLICATE, QUARANTINED
        from spark_assets.publish import refine

        days = run_days(context) if contract.days else []
        found: list[Report] = []

        def judge(snapshot_id: int, parts: Sequence[date | None]) -> Mapping[date | None, AssayError]:
            there = parts_of(subject, [part for part in parts if part], {contract.feed: contract})
            found.append(judge_table(settings, subject, there, snapshot_id) if there else nothing_of(subject))
            return found[0].refusals()

        written = refine(settings, contract, days if contract.days else None, lineage(context, silver), judge)
        errors = {part: outcome.error for part, outcome in written.parts.items() if outcome.error is not None}
        expected = dg.AssetCheckKey(silver, EXPECTATIONS)
        if (spike := spikes.spec(quarantine).key) in context.selected_asset_check_keys:
            rows = {part: one.rows[QUARANTINED] + one.rows[DUPLICATE] for part, one in written.parts.items() if part}
            yield spikes.result(context.instance, quarantine, rows, sorted(rows.keys() - errors.keys()))
        checked = [
            dg.AssetCheckResult(
                asset_key=silver,
                check_name=check.name,
                passed=True,  # a day that broke either was not published, and its error follows
                metadata={
                    "days": len(written.parts) - len(errors),
                    "days_not_published": [str(part) for part in errors],
                },
            )
            for check in sorted(context.selected_asset_check_keys - {spike, expected})
        ]
        yield from checked
        if expected in context.selected_asset_check_keys:
            report = found[0] if found else nothing_of(subject)
            kept = [day for day in days if day in report.parts or day not in errors]
            yield from report_expectations(context.op_execution_context, report, kept, published=False)
        read = {"bronze_snapshot_id": str(written.bronze_snapshot_id)}
        read |= {f"{ref}_snapshot_id": str(snapshot) for ref, snapshot in written.ref_snapshot_ids.items()}
        count = "dagster/partition_row_count" if contract.days else "dagster/row_count"
        good = {part: outcome for part, outcome in written.parts.items() if outcome.error is None}
        report_parts(
            context,
            {
                silver: on_last(
                    {
                        part: {
                            count: one.rows[ACCEPTED],
                            **one.rows,
                            "snapshot_id": str(written.silver_snapshot_id),
                            "file_sequences": list(written.sequences.get(part, ())),
                            **read,
                        }
                        for part, one in good.items()
                    },
                    column_lineage(columns_of(contract, "silver")),
                ),
                # Written for bad days too: that is where one looks for the reasons.
                quarantine: on_last(
                    {
                        part: {
                            count: one.rows[QUARANTINED] + one.rows[DUPLICATE],
                            "reasons": one.reasons,
                            "snapshot_id": str(written.quarantine_snapshot_id),
                            **read,
                        }
                        for part, one in written.parts.items()
                    },
                    column_lineage(columns_of(contract, "quarantine")),
                ),
            },
            errors,
        )
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key)
        published = {part: True for part in good if part is not None}
        if published and silver in context.selected_asset_keys:
            for result in checked:
                report_check(context, result, published)

    return [landed, bronze_asset, silver_asset]
