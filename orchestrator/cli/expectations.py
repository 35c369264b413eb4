"""`./assay expectations`: judges days by hand, and shows what was found and where the page is.

Belongs here: what is asked for and printed. Does not belong here: judging (quality), and Dagster's checks: nothing is
recorded.
"""

from datetime import date, timedelta

from rich.console import Console

from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.cli.printing import print_table


def show_expectations(settings: Settings, console: Console, asset: str | None, days: tuple[date, date] | None) -> bool:
    """Prints what is not as expected, of one table or of all. False if something of severity error is not.

    Args:
        days: first and last; None for tables without days only.

    Raises:
        AssayError: nothing is expected of that table.
    """
    from orchestrator.assets.expectations import judge_table, parts_of, subjects
    from quality.validate import say

    contracts = load_contracts()
    known = subjects(settings, contracts)
    if asset is not None and asset not in known:
        raise AssayError(f"Nothing is expected of {asset}", f"name one of {', '.join(known)}")
    chosen = [known[asset]] if asset else list(known.values())
    asked = [days[0] + timedelta(number) for number in range((days[1] - days[0]).days + 1)] if days else []
    good, lines = True, [("table", "partition", "severity", "expectation", "found")]
    pages: list[str] = []
    for subject in chosen:
        parts = parts_of(subject, asked, contracts)
        if not parts:
            if asset is not None:
                raise AssayError(f"{asset} has no such day", "name days of it: --day, or --from and --to")
            continue
        try:
            report = judge_table(settings, subject, parts)
        except AssayError as error:
            if asset is not None:
                raise
            lines.append((subject.name, "", "", "was not judged", error.what))
            continue
        good &= not report.refusals()
        for one in report.parts.values():
            for finding in one.failed:
                samples = f" ({'; '.join(finding.samples)})" if finding.samples else ""
                severity = finding.expectation.severity
                lines.append(
                    (subject.name, str(one.part or ""), severity, say(finding.expectation), finding.found + samples)
                )
        lines += [(subject.name, "", "could not be judged", say(one), why) for one, why in report.errored.items()]
        pages += [f"{subject.name}  {report.page}"] if report.page else [f"{subject.name}  too little history"]
    if len(lines) > 1:
        print_table(console, lines)
    else:
        console.print("All that could be judged is as expected.")
    for page in pages:
        console.print(page, markup=False, soft_wrap=True)
    return good
