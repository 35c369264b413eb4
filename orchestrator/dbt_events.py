"""What a dbt call did, as Dagster's events: rows by day, snapshots read and written, columns and where they come from.

Belongs here: reading dbt's event stream. Does not belong here: starting dbt (assets/warehouse), finding a column's parents
(column_lineage).

Models report what they wrote by a line in the stream (macros/report.sql), before dbt says that they are finished.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation

from foundation.errors import AssayError
from orchestrator.column_lineage import column_lineage
from orchestrator.dbt_graph import parents
from orchestrator.reporting import add_metadata, failure, record, report_check

REPORT = re.compile(r"assay_report (\{.*\})")
FAILED = ("error", "fail", "runtime error")
# A database's error may go on for 150 lines; the first say what is wrong and where.
MESSAGE_LINES = 8


def events(
    context: dg.AssetExecutionContext,
    call: DbtCliInvocation,
    days: Sequence[date],
    snapshots: Mapping[str, int],
    step_fails: bool = False,
) -> Iterator[Any]:
    """The events of a dbt call that was started with `raise_on_error=False`.

    Args:
        days: the range that was asked for; empty for models that are built whole.
        snapshots: the snapshot that each source, `layer.table`, was read at.
        step_fails: the step will fail whatever this call does: each day is recorded by itself, and nothing is yielded.

    Raises:
        dagster.Failure: a model or test failed. The message names it, its file and what the database said; what was built
            is recorded.
    """
    reports: dict[str, dict[str, Any]] = {}
    for event in call.stream_raw_events():
        node = event.raw_event["data"].get("node_info", {}).get("unique_id", "")
        if found := REPORT.search(str(event)):
            reports[node] = json.loads(found[1])
            continue
        for result in event.to_default_asset_events(
            manifest=call.manifest,
            dagster_dbt_translator=call.dagster_dbt_translator,
            context=context,
            target_path=call.target_path,
            project=call.project,
        ):
            if isinstance(result, dg.AssetCheckResult) and days and _is_of_days(context, result):
                # A test looks at the run's days together (macros/tested_rows.sql): which of them is bad it does not say.
                report_check(context, result, dict.fromkeys(days, result.passed))
            if isinstance(result, dg.Output):
                result = _told(context, call, node, result, reports.get(node, {}), days, snapshots, step_fails)
            if not step_fails:
                yield result
    if not call.is_successful():
        raise failure(_errors(call))


def _is_of_days(context: dg.AssetExecutionContext, result: dg.AssetCheckResult) -> bool:
    found = (spec for spec in context.assets_def.check_specs if spec.name == result.check_name)
    return any(spec.asset_key == result.asset_key and spec.partitions_def is not None for spec in found)


def _told(
    context: dg.AssetExecutionContext,
    call: DbtCliInvocation,
    node: str,
    output: dg.Output,
    report: Mapping[str, Any],
    days: Sequence[date],
    snapshots: Mapping[str, int],
    step_fails: bool,
) -> dg.Output:
    """The output with what its model reported. A range's output stands for all its days: each gets its own rows, and what
    is said of the table stands on the last."""
    props = call.manifest["nodes"][node]
    key_of = call.dagster_dbt_translator.get_asset_key
    metadata: dict[str, Any] = {}
    if report.get("snapshot_id"):
        metadata["snapshot_id"] = str(report["snapshot_id"])
    sources = [call.manifest["sources"][parent] for parent in parents(props) if parent.startswith("source")]
    read = {name: str(snapshots[name]) for name in map(_lake_name, sources) if name in snapshots}
    if read:
        metadata["snapshots_read"] = read
    of_table = column_lineage(call.manifest, node, call.target_path, key_of)
    if "rows" in report:
        of_table["dagster/row_count"] = report["rows"]
    if not days:
        return output.with_metadata({**output.metadata, **metadata, **of_table})
    parts: dict[date | None, dict[str, Any]] = {
        day: {**_rows_of(report, day), **(of_table if day == days[-1] else {})} for day in days
    }
    if step_fails:
        record(context, key_of(props), {day: {**values, **metadata} for day, values in parts.items()})
    else:
        add_metadata(context, key_of(props), parts)
    return output.with_metadata({**output.metadata, **metadata})


def _rows_of(report: Mapping[str, Any], day: date) -> dict[str, int]:
    """What a model that was asked for days says of one: its rows, or those of its month if that is as fine as it goes."""
    if "days" in report:
        return {"dagster/partition_row_count": report["days"].get(str(day), 0)}
    if "months" in report:
        return {"rows_of_month": report["months"].get(str(day.replace(day=1)), 0)}
    return {}


def _lake_name(source: Mapping[str, Any]) -> str:
    """`layer.table` of the Iceberg table that a source shows: ClickHouse's views are named layer_table."""
    name = source["name"] if source["source_name"] == "lake" else f"{source['source_name']}_{source['name']}"
    return name.replace("_", ".", 1)


def _errors(call: DbtCliInvocation) -> list[AssayError]:
    """What failed, one error each; if dbt got to no node, what it said instead."""
    file = call.target_path / "run_results.json"
    results = json.loads(file.read_text())["results"] if file.exists() else []
    errors = [_error(call, result) for result in results if result["status"] in FAILED]
    said = "\n".join(call._error_messages) or "dbt said nothing"
    return errors or [AssayError(f"dbt failed: {_first_lines(said)}", "correct what it names, then run this again")]


def _error(call: DbtCliInvocation, result: Mapping[str, Any]) -> AssayError:
    props = call.manifest["nodes"].get(result["unique_id"], {})
    where = props.get("original_file_path", "")
    if props.get("resource_type") == "test" and result["status"] == "fail":
        of = ", ".join(parent.rsplit(".", 1)[-1] for parent in parents(props))
        return AssayError(
            f"test {props['name']} of {of} found {result['failures']} rows (dbt_project/{where})",
            "correct the data or the test, then run these days again; what is built of it waits",
        )
    return AssayError(
        f"{props.get('name', result['unique_id'])} (dbt_project/{where}): {_first_lines(result['message'] or '')}",
        "correct it, then run these days again",
    )


def _first_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:MESSAGE_LINES])
