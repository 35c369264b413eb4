"""The default domain's own commands: its vendor's files, the demo, its model, and the copy of the platform that has none of
them.

Belongs here: names, options and help texts. Does not belong here: commands of the platform (main.py). A copy of `./assay
init --empty` has another one in its place.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from foundation.settings import load
from orchestrator.cli.arguments import day_of

commands = typer.Typer()
# What ./assay ci builds once, with main's code, and lets branches look at: days around the change of the clocks in March,
# and the busiest of the year. No month, so no model.
LINE = " or ".join(f'key:"{layer}/*"' for layer in ("bronze", "silver", "quarantine", "gold", "features", "warehouse"))
SAMPLE = (
    *(f"./assay land {feed}" for feed in ("airlines", "airports", "planes")),
    *(f"./assay land {feed} 2013-03-08 2013-03-10" for feed in ("schedule", "flights", "weather")),
    *(f"./assay land {feed} 2013-11-27" for feed in ("schedule", "flights", "weather")),
    *(
        f"./assay dagster asset materialize --select '({LINE}) and not key:\"warehouse/mart_prediction_quality\"' {days}"
        for days in ("--partition-range 2013-03-08...2013-03-10", "--partition 2013-11-27")
    ),
)
models = typer.Typer(help="Show the versions of the model, who is champion when, and why; go back to an older one.")
commands.add_typer(models, name="models")


@commands.command()
def demo(
    days: Annotated[int, typer.Option("--days", help="Days of 2013 to land, 1 to 364.", min=1, max=364)] = 31,
    leave: Annotated[bool, typer.Option("--exit", help="Stop the services at the end.")] = False,
) -> None:
    """Land real files, run everything, predict the day after the last, and say what came of it."""
    from orchestrator.cli.demo import run_demo

    run_demo(load(), Console(highlight=False), days, stop_services=leave)


@commands.command()
def land(
    feed: Annotated[str, typer.Argument(help="The feed, such as flights; everything is all of them, the whole year.")],
    first: Annotated[str | None, typer.Argument(help="A day, such as 2013-01-15; a whole table takes none.")] = None,
    last: Annotated[str | None, typer.Argument(help="The last day of a range.")] = None,
    way: Annotated[
        str | None, typer.Option("--as", help="corrected, reverted, second, damaged; hourly for weather.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file of yours, of a feed of yours; cut by its day column.")
    ] = None,
) -> None:
    """Put the vendor's files into landing: a day, a range, a whole table, or everything.

    A day that is landed after later ones is a late file. The same command twice writes the same bytes.

    \b
    ./assay land everything                          all feeds, the whole year
    ./assay land flights 2013-01-15 2013-01-20       a range of days
    ./assay land planes                              a feed that is sent whole
    ./assay land flights 2013-01-15 --as corrected   same name, other content
    ./assay land flights 2013-01-15 --as reverted    the first version again
    ./assay land flights 2013-01-15 --as second      three rows in one more file
    ./assay land flights 2013-01-15 --as damaged     same name, cut off halfway
    ./assay land weather 2013-01-15 --as hourly      a file an hour
    ./assay land orders --file orders.csv            a file of yours
    """
    from orchestrator.cli.landing import land_feed, land_file

    if file is not None:
        land_file(load(), feed, day_of(first) if first else None, file)
        return
    land_feed(load(), feed, day_of(first) if first else None, day_of(last) if last else None, way)


@models.callback(invoke_without_command=True)
def versions(context: typer.Context) -> None:
    """The versions of the model: scores on the gate's flights, the gate's decision, and since when each is champion."""
    from orchestrator.cli.models import print_versions

    if context.invoked_subcommand is None:
        print_versions(load(), Console(highlight=False))


@models.command("log")
def log() -> None:
    """Show every decision: promoted, refused, rolled back; when, against whom, why, by whom."""
    from orchestrator.cli.models import print_log

    print_log(load(), Console(highlight=False))


@models.command("roll-back")
def roll_back(
    version: Annotated[int, typer.Argument(help="The version that is champion again; ./assay models lists them.")],
    since: Annotated[str, typer.Option("--from", help="The first month it is valid in, such as 2013-05.")],
    why: Annotated[str, typer.Option("--why", help="The reason, for who reads the log.")],
) -> None:
    """Make a former champion valid again from a month on; what was promoted for later months goes."""
    from orchestrator.cli.models import roll_back_to

    roll_back_to(load(), Console(highlight=False), version, since, why)


@commands.command()
def serve(
    port: Annotated[int, typer.Option("--port", help="The port to listen on; 0 takes a free one.")] = 8800,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; the default answers this machine only.")
    ] = "127.0.0.1",
) -> None:
    """Answer whether a scheduled flight will be late, over HTTP, until Ctrl-C."""
    from orchestrator.cli.serve import serve as answer

    answer(load(), Console(highlight=False), host, port)


@commands.command()
def drift(
    day: Annotated[str, typer.Argument(help="The day, such as 2013-04-15.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write Evidently's page into this file (4 MB).")
    ] = None,
) -> None:
    """Show how far the flights of the 28 days up to a day are from what the champion learnt from."""
    from orchestrator.cli.drift import show_drift

    show_drift(load(), Console(highlight=False), day_of(day), html)


@commands.command()
def init(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the copy goes: a folder that is not there, or empty.")
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="Without the domain: a platform that loads nothing yet.")
    ] = False,
) -> None:
    """Copy this project without flights, for a domain of your own."""
    from orchestrator.cli.init import copy_without_domain, refusal

    if folder is None or not empty:
        raise refusal(folder)
    copy_without_domain(folder)
