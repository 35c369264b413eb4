"""Measures the expectations: a day and the year of every table of a home, beside one bare query for each.

Belongs here: `python bench/measure.py expectations --home HOME`. Does not belong here: asserting;
nothing here is a test. Nothing of the lake is written; the pages are, into the home's data_docs.
"""

import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from foundation.contract import load_contracts
from foundation.settings import Settings, load
from orchestrator.assets.expectations import WAREHOUSE, judge_table, parts_of, subjects
from quality.profile import Subject, lake_rows

DAY = date(2013, 6, 15)
YEAR = [date(2013, 1, 1) + timedelta(number) for number in range(365)]


def expectations(home: Path) -> None:
    """Wall and processor seconds; the import is once a process."""
    settings, contracts = load(home), load_contracts()
    began, used = time.monotonic(), time.process_time()
    import great_expectations  # noqa: F401

    print(f"import: {time.monotonic() - began:.1f} s, {time.process_time() - used:.1f} s of processor")
    totals: dict[str, float] = {}
    for subject in subjects(settings, contracts).values():
        if subject.layer == WAREHOUSE:
            continue
        for what, days in (("day", [DAY]), ("year", YEAR)):
            parts = parts_of(subject, days, contracts)
            began, used = time.monotonic(), time.process_time()
            report = judge_table(settings, subject, parts)
            wall, processor = time.monotonic() - began, time.process_time() - used
            began = time.monotonic()
            bare(settings, subject, parts)
            alone = time.monotonic() - began
            found = sum(len(one.failed) for one in report.parts.values())
            print(
                f"{subject.name:<34} {what:<4} {wall:6.2f} s   processor {processor:6.2f} s   bare query {alone:5.2f} s   "
                f"ratio {wall / alone:4.1f}   {found} findings, {len(report.errored)} errored"
            )
            for name, value in ((what, wall), (f"{what} processor", processor), (f"{what} bare", alone)):
                totals[name] = totals.get(name, 0) + value
    print("all tables: " + ", ".join(f"{name} {value:.1f} s" for name, value in totals.items()))


def bare(settings: Settings, subject: Subject, parts: Sequence[date | None]) -> None:
    """The same rows, counted by day with their nulls, and nothing else."""
    import duckdb

    given = lake_rows(settings, subject, parts, None).table
    by = subject.part or "1"
    with duckdb.connect() as connection:
        connection.register("given", given)
        counted = ", ".join(f'count("{name}")' for name in given.schema.names)
        connection.sql(f"select {by}, count(*), {counted} from given group by all").fetchall()
