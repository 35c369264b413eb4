"""The domain's own commands: how its files come into landing.

Belongs here: names, options and help texts. Does not belong here: commands of the platform (main.py).
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.settings import load
from orchestrator.cli.arguments import day_of

commands = typer.Typer()


@commands.command()
def land(
    feed: Annotated[str, typer.Argument(help="The feed, as its contract is named.")],
    day: Annotated[str | None, typer.Argument(help="A day, such as 2025-01-15; a full feed takes none.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The file to copy, of the contract's columns.")] = None,
) -> None:
    """Copy a file into landing, where the feed's sensor finds it. Under the same name again it is a newer version."""
    contract = find_contract(feed)
    example = f"type ./assay land {feed}{' 2025-01-15' if contract.days else ''} --file FILE"
    if file is None or not file.is_file():
        raise AssayError(f"{file} is no file" if file else "No file was named", example)
    if bool(day) != bool(contract.days):
        raise AssayError(f"{feed} is sent {'by days' if contract.days else 'whole, and has no days'}", example)
    folder = load().landing / feed / (f"ds={day_of(day)}" if day else "")
    folder.mkdir(parents=True, exist_ok=True)
    # Under a name that nobody takes for a finished file, until it is one.
    part = folder / f".{file.name}.tmp"
    shutil.copyfile(file, part)
    print(part.replace(folder / file.name))
