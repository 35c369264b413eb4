"""The domain's own commands: how its files come into landing.

Belongs here: names, options and help texts. Does not belong here: commands of the platform (main.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.settings import load
from intake.delivery import deliver
from orchestrator.cli.arguments import day_of

commands = typer.Typer()
# What ./assay ci builds once, with main's code, and lets branches look at: lines such as "./assay land orders 2025-01-15 …"
# and "./assay dagster asset materialize --select … --partition …". Without any, its data step builds nothing.
SAMPLE: tuple[str, ...] = ()


@commands.command()
def land(
    feed: Annotated[str, typer.Argument(help="The feed, as its contract is named.")],
    day: Annotated[str | None, typer.Argument(help="The day of all rows, such as 2025-01-15.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The file to copy, of the contract's columns.")] = None,
) -> None:
    """Copy a file into landing, where the feed's sensor finds it; without a day, cut by the feed's day column.

    Under the same name again it is a newer version.
    """
    if file is None:
        raise AssayError("No file was named", f"type ./assay land {feed} --file FILE")
    for landed in deliver(load(), find_contract(feed), file, day_of(day) if day else None):
        print(landed)
