"""The commands.

Belongs here: names, options and help texts. Does not belong here: more than a few lines of a command; longer ones have
a module beside this one, and the domain's are in domain.py. Heavy imports stand in the functions: `./assay --help`
answers at once.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from foundation.errors import AssayError
from foundation.settings import PROJECT, Settings, load
from orchestrator.cli.arguments import day_of
from orchestrator.cli.domain import commands
from orchestrator.cli.engines import Engine

app = typer.Typer(
    help="Assay: a whole medallion data platform as one Dagster asset graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(commands)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run() -> int:
    """Runs the command that was typed and returns its exit code."""
    try:
        app(prog_name="./assay")
    except AssayError as error:
        errors.print(
            f"[bold red]error:[/] {escape(error.what)}.\n[bold]Next:[/] {escape(error.next_action)}.", soft_wrap=True
        )
        return 1
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130
    except BrokenPipeError:  # `./assay sql … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


@app.command()
def up() -> None:
    """Start the services of this home and wait until they answer."""
    from orchestrator.cli.platform import print_addresses, start

    settings = load()
    start(settings, console)
    print_addresses(settings, console)


@app.command()
def down() -> None:
    """Stop the services of this home; no process is left."""
    from deploy.embedded import services

    services.down(load(), console.print)


@app.command()
def status() -> None:
    """Say how each service is, and what memory it takes. Exit code 1 if one is not ready."""
    from orchestrator.cli.platform import print_status

    if not print_status(load(), console):
        raise typer.Exit(1)


@app.command()
def pause() -> None:
    """Stop all automation: no sensor looks, no asset is made by itself. It stays so until resume."""
    from orchestrator.cli.pausing import pause as stop

    stop(load(), console)


@app.command()
def resume() -> None:
    """Start automation again."""
    from orchestrator.cli.pausing import resume as go_on

    go_on(load(), console)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="The service, as ./assay status names it.")],
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
) -> None:
    """Show what a service wrote."""
    from deploy.embedded import services

    file = services.log_file(load(), service)
    if not file.exists():
        raise AssayError(f"{service} has written nothing yet", "run ./assay up")
    subprocess.run(["tail", "-n", str(lines), *(["-f"] if follow else []), file], check=True)


@app.command()
def doctor() -> None:
    """Check this machine and this home, and say what to do about what is wrong."""
    from orchestrator.cli.platform import print_findings

    if not print_findings(load(), console):
        raise typer.Exit(1)


@app.command()
def alerts(
    test: Annotated[
        bool, typer.Option("--test", help="Send a message to every address and say what came back.")
    ] = False,
) -> None:
    """Show which problems are open, who was told of them and when."""
    from orchestrator.cli.alerts import print_alerts, send_test

    if not test:
        print_alerts(load(), console)
    elif not send_test(load(), console):
        raise typer.Exit(1)


@app.command()
def env() -> None:
    """Print exports for plain dagster, dbt, feast and mlflow: eval "$(./assay env)"."""
    from deploy.embedded.environment import exports
    from orchestrator.dbt_environment import exports_for_people

    settings = load()
    for name, value in (exports(settings) | exports_for_people(settings)).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command()
def grants(
    user: Annotated[str, typer.Option("--user", help="The analyst, as the servers know them.")],
    engine: Annotated[str, typer.Option("--engine", "-e", help="trino or clickhouse; both if omitted.")] = "",
) -> None:
    """Print what a real Trino and ClickHouse server must grant an analyst: read all, write schemas of their own."""
    from orchestrator.cli.grants import grants_of

    for line in grants_of(load(), user, engine):
        print(line)


@app.command()
def tables(
    layer: Annotated[str | None, typer.Option("--layer", help="Only this layer, such as silver.")] = None,
) -> None:
    """Say of every table how many of its partitions are there, late, failed or blocked, and when it was last made."""
    from orchestrator.cli.tables import open_graph, print_tables

    with open_graph(load()) as graph:
        print_tables(graph, console, layer)


@app.command()
def partitions(
    asset: Annotated[str, typer.Argument(help="The asset, such as silver/flights.")],
    state: Annotated[str | None, typer.Option("--state", help="Only these, such as late.")] = None,
    day: Annotated[str | None, typer.Option("--day", help="All that is known of one, such as 2013-06-01.")] = None,
) -> None:
    """Say how the partitions of an asset are, consecutive ones that are alike as one line."""
    from orchestrator.cli.tables import open_graph, print_partitions

    with open_graph(load()) as graph:
        print_partitions(graph, console, asset, state, day)


@app.command()
def late() -> None:
    """List all that is late, failed or blocked, and what to type. Exit code 1 if there is something."""
    from orchestrator.cli.tables import open_graph, print_late

    with open_graph(load()) as graph:
        if print_late(graph, console):
            raise typer.Exit(1)


@app.command()
def catalog(
    to: Annotated[Path | None, typer.Option("--to", help="Another folder than the home's catalog/.")] = None,
) -> None:
    """Write a page for people on every table: owner, columns, state, last rows, lineage. No service is needed."""
    from orchestrator.cli.catalog import write_catalog

    write_catalog(load(), console, to)


@app.command()
def quarantine(
    feed: Annotated[str | None, typer.Argument(help="The feed, such as flights; a line for each if omitted.")] = None,
    day: Annotated[str | None, typer.Option("--day", help="Only this day, such as 2013-06-01.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Sample only rows with it: missing:dest.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many rows to sample.", min=0)] = 5,
    again: Annotated[bool, typer.Option("--replay", help="Make the days again, by today's contract.")] = False,
) -> None:
    """Show the rejected files and quarantined rows of a feed, and why; --replay makes their days again."""
    from orchestrator.cli.quarantine import print_quarantine, replay

    chosen = day_of(day) if day else None
    if not again:
        print_quarantine(load(), console, feed, chosen, reason, limit)
    elif feed is None:
        raise AssayError("--replay needs a feed", "name one: ./assay quarantine flights --replay")
    else:
        replay(load(), console, feed, chosen)


@app.command()
def lineage(
    name: Annotated[str, typer.Argument(help="A column, such as gold.flight_facts.arr_delay, or a table alone.")],
    up: Annotated[bool, typer.Option("--up", help="Only what it is made of.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what is made of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a column is made of, to the file, and what is made of it, to the last who uses it. No service is needed."""
    from orchestrator.cli.lineage import print_lineage

    print_lineage(load(), console, name, up or not down, down or not up, as_json)


@app.command()
def rollback(
    asset: Annotated[str, typer.Argument(help="The asset, such as silver/flights.")],
    to: Annotated[int | None, typer.Option("--to", help="The snapshot to go to; without it they are listed.")] = None,
) -> None:
    """Put a table of the lake back to one of its snapshots, or forward again; Dagster is told which days changed."""
    from orchestrator.cli.rollback import list_states, roll_back

    if to is None:
        list_states(load(), console, asset)
    else:
        roll_back(load(), console, asset, to)


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help="One statement, or - to read it from standard input.")],
    engine: Annotated[str, typer.Option("--engine", "-e", help="trino, clickhouse or spark.")] = "trino",
) -> None:
    """Run one statement on an engine; plain text, one row a line, values separated by tabs."""
    from orchestrator.cli.engines import as_lines, rows

    engines: dict[str, Engine] = {"trino": "trino", "clickhouse": "clickhouse", "spark": "spark"}
    if engine not in engines:
        raise AssayError(f"There is no engine {engine!r}", f"use one of {', '.join(engines)}")
    text = sys.stdin.read() if statement == "-" else statement
    for line in as_lines(rows(load(), engines[engine], text)):
        print(line)


@app.command(context_settings=PASS_THROUGH)
def dagster(context: typer.Context) -> None:
    """Plain dagster, with this home's environment."""
    _become(load(), ["dagster", *context.args])


@app.command(context_settings=PASS_THROUGH)
def dbt(context: typer.Context) -> None:
    """Plain dbt in your own schemas, on the engine that the selected models are built by; dbt docs is one site for both."""
    from orchestrator.cli.dbt import run_dbt

    raise typer.Exit(run_dbt(load(), console, context.args))


@app.command(context_settings=PASS_THROUGH)
def feast(context: typer.Context) -> None:
    """Plain feast, in feature_repo/."""
    _become(load(), ["feast", *context.args], PROJECT / "feature_repo")


@app.command(context_settings=PASS_THROUGH)
def test(context: typer.Context) -> None:
    """Linters, types, imports, unit tests, then integration and end-to-end tests on a stack of their own."""
    from orchestrator.cli.testing import run_tests

    raise typer.Exit(run_tests(console, context.args))


def _become(settings: Settings, command: list[str], folder: Path = PROJECT) -> None:
    from deploy.embedded.environment import exports

    os.chdir(folder)
    os.environ.update(exports(settings))
    os.execvp(command[0], command)
