"""What is expected of a table: what its contract or model says of it, and what follows from that without being said.

Belongs here: subjects of contracts and dbt's models, and the thresholds. Does not belong here: counting (profile), judging
(validate). Generated expectations are of the profile. The thresholds were chosen on a real year of three feeds
(decision 21): the days that they name are days of which a person would want to know.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foundation.contract import Contract
from foundation.expectation import ERROR, PROFILE, WARN, Expectation, read_expectation
from quality.profile import Subject

BETWEEN = "expect_column_values_to_be_between"
# By the beginning of the profile's column: (severity, at least, at most). A fifth of the usual rows is a broken delivery, half
# of them may be a holiday.
GENERATED: Mapping[str, tuple[tuple[str, float | None, float | None], ...]] = {
    "rows_ratio": ((ERROR, 0.2, 5.0), (WARN, 0.5, 2.0)),
    "null_rise_": ((WARN, None, 0.25),),
    "shift_": ((WARN, None, 2.0),),
    "distance_": ((WARN, None, 0.1),),
    "match_drop_": ((WARN, None, 0.05),),
}
# Every row has them; they say where it came from.
PROVENANCE = frozenset(("source_file", "source_sequence", "source_row"))


def subject_of_feed(contract: Contract) -> Subject:
    """What is expected of a feed's Silver table. Keys are names of things, which come and go: they are not compared."""
    return Subject(
        "silver",
        contract.feed,
        contract.days.column if contract.days else None,
        "day" if contract.days else "whole",
        # A column that came later is empty in older files.
        required=frozenset(one.name for one in contract.columns if one.required and not one.since) | PROVENANCE,
        compared=frozenset(
            one.name
            for one in contract.columns
            if one.allowed or one.pattern or (one.spark_type != "string" and not one.key)
        ),
        sensitive=frozenset(one.name for one in contract.columns if one.is_sensitive),
        references=contract.references,
        feeds=(contract.feed,) if contract.days else (),
        expectations=contract.expectations,
        declared_in=f"contracts/{contract.file.name}",
    )


def subject_of_model(manifest: Mapping[str, Any], unique_id: str, contracts: Mapping[str, Contract]) -> Subject | None:
    """What is expected of a dbt model: of a daily one of Gold that its volume and its nulls are as usual, of any one what
    stands in `config.meta.expectations`. None if nothing is.

    Args:
        manifest: dbt's.
        contracts: a column that any of them classifies is not shown under that name.

    Raises:
        AssayError: what stands there is no expectation.
    """
    node = manifest["nodes"][unique_id]
    config = node["config"]
    declared = (node.get("patch_path") or node["original_file_path"]).rpartition("://")[2]
    given = config.get("meta", {}).get("expectations", [])
    written = tuple(read_expectation(Path(declared), f"expectations of {node['name']}", one) for one in given)
    column = config.get("range_column")
    grain = "whole" if column is None else "month" if column == "month" else "day"
    generated = grain == "day" and config["schema"] == "gold"
    if not (written or generated):
        return None
    required = {
        name
        for name, one in node["columns"].items()
        if any(constraint["type"] == "not_null" for constraint in one.get("constraints", []))
    }
    classified = {one.name for contract in contracts.values() for one in contract.columns if one.is_sensitive}
    return Subject(
        config["schema"],
        node["name"],
        column,
        grain,
        required=frozenset(required),
        sensitive=frozenset(classified),
        expectations=written,
        generated=generated,
        feeds=tuple(sorted(_feeds(manifest, unique_id, contracts))) if grain == "day" else (),
        declared_in=f"dbt_project/{declared}",
    )


def _feeds(manifest: Mapping[str, Any], unique_id: str, contracts: Mapping[str, Contract]) -> set[str]:
    """The daily feeds that a model is made of, but for optional ones."""
    if unique_id in manifest["sources"]:
        feed = manifest["sources"][unique_id]["name"]
        return {feed} if feed in contracts and contracts[feed].days else set()
    node = manifest["nodes"][unique_id]
    optional = node["config"].get("meta", {}).get("optional", ())
    parents = [one for one in node.get("depends_on", {}).get("nodes", []) if one.rsplit(".", 1)[-1] not in optional]
    return {feed for parent in parents for feed in _feeds(manifest, parent, contracts)}


def expected(subject: Subject, columns: Iterable[str]) -> list[Expectation]:
    """The expectations of a table: the hand-written ones, and those that follow from the columns of its profile. A
    hand-written one of a column of the profile takes the place of the generated ones.

    Args:
        columns: those of the profile that say something of any day.
    """
    said = {one.kwargs.get("column") for one in subject.expectations if one.of == PROFILE}
    found = list(subject.expectations)
    for column in columns if subject.generated else ():
        for beginning, bounds in GENERATED.items():
            if column.startswith(beginning) and column not in said:
                found += [_between(column, *one) for one in bounds]
    return found


def _between(column: str, severity: Any, least: float | None, most: float | None) -> Expectation:
    bounds = {name: value for name, value in (("min_value", least), ("max_value", most)) if value is not None}
    return Expectation(BETWEEN, {"column": column, **bounds}, severity, PROFILE)
