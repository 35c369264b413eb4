"""`./assay drift`: a day's drift for a person.

Belongs here: how it is printed. Does not belong here: what drift is (ml/drift).
"""

import warnings
from datetime import date
from pathlib import Path

from rich.console import Console

from foundation.settings import Settings
from orchestrator.cli.printing import print_table


def show_drift(settings: Settings, console: Console, day: date, html: Path | None) -> None:
    """Prints what the table says of a day; with a file, compares again and writes Evidently's page.

    Raises:
        AssayError: there is nothing of that day.
    """
    from ml.drift import WINDOW_DAYS, draw, kept

    # Evidently's libraries warn of each other's futures, which no reader of this can change. Kept, not filtered: they set
    # filters of their own.
    with warnings.catch_warnings(record=True):
        columns = kept(settings, day) if html is None else draw(settings, day, html)
    lines = [("column", "statistic", "value", "threshold", "")]
    lines += [
        (one.column, one.statistic, f"{one.value:.3f}", f"{one.threshold:.2f}", "drifted" if one.drifted else "")
        for one in columns
        # The share of missing values is worth a line only where it changed.
        if one.drifted or one.statistic != "missing_share_change" or one.value >= 0.01
    ]
    print_table(console, lines)
    drifted = list(dict.fromkeys(one.column for one in columns if one.drifted))
    console.print(
        f"\n{WINDOW_DAYS} days up to {day}: {', '.join(drifted) + ' drifted' if drifted else 'no column drifted'}.",
        soft_wrap=True,
    )
    if html is not None:
        console.print(f"The page is {html}")
