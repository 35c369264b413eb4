"""Great Expectations' verdicts in the graph: a check `expectations` on Silver, on Gold, on marts and what the domain names.

Belongs here: which table has one, on which state and days it is run, and the events that say so by day. Does not belong
here: what is expected, counting and judging (quality).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from foundation.contract import Contract
from foundation.settings import Settings
from orchestrator.domain import domain_subjects
from orchestrator.manifests import TARGETS, read_manifest
from orchestrator.reporting import failure, report_checks
from quality.profile import Subject
from quality.suites import subject_of_feed, subject_of_model

if TYPE_CHECKING:
    from quality.validate import PartReport, Report

EXPECTATIONS = "expectations"
DESCRIPTION = "Volume, nulls, values and matches are as in the days before, and what was written down by hand holds."
WAREHOUSE = "warehouse"
# In one event; a year of findings is on the page.
NAMED = 50


def expectation_specs(subject: Subject) -> list[dg.AssetCheckSpec]:
    """The check of a table. Only findings of severity error block."""
    key = dg.AssetKey([subject.layer, subject.table])
    return [dg.AssetCheckSpec(EXPECTATIONS, asset=key, blocking=True, description=DESCRIPTION)]


def subjects(settings: Settings, contracts: Mapping[str, Contract]) -> dict[str, Subject]:
    """What is judged, by `layer/table`: every feed's Silver, daily models of Gold, models that declare expectations, and the
    domain's own.

    Raises:
        AssayError: a manifest is missing, or what a model declares is no expectation.
    """
    found = [subject_of_feed(contract) for contract in contracts.values()]
    for target in TARGETS:
        manifest = read_manifest(settings, target)
        models = [name for name, node in manifest["nodes"].items() if node["resource_type"] == "model"]
        made = [subject_of_model(manifest, name, contracts) for name in models]
        found += [subject for subject in made if subject is not None]
    return {subject.name: subject for subject in [*found, *domain_subjects()]}


def expectation_checks(settings: Settings, contracts: Mapping[str, Contract]) -> list[dg.AssetChecksDefinition]:
    """A check for each table that is made elsewhere than in Silver, in a step of its own: it runs after its table and before
    what is made of it."""
    chosen = [one for one in subjects(settings, contracts).values() if one.layer != "silver"]
    return [_check(settings, contracts, subject) for subject in chosen]


def _check(settings: Settings, contracts: Mapping[str, Contract], subject: Subject) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"expectations__{subject.layer}__{subject.table}", specs=expectation_specs(subject), can_subset=True
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        run = context.op_execution_context
        keys = run.partition_keys if run.has_partition_key or run.has_partition_key_range else []
        days = sorted(date.fromisoformat(key) for key in keys)
        parts = parts_of(subject, days, contracts)
        snapshot_id = _written_snapshot(context.instance, subject, days)
        report = judge_table(settings, subject, parts, snapshot_id) if parts else nothing_of(subject)
        yield from report_expectations(run, report, days, published=True)
        if refused := report.refusals():
            raise failure(list(refused.values()))

    return check


def parts_of(subject: Subject, days: Sequence[date], contracts: Mapping[str, Contract]) -> Sequence[date | None]:
    """The days of a run that a subject can have, their months, or the whole table."""
    if subject.grain == "whole":
        return [None]
    if subject.grain == "month":
        return sorted({day.replace(day=1) for day in days})
    return sorted(day for day in days if all(contracts[feed].expects(day) for feed in subject.feeds))


def nothing_of(subject: Subject) -> "Report":
    """What is said of days that the subject cannot have."""
    from quality.validate import Report

    return Report(subject, None, {}, {}, None)


def judge_table(
    settings: Settings, subject: Subject, parts: Sequence[date | None], snapshot_id: int | None = None
) -> "Report":
    """Judges some parts of a table.

    Args:
        snapshot_id: the state; None for the newest.

    Raises:
        AssayError: the table is not there.
    """
    from quality.profile import lake_rows, reference_rows, warehouse_rows
    from quality.validate import judge

    if subject.layer == WAREHOUSE:
        return judge(settings, subject, warehouse_rows(settings, subject, parts), parts)
    rows = lake_rows(settings, subject, parts, snapshot_id)
    return judge(settings, subject, rows, parts, reference_rows(settings, subject, parts))


def report_expectations(
    context: dg.OpExecutionContext, report: "Report", days: Sequence[date], published: bool
) -> Iterator[dg.AssetCheckResult]:
    """An evaluation for each day (or month) of a run, and one of the table, which Dagster wants of each check of a step.

    Args:
        days: the run's partitions. Of a table of months each day has the verdict of its month.
        published: whether readers see what was refused. If not, the table itself is right, and blocks nothing.
    """
    key = dg.AssetKey([report.subject.layer, report.subject.table])
    evaluations: list[dg.AssetCheckEvaluation] = []
    for day in days:
        one = report.parts.get(day.replace(day=1) if report.subject.grain == "month" else day)
        judged = [] if one is None else [one]
        broken = any(part.errors for part in judged)
        evaluations.append(
            dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=EXPECTATIONS,
                passed=not any(part.failed for part in judged),
                severity=_severity(broken),
                blocking=True,
                partition=str(day),
                description=_described(judged, report),
                metadata=_metadata(judged, report),
            )
        )
    report_checks(context, evaluations)
    every = list(report.parts.values())
    broken = any(part.errors for part in every)
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=EXPECTATIONS,
        # A warning of one day must not hold up automation, which asks a blocking check only whether it passed.
        passed=not (broken and published),
        severity=_severity(broken),
        description=_described(every, report),
        metadata=_metadata(every, report),
    )


def _severity(error: bool) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN


def _described(judged: "Sequence[PartReport]", report: "Report") -> str:
    broken = sum(len(one.errors) for one in judged)
    warned = sum(len(one.failed) for one in judged) - broken
    said = [f"{broken} broken", f"{warned} warnings", f"{sum(one.passed for one in judged)} met"]
    said += [f"{unknown} not judged"] if (unknown := sum(one.not_judged for one in judged)) else []
    said += [f"{len(report.errored)} could not be judged at all"] if report.errored else []
    if any(one.failed or one.passed for one in judged):
        return ", ".join(said)
    return "not judged: too little history" if judged else "not judged: no such day"


def _metadata(judged: "Sequence[PartReport]", report: "Report") -> dict[str, Any]:
    from quality.validate import say

    metadata: dict[str, Any] = {
        "met": sum(one.passed for one in judged),
        "broken": sum(len(one.errors) for one in judged),
        "warnings": sum(len(one.failed) - len(one.errors) for one in judged),
        "not_judged": sum(one.not_judged for one in judged),
    }
    findings = [
        dg.TableRecord(
            {
                "partition": str(one.part or ""),
                "expectation": say(finding.expectation),
                "severity": finding.expectation.severity,
                "found": finding.found,
                "samples": "; ".join(finding.samples),
            }
        )
        for one in judged
        for finding in one.failed
    ]
    if findings:
        metadata["findings"] = dg.MetadataValue.table(findings[:NAMED])
    if report.errored:
        metadata["errored"] = {say(one): why for one, why in report.errored.items()}
    if report.snapshot_id is not None:
        metadata["snapshot_id"] = str(report.snapshot_id)
    if report.references:
        metadata["references"] = {name: str(one) for name, one in report.references.items()}
    if report.page is not None:
        metadata["page"] = dg.MetadataValue.path(str(report.page))
    return metadata


def _written_snapshot(instance: dg.DagsterInstance, subject: Subject, days: Sequence[date]) -> int | None:
    """The state that the newest materialization of the last day names: that of this run, if it made the table."""
    partitions = [str(days[-1])] if days and subject.grain != "whole" else None
    chosen = dg.AssetRecordsFilter(dg.AssetKey([subject.layer, subject.table]), asset_partitions=partitions)
    for record in instance.fetch_materializations(chosen, limit=1).records:
        if record.asset_materialization and "snapshot_id" in record.asset_materialization.metadata:
            return int(str(record.asset_materialization.metadata["snapshot_id"].value))
    return None
