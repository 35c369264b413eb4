"""Judging a table's days with Great Expectations, and saying what was found so that nobody sees what they may not.

Belongs here: running a suite, the outcome of each day, masking, and the page. Does not belong here: what is expected
(suites), and what Dagster is told of it. Great Expectations is imported in the functions: it takes 5 to 6 s.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import AssayError
from foundation.expectation import ERROR, PROFILE, ROWS, Expectation
from foundation.settings import Settings
from quality.page import write_page
from quality.profile import DAY, Rows, Subject, match_name, profile
from quality.suites import BETWEEN, expected

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.expectation_validation_result import (
        ExpectationValidationResult,
    )

Part = date | None
SAMPLES, PAGE_SAMPLES = 5, 20
# What a result may keep of a column whose values are nobody's to see.
COUNTS = ("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent")
WITHHELD = "values withheld: the contract classifies the column"


@dataclass(frozen=True)
class Finding:
    """An expectation that a part did not meet: what was found of how many, or the profile's value, and bounded samples."""

    expectation: Expectation
    found: str
    samples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{say(self.expectation)}: {self.found}"


@dataclass
class PartReport:
    """What became of the expectations of a part. What was not judged had too little history, or nothing to judge."""

    part: Part
    passed: int = 0
    not_judged: int = 0
    failed: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [one for one in self.failed if one.expectation.severity == ERROR]


@dataclass(frozen=True)
class Report:
    """What was found of some parts of a table.

    Args:
        snapshot_id: the state that was judged; None of a table that keeps none.
        errored: expectations that could not be judged, and why: neither met nor failed.
        page: Great Expectations' page about it; None if nothing was judged.
    """

    subject: Subject
    snapshot_id: int | None
    parts: Mapping[Part, PartReport]
    errored: Mapping[Expectation, str]
    page: Path | None
    references: Mapping[str, int | None] = field(default_factory=dict)

    def refusals(self) -> dict[Part, AssayError]:
        """The parts that break an expectation of severity error, each with what to do."""
        return {part: self._refusal(one) for part, one in self.parts.items() if one.errors}

    def _refusal(self, one: PartReport) -> AssayError:
        where = self.subject.name + ("" if one.part is None else f" {one.part}")
        return AssayError(
            f"{where} is not as expected: {'; '.join(finding.text for finding in one.errors)}",
            f"look at {self.page}; if the data is wrong ask for it again, if it is right change what is expected in "
            f"{self.subject.declared_in}; then make it again",
        )


def say(expectation: Expectation) -> str:
    """An expectation in one line: `rows_ratio 0.2 to 5.0`, `code match_regex, regex [a-z]+`."""
    kwargs = dict(expectation.kwargs)
    column = [str(kwargs.pop("column"))] if "column" in kwargs else []
    if expectation.type == BETWEEN:
        least, most = kwargs.pop("min_value", None), kwargs.pop("max_value", None)
        both = least is not None and most is not None
        kind = f"{least} to {most}" if both else f"at most {most}" if least is None else f"at least {least}"
    else:
        kind = expectation.type.removeprefix("expect_").removeprefix("column_").removeprefix("values_to_")
    return ", ".join([" ".join([*column, kind]), *(f"{name} {value}" for name, value in kwargs.items())])


def judge(
    settings: Settings,
    subject: Subject,
    rows: Rows,
    parts: Sequence[Part],
    references: Mapping[Any, Rows] | None = None,
) -> Report:
    """Judges some parts of a table, and writes a page if anything could be judged.

    Args:
        rows: of the parts and of their history, all of one state.
        references: what there is in the feeds that the subject names.
    """
    there = references or {}
    days = profile(rows.table, subject, parts, {one: found.table for one, found in there.items()})
    by_text = {DAY_OF_WHOLE if part is None else str(part): PartReport(part) for part in parts}
    if subject.part is None:
        days[DAY] = DAY_OF_WHOLE
    known = [name for name in days.columns if days[name].notna().to_numpy().any()]
    expectations = expected(subject, known)
    errored: dict[Expectation, str] = {}
    page = None
    if expectations:
        results: list[ExpectationValidationResult] = []
        for of, frame, part in (
            (PROFILE, lambda: days, DAY),
            (ROWS, lambda: _frame(subject, rows, by_text), DAY_OF_ROW),
        ):
            chosen = [one for one in expectations if one.of == of]
            if chosen:
                results += _run(subject, chosen, frame(), part, by_text, errored)
        page = write_page(settings, subject, results, list(by_text))
    return Report(
        subject,
        rows.snapshot_id,
        {one.part: one for one in by_text.values()},
        errored,
        page,
        {match_name(one): found.snapshot_id for one, found in there.items()},
    )


DAY_OF_WHOLE = "all"
# Beside the rows: a column of a table is not called so.
DAY_OF_ROW = "_day"


def _frame(subject: Subject, rows: Rows, wanted: Mapping[str, PartReport]) -> "pd.DataFrame":
    """The rows of the parts, without their history; numbers with gaps are floats."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from quality.profile import LABEL, NOW

    if subject.part is None:
        frame = rows.table.filter(pc.field(LABEL) == pa.scalar(NOW)).drop_columns([LABEL]).to_pandas()
        return frame.assign(**{DAY_OF_ROW: DAY_OF_WHOLE})
    chosen = rows.table.filter(pc.field(subject.part).isin([date.fromisoformat(one) for one in wanted]))
    return chosen.to_pandas().assign(**{DAY_OF_ROW: chosen[subject.part].cast(pa.string()).to_pandas()})


def _run(
    subject: Subject,
    expectations: Sequence[Expectation],
    frame: "pd.DataFrame",
    part: str,
    reports: Mapping[str, PartReport],
    errored: dict[Expectation, str],
) -> "list[ExpectationValidationResult]":
    """One validation for all parts: the rows that break an expectation name their part."""
    gx = _great_expectations()
    built: list[Any] = []
    for number, one in enumerate(expectations):
        try:
            built.append(_built(one, number))
        except Exception as error:  # noqa: BLE001 - whatever it cannot make of what a person wrote is reported
            errored[one] = _why(subject, error)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(part)
        .add_dataframe_asset(subject.name)
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    form = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [part],
        "partial_unexpected_count": PAGE_SAMPLES,
        "return_unexpected_index_query": False,
    }
    results = batch.validate(gx.ExpectationSuite(name=subject.name, expectations=built), result_format=form).results
    for result in results:
        one = expectations[result.expectation_config.meta["rule"]]
        if _raised(result):
            errored[one] = _mask_exception(subject, result)
        else:
            _share_out(subject, one, result, frame, part, reports)
        if set(_columns(one)) & subject.sensitive and one.of == ROWS:
            result.result = {name: value for name, value in result.result.items() if name in COUNTS}
    return results


def _share_out(
    subject: Subject,
    one: Expectation,
    result: "ExpectationValidationResult",
    frame: "pd.DataFrame",
    part: str,
    reports: Mapping[str, PartReport],
) -> None:
    """What one expectation says of each part."""
    unexpected: dict[str, list[str]] = {}
    for entry in result.result.get("unexpected_index_list") or []:
        values = [str(value) for name, value in entry.items() if name != part]
        unexpected.setdefault(entry[part], []).append(", ".join(values))
    column = one.kwargs.get("column")
    # A gap is nobody's failure but where gaps are asked for.
    gaps = column is not None and "null" not in one.type
    judged = Counter(frame.loc[frame[column].notna(), part] if gaps else frame[part])
    hidden = set(_columns(one)) & subject.sensitive
    for name, report in reports.items():
        bad, of = unexpected.get(name, []), judged[name]
        if not of:
            report.not_judged += 1
        elif len(bad) <= (1 - one.kwargs.get("mostly", 1)) * of if one.of == ROWS else not bad:
            report.passed += 1
        elif one.of == PROFILE:
            report.failed.append(Finding(one, f"it is {_short(bad[0])}"))
        else:
            samples = (WITHHELD,) if hidden else tuple(list(dict.fromkeys(bad))[:SAMPLES])
            report.failed.append(Finding(one, f"{len(bad)} of {of} rows are not", samples))


def _built(one: Expectation, number: int) -> Any:
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    severity = FailureSeverity.CRITICAL if one.severity == ERROR else FailureSeverity.WARNING
    made = ExpectationConfiguration(
        type=one.type, kwargs=dict(one.kwargs), meta={"rule": number}, severity=severity
    ).to_domain_obj()
    if not isinstance(made, ColumnMapExpectation | ColumnPairMapExpectation | MulticolumnMapExpectation):
        raise TypeError(
            "it says nothing of single rows, so no day could be named: expect it of a column of the profile"
        )
    return made


def _great_expectations() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import
    import great_expectations

    # What errored is reported; its log would show values.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    return great_expectations


def _raised(result: "ExpectationValidationResult") -> bool:
    return any(one.get("raised_exception") for one in _exceptions(result))


def _exceptions(result: "ExpectationValidationResult") -> list[dict[str, Any]]:
    """One expectation has one, or one for each of its metrics, by name."""
    info = result.exception_info or {}
    return [info] if "raised_exception" in info else [one for one in info.values() if isinstance(one, dict)]


def _mask_exception(subject: Subject, result: "ExpectationValidationResult") -> str:
    """The first message, which also takes the place of the others and of where in the library it was."""
    said = (
        next(one["exception_message"] for one in _exceptions(result) if one.get("raised_exception"))
        or "no reason given"
    )
    why = WITHHELD if subject.sensitive else str(said).splitlines()[0]
    result.exception_info = {"raised_exception": True, "exception_message": why, "exception_traceback": ""}
    return why


def _why(subject: Subject, error: Exception) -> str:
    return f"{type(error).__name__}: {WITHHELD}" if subject.sensitive else str(error).splitlines()[0]


def _columns(one: Expectation) -> list[str]:
    """The columns that an expectation looks at, or may: a condition names any."""
    words = [word for value in one.kwargs.values() for word in (value if isinstance(value, list | tuple) else [value])]
    return [name for word in words for name in re.findall(r"\w+", str(word))]


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
