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
from foundation.settings import PROJECT, Settings, load, load_base
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
branches = typer.Typer(
    help="Environments of branches: every table of this home to build over, and no way to change it."
)
app.add_typer(branches, name="branch", no_args_is_help=True)
new = typer.Typer(
    help="Write a first contract, mart or feature, as a file or a table suggests it.", no_args_is_help=True
)
app.add_typer(new, name="new")
FORCE = "Write over what is there."
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run() -> int:
    """Runs the command that was typed and returns its exit code."""
    try:
        app(prog_name="./assay")
    except AssayError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130
    except BrokenPipeError:  # `./assay sql … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


@app.command()
def up(
    engines: Annotated[
        bool, typer.Option("--engines", help="Only engines and MLflow: no UI, no sensors, no automation.")
    ] = False,
    manifests: Annotated[
        bool,
        typer.Option(
            "--manifests/--no-manifests", help="With --engines: build dbt's manifests if they are not current."
        ),
    ] = True,
) -> None:
    """Start the services of this home and wait until they answer."""
    from orchestrator.cli.platform import print_addresses, start

    settings = load()
    _refuse_in_branch(settings, "up")
    start(settings, console, engines, manifests)
    if not engines:
        print_addresses(settings, console)


@app.command()
def down() -> None:
    """Stop the services of this home; no process is left."""
    from deploy.embedded import services

    settings = load()
    _refuse_in_branch(settings, "down")
    services.down(settings, console.print)


@app.command()
def status() -> None:
    """Say how each service is, and what memory it takes. Exit code 1 if one is not ready."""
    from orchestrator.cli.platform import print_status

    settings = load()
    if settings.base:
        console.print(f"The services are those of {settings.base}.", soft_wrap=True)
    if not print_status(_serving(settings), console):
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

    if not print_findings(_serving(load()), console):
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
def expectations(
    asset: Annotated[str | None, typer.Argument(help="The table, such as silver/flights; all if omitted.")] = None,
    day: Annotated[str | None, typer.Option("--day", help="Only this day, such as 2013-06-01.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first day of a range.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day of it.")] = None,
) -> None:
    """Compare days with the days before them: volume, nulls, values, matches. Exit code 1 if one breaks an error."""
    from orchestrator.cli.expectations import show_expectations

    if bool(first) != bool(last) or (day and first):
        raise AssayError("The days are not clear", "name --day, or --from and --to")
    ends = (first or day, last or day)
    days = (day_of(ends[0]), day_of(ends[1])) if ends[0] and ends[1] else None
    if not show_expectations(load(), console, asset, days):
        raise typer.Exit(1)


@app.command()
def impact(
    against: Annotated[str, typer.Option("--against", help="A branch, tag or commit.")] = "main",
    rows: Annotated[
        bool, typer.Option("--rows", help="Compare the changed tables with the base's, row by row.")
    ] = False,
    partition: Annotated[
        list[str] | None, typer.Option("--partition", help="With --rows: only this day; may be given several times.")
    ] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="With --rows: relative, of floating numbers.")] = 0.0,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a pull request.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what the working tree changes: contracts, tables, columns, features, models, and all that is made of them.

    Exit code 1 if a contract breaks and its version does not say so, 2 if it cannot be told.
    """
    from orchestrator.cli.impact import impact_of, print_impact

    try:
        if (partition or tolerance) and not rows:
            raise AssayError("--partition and --tolerance are of --rows", "add --rows, or leave them out")
        settings, days = load(), [day_of(day) for day in partition or ()]
        both, found = impact_of(settings, against)
        compared = None
        if rows:
            from orchestrator.cli.comparison import compare_changed

            compared = compare_changed(settings, both, found, days, tolerance)
        print_impact(console, against, found, compared, "json" if as_json else "markdown" if markdown else "terminal")
    except AssayError as error:
        _say(error)
        raise typer.Exit(2) from None
    if found.refused:
        raise typer.Exit(1)


@app.command()
def changed(
    against: Annotated[str, typer.Option("--against", help="A branch, tag or commit.")] = "main",
    downstream: Annotated[bool, typer.Option("--downstream", help="And all that is made of it.")] = False,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Days to try it on, the hard ones among them, each with its reason.")
    ] = False,
) -> None:
    """Print the assets that the working tree changes as dagster's --select takes them; nothing if there are none."""
    from orchestrator.cli.impact import impact_of

    settings = load()
    if partitions and downstream:
        raise AssayError("--partitions prints days, and --downstream is of assets", "ask for one after the other")
    if partitions:
        from orchestrator.sampling import hard_days

        for day in hard_days(settings):
            print(f"{day.day}\t{day.why}")
        return
    _, found = impact_of(settings, against)
    if assets := found.affected if downstream else found.changed:
        print(",".join(assets))


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


@new.command("feed")
def new_feed(
    name: Annotated[str, typer.Argument(help="The feed, such as orders.")],
    sample: Annotated[
        Path, typer.Option("--from", help="Some of its rows: CSV, JSON lines (both also .gz) or Parquet.")
    ],
    day: Annotated[str | None, typer.Option("--day", help="The column that says of which day a row is.")] = None,
    load_as: Annotated[str | None, typer.Option("--load", help="append_daily or full.")] = None,
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it, such as team:sales.")] = "team:data",
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Write contracts/NAME.odcs.yaml as a sample suggests it, with what each guess rests on."""
    from orchestrator.cli.new import make_feed

    make_feed(console, name, sample, day, load_as, owner, force)


@new.command("mart")
def new_mart(
    name: Annotated[str, typer.Argument(help="The mart, such as sales_by_product.")],
    source: Annotated[str, typer.Option("--from", help="gold/<model>, or silver/<feed>: that gets its model, too.")],
    by: Annotated[str, typer.Option("--by", help="Columns to group by besides the day, as a,b.")] = "",
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Write a mart that counts and sums a table's rows, with its YAML, and the models on the way that are missing."""
    from orchestrator.cli.new import make_mart

    make_mart(console, name, source, [one.strip() for one in by.split(",") if one.strip()], force)


@new.command("feature")
def new_feature(
    name: Annotated[str, typer.Argument(help="Table and view, such as product_history.")],
    source: Annotated[str, typer.Option("--from", help="gold/<model> or silver/<feed>, of days.")],
    entity: Annotated[str, typer.Option("--entity", help="The column that says of which thing a row is.")],
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Write what a thing was like in the 28 days up to a day: a table of Gold, and Feast's view of it."""
    from orchestrator.cli.new import make_feature

    make_feature(console, name, source, entity, force)


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


@branches.command("create")
def create_branch(name: Annotated[str, typer.Argument(help="The branch, such as pr-42.")]) -> None:
    """Make the environment of a branch from this home, in seconds. No data is copied."""
    from orchestrator.cli.branch import create

    create(load_base(), name, console)


@branches.command("list")
def list_branches() -> None:
    """List the branches of this home."""
    from orchestrator.cli.branch import print_branches

    print_branches(load_base(), console)


@branches.command("drop")
def drop_branch(
    name: Annotated[str, typer.Argument(help="The branch, such as pr-42.")] = "",
    older_than: Annotated[str, typer.Option("--older-than", help="All that are older, such as 14d.")] = "",
) -> None:
    """Take all of a branch away, on every engine; this home stays as it is."""
    from orchestrator.cli.branch import drop, drop_old

    if bool(name) == bool(older_than):
        raise AssayError("Drop one branch, or all of an age", "./assay branch drop pr-42, or --older-than 14d")
    if name:
        drop(load_base(), name, console)
    else:
        drop_old(load_base(), older_than, console)


@app.command(context_settings=PASS_THROUGH)
def dagster(context: typer.Context) -> None:
    """Plain dagster, with this home's environment; a selection that is certainly a mistake is refused."""
    from orchestrator.cli.selecting import CHECKED, run_checked

    if context.args[:2] in CHECKED and "--help" not in context.args:
        _enter(load())
        run_checked(context.args)
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


def _serving(settings: Settings) -> Settings:
    """The home that runs the services."""
    return load_base(settings.base) if settings.base else settings


def _refuse_in_branch(settings: Settings, command: str) -> None:
    if settings.base:
        raise AssayError(
            f"The services of the branch {settings.environment} are those of {settings.base}",
            f"in a shell of the base, without ASSAY_ENV, ASSAY_BRANCH and ASSAY_BASE: ASSAY_HOME={settings.base} "
            f"./assay {command}",
        )


def _say(error: AssayError) -> None:
    errors.print(
        f"[bold red]error:[/] {escape(error.what)}.\n[bold]Next:[/] {escape(error.next_action)}.", soft_wrap=True
    )


def _become(settings: Settings, command: list[str], folder: Path = PROJECT) -> None:
    _enter(settings, folder)
    os.execvp(command[0], command)


@app.command()
def ci(
    steps: Annotated[list[str] | None, typer.Argument(help="The steps; lint, unit and data if omitted.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the steps.")] = False,
    home: Annotated[Path, typer.Option("--home", help="The base's home; made for the sampled days if it has none.")] = (
        PROJECT / ".assay-ci" / "home"
    ),
    artifacts: Annotated[Path, typer.Option("--artifacts", help="Where logs, docs and failing rows go.")] = (
        PROJECT / ".assay-ci" / "artifacts"
    ),
    against: Annotated[str, typer.Option("--against", help="The commit that the base has.")] = "main",
    select: Annotated[str, typer.Option("--select", help="data: these assets, not those that changed.")] = "",
    partition: Annotated[str, typer.Option("--partition", help="data: with --select, one partition.")] = "",
    days: Annotated[str, typer.Option("--partition-range", help="data: with --select, first...last.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="data: leave the engines running for the next time.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=0.1, help="data: how many minutes one command may take.")
    ] = 30,
) -> None:
    """What a pull request must pass: plain command lines, each printed; the last screen says which failed, and why."""
    from orchestrator.cli.ci import list_steps, run_ci
    from orchestrator.cli.ci_data import DataRequest

    if show:
        list_steps(console)
        return
    where = (home.expanduser().resolve(), artifacts.expanduser().resolve())
    request = DataRequest(*where, against, select, partition, days, keep, patience * 60)
    raise typer.Exit(run_ci(console, steps or (), request))


def _enter(settings: Settings, folder: Path = PROJECT) -> None:
    from deploy.embedded.environment import exports

    os.chdir(folder)
    os.environ.update(exports(settings))
