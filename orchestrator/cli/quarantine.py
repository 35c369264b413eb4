"""`./assay quarantine`: what is not in Silver, why, and doing it again after the contract or the file was mended.

Belongs here: what a person sees of it. Does not belong here: the rows (spark_assets), the rules (contracts/).
"""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import date

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foundation.contract import Contract, find_contract, load_contracts
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.archive import rejected_files, rejudge
from orchestrator.sensors import COMMAND_LOCK
from spark_assets.quarantined import count_quarantined, sample_quarantined

NAMED = 20
WIDTH = 40


def print_quarantine(
    settings: Settings, console: Console, feed: str | None, day: date | None, reason: str | None, limit: int
) -> None:
    """Prints the rejected files, the reasons by count, and some rows of a feed; without a feed a line each."""
    if feed is None:
        for contract in load_contracts().values():
            _print_line(settings, console, contract)
        return
    contract = find_contract(feed)
    _print_rejected(settings, console, contract, day)
    found = count_quarantined(settings, contract)
    rows = _of(found.rows, day)
    console.print(
        f"[bold]Quarantined rows[/] {rows:,}{f' of {day}' if day else ''}; duplicates {_of(found.duplicates, day):,}"
    )
    if not rows:
        return
    reasons: Counter[str] = Counter()
    days: dict[str, set[date]] = {}
    for of_day, counted in found.reasons.items():
        if day in (None, of_day):
            reasons.update(counted)
            for one in counted:
                days.setdefault(one, set()).add(of_day)
    table = Table("rows", "reason", "days", box=None, pad_edge=False)
    for one, count in reasons.most_common(NAMED):
        table.add_row(f"{count:,}", escape(one), _readable(days[one]))
    console.print(table)
    sample = sample_quarantined(settings, contract, [day] if day else [], reason, limit)
    console.print(f"\n[bold]Sample[/] {len(sample)} rows as received" + (f", {escape(reason)}" if reason else ""))
    for row in sample:
        console.print(
            f"{row['source_file']} row {row['source_row']}: {', '.join(row['reasons'])}", markup=False, style="bold"
        )
        shown = [f"{one.name}={_short(row[one.name])}" for one in contract.received if row[one.name] is not None]
        whole = [f"as received: {_short(row['corrupt_record'])}"] * (row["corrupt_record"] is not None)
        console.print("  " + "  ".join([*shown, *whole]), markup=False, highlight=False)
    console.print(
        f"\nNext: mend the file (land it again under its name) or contracts/{contract.file.name}, then ./assay quarantine "
        f"{contract.feed} --replay makes these days again."
    )


def replay(settings: Settings, console: Console, feed: str, day: date | None) -> None:
    """Judges rejected files again, and makes Bronze, Silver and quarantine of every day that has quarantined rows or such a
    file again, by the contract as it is now.

    Raises:
        AssayError: the feed has nothing to replay, or a day is still bad.
    """
    contract = find_contract(feed)
    before = count_quarantined(settings, contract)
    accepted = rejudge(settings, contract, day)
    for version in accepted:
        console.print(f"  landing/{version.path} can be read now", markup=False)
    days = sorted({*before.rows, *[version.day for version in accepted]})
    if day is not None:
        days = [one for one in days if one == day]
    if not days:
        console.print(f"{feed} has no quarantined row and no rejected file that could be read now: nothing to replay.")
        return
    failed = _make_again(settings, console, contract, days)
    after = count_quarantined(settings, contract)
    console.print(
        f"Quarantined rows of {feed}: {sum(before.rows.values()):,} before, {sum(after.rows.values()):,} now."
    )
    if failed:
        raise AssayError("\n".join(failed).rstrip("."), f"see ./assay quarantine {feed}, mend it, and run this again")


def _make_again(settings: Settings, console: Console, contract: Contract, days: Sequence[date]) -> list[str]:
    """Runs the feed's line for some days, in one run a range; returns what failed."""
    from deploy.embedded.environment import exports
    from orchestrator.partitions import consecutive
    from orchestrator.runs import execute

    os.environ.update(exports(settings))
    import dagster as dg

    from orchestrator.definitions import defs

    assets = [f"{layer}/{contract.feed}" for layer in ("bronze", "silver", "quarantine")]
    failed: list[str] = []
    with (
        writer_lock(settings, COMMAND_LOCK),
        dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance,
    ):
        for days_of_run in consecutive(days) if contract.days else [None]:
            named = "all" if days_of_run is None else " to ".join(map(str, dict.fromkeys(days_of_run)))
            report = execute(defs, instance, assets, days_of_run, lambda step: None)
            console.print(f"  {'[green]done[/]  ' if report.success else '[red]failed[/]'} {contract.feed} {named}")
            failed += report.failures.values()
    return failed


def _print_line(settings: Settings, console: Console, contract: Contract) -> None:
    found = count_quarantined(settings, contract)
    files = len(rejected_files(settings, contract.feed))
    console.print(
        f"{contract.feed:<20} {sum(found.rows.values()):>8,} rows in {len(found.rows)} days; "
        f"{sum(found.duplicates.values()):,} duplicates; {files} rejected files"
    )


def _print_rejected(settings: Settings, console: Console, contract: Contract, day: date | None) -> None:
    rejected = [version for version in rejected_files(settings, contract.feed) if day in (None, version.day)]
    if not rejected:
        return
    console.print(f"[bold]Rejected files[/] {len(rejected)}")
    for version in rejected[:NAMED]:
        console.print(f"  landing/{version.path}: {version.reason}", markup=False, highlight=False)
    if len(rejected) > NAMED:
        console.print(f"  … and {len(rejected) - NAMED} more")


def _of(counted: Counter[date], day: date | None) -> int:
    return sum(counted.values()) if day is None else counted[day]


def _readable(days: set[date]) -> str:
    first, last = min(days), max(days)
    return str(first) if first == last else f"{len(days)} from {first} to {last}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}… ({len(text):,} characters)"
