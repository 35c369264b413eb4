"""`./assay demo`: real files of 2013 from landing to a prediction of the day after the last, of which only the schedule
is known.

Belongs here: the order of that, and what a person is told. Does not belong here: any step's work.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.embedded import services
from deploy.embedded.environment import exports
from feature_repo.definitions import VIEWS
from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.lake import iceberg_tables
from foundation.lock import writer_lock
from foundation.settings import Settings, load
from intake.vendor import land
from orchestrator.cli.engines import ask_warehouse, count
from orchestrator.cli.platform import print_addresses, start
from orchestrator.dbt_environment import dbt_environment
from orchestrator.manifests import compiled_analyses
from orchestrator.runs import RunReport, execute
from orchestrator.sensors import COMMAND_LOCK

FIRST_DAY = date(2013, 1, 1)
LAKE = ("bronze", "silver", "quarantine")
# In the order of what needs what: the flights' zones come from the airports.
FULL_FEEDS = ("airlines", "airports", "planes")
DAILY_FEEDS = ("schedule", "flights", "weather")
GOLD = ("flight_facts", "airport_hours", "carrier_history", "route_history", "aircraft_history", "origin_weather")
DIMENSIONS = ("airports_not_in_feed", "carriers", "airports", "aircraft", "aircraft_over_time")
STAGING = ("stg_flights", "stg_airport_hours", "stg_carriers", "stg_airports", "stg_aircraft")
WAREHOUSE = (
    "dim_carriers",
    "dim_airports",
    "dim_aircraft",
    "fct_flights",
    "fct_airport_hours",
    "mart_on_time_by_carrier",
    "mart_on_time_by_route",
    "mart_on_time_by_airport_hour",
    "mart_on_time_by_aircraft_age",
    "mart_delay_propagation",
    "mart_weather_impact",
)
LINE = (
    *(f"{layer}/{feed}" for feed in (*FULL_FEEDS, *DAILY_FEEDS) for layer in LAKE),
    *(f"gold/{model}" for model in (*DIMENSIONS, *GOLD)),
    *(f"warehouse/{model}" for model in (*STAGING, *WAREHOUSE)),
    *(f"features/{view}" for view in VIEWS),
)
QUESTIONS = {
    "worst_routes": "Which routes are late most often?",
    "aircraft_age_and_delay": "Does an old aircraft mean delay?",
    "cost_of_weather": "What does weather cost?",
}
TABLES = tuple(tuple(asset.split("/")) for asset in LINE if not asset.startswith(("features/", "warehouse/stg_")))
TRAINING_SET, MODEL, PREDICTIONS = (
    "models/arrival_delay_training_set",
    "models/arrival_delay",
    "predictions/arrival_delay",
)


def run_demo(settings: Settings, console: Console, days: int, stop_services: bool) -> None:
    """Lands `days` days and runs the whole line on them. Doing it twice changes no count.

    Raises:
        AssayError: a service did not come up, or a run failed; the same command goes on from there.
    """
    last = FIRST_DAY + timedelta(days=days - 1)
    tomorrow = last + timedelta(days=1)
    settings = _set_clock(settings, find_contract("flights").daily.available.of(last))
    start(settings, console)
    began = time.monotonic()
    # The landing sensor and automation would ask for the same runs that this command does itself: the daemon rests. The
    # lock is for a daemon that somebody else started.
    log = settings.services_dir / "logs" / "demo.log"
    with (
        services.resting(settings, "dagster-daemon"),
        writer_lock(settings, COMMAND_LOCK),
        _libraries_write_to(log) as ours,
    ):
        reports = _run_line(settings, ours, last, tomorrow)
    _print_rows(settings, console)
    _print_checks(console, reports)
    _print_model(settings, console, tomorrow)
    _print_answers(settings, console)
    _print_seconds(console, reports, time.monotonic() - began)
    if stop_services:
        services.down(settings)
        console.print("The services are stopped; ./assay up starts them.")
    else:
        console.print("\n[bold]Where to look[/]")
        print_addresses(settings, console)


@contextmanager
def _libraries_write_to(log: Path) -> Iterator[Console]:
    """A console that reaches the person, while what dbt, MLflow and Dagster print goes to a file. File descriptors are
    exchanged, not Python's streams, so that Dagster still captures each step's output for its UI."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    streams = (os.dup(1), os.dup(2))
    try:
        with log.open("w") as file, os.fdopen(os.dup(streams[0]), "w") as person:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield Console(file=person, highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        for stream in streams:
            os.close(stream)


def _set_clock(settings: Settings, moment: datetime) -> Settings:
    """The home's clock, for this command and for the services: the demo lives in 2013."""
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / "settings.env"
    kept = (
        [line for line in file.read_text().splitlines() if not line.startswith("ASSAY_NOW=")] if file.exists() else []
    )
    part = file.with_suffix(".part")
    part.write_text("\n".join([*kept, f"ASSAY_NOW={moment.astimezone(UTC).isoformat()}"]) + "\n")
    part.replace(file)
    return load(settings.home)


def _run_line(settings: Settings, console: Console, last: date, tomorrow: date) -> list[RunReport]:
    everything = [FIRST_DAY + timedelta(days=number) for number in range((last - FIRST_DAY).days + 1)]
    for feed in FULL_FEEDS:
        land(settings, find_contract(feed))
    for feed in DAILY_FEEDS:
        known = [day for day in everything if find_contract(feed).expects(day)]
        # Tomorrow's schedule is known today; what becomes of its flights is not.
        land(settings, find_contract(feed), [*known, tomorrow] if feed == "schedule" else known)
    console.print(f"Landed six feeds of {FIRST_DAY} to {last}, and the schedule of {tomorrow}.")
    line = [
        _run(settings, console, LINE, (FIRST_DAY, last)),
        _run(settings, console, [f"{layer}/schedule" for layer in LAKE], (tomorrow, tomorrow)),
    ]
    return [*line, *_run_model(settings, console, tomorrow)]


def _run_model(settings: Settings, console: Console, tomorrow: date) -> list[RunReport]:
    """Training set, model and predictions, as far as there are a month to learn from and a champion."""
    from ml.promotion import champion

    month = tomorrow.replace(day=1)
    if month == FIRST_DAY:
        return []
    month_before = (month - timedelta(days=1)).replace(day=1)
    reports = [
        _run(settings, console, [TRAINING_SET], (FIRST_DAY, month_before)),
        _run(settings, console, [MODEL], None, str(month)),
    ]
    if champion(settings, tomorrow) is None:
        return reports
    return [*reports, _run(settings, console, [PREDICTIONS], (tomorrow, tomorrow))]


def _run(
    settings: Settings,
    console: Console,
    assets: tuple[str, ...] | list[str],
    days: tuple[date, date] | None,
    partition: str | None = None,
) -> RunReport:
    os.environ.update(exports(settings))
    with console.status("loading the graph") as status:
        import dagster as dg

        from orchestrator.definitions import defs

        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            report = execute(defs, instance, assets, days, lambda step: status.update(_readable(step)), partition)
    for step, seconds in report.seconds.items():
        failed = step in report.failures
        console.print(f"  {'[red]failed[/]' if failed else '[green]done[/]  '} {seconds:6.1f} s  {_readable(step)}")
    if not report.success:
        where = "\n".join(f"{_readable(step)}: {text}" for step, text in report.failures.items())
        raise AssayError(
            f"Run {report.run_id} failed:\n{where.rstrip('.')}",
            "do what it says and type the same command again, it goes on from here; "
            f"the run is in the Dagster UI (./assay status), its output in {settings.services_dir / 'logs' / 'demo.log'}",
        )
    return report


def _readable(step: str) -> str:
    return step.replace("__", "/")


def _print_rows(settings: Settings, console: Console) -> None:
    console.print("\n[bold]Rows[/]")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    # A demo of less than a month has no model, and one that the gate refused predicts nothing.
    made = [(layer, name) for layer, name in iceberg_tables(settings) if layer in ("models", "predictions")]
    for layer, name in (*TABLES, *made):
        table.add_row(f"{count(settings, layer, name):,}", f"{layer}/{name}")
    console.print(table)


def _print_checks(console: Console, reports: list[RunReport]) -> None:
    checks = {name: passed for report in reports for name, passed in report.checks.items()}
    failed = [name for name, passed in checks.items() if not passed]
    console.print(f"\n[bold]Checks[/]\n{len(checks) - len(failed)} of {len(checks)} passed")
    for name in failed:
        console.print(f"[red]failed[/] {name}")


def _print_model(settings: Settings, console: Console, tomorrow: date) -> None:
    """The model of tomorrow's month: how good it is beside who has none, and what the gate decided."""
    from ml.promotion import champion, decision_of, month_of
    from ml.registry import connect, model_versions
    from ml.training import scores_of

    month = month_of(tomorrow)
    versions = [model for model in model_versions(settings) if model.month == month]
    if not versions:
        console.print(
            f"\n[bold]Model[/] none: the model of {month} learns from the days before that month, and this demo has none of "
            "them. So nothing is predicted. Next: ./assay demo --days 31",
            soft_wrap=True,
        )
        return
    model, decision = versions[-1], decision_of(settings, versions[-1].version)
    assert decision is not None, "the run that made the version decided about it"
    metrics = connect(settings).MlflowClient().get_run(model.run_id).data.metrics
    scores = scores_of(metrics)
    console.print(
        f"\n[bold]Model[/] {model.name} version {model.version} of {month}, learnt from the days through "
        f"{model.trained_through}",
        soft_wrap=True,
    )
    console.print(
        f"  on the last days, which it had not seen ({metrics['gate.rows']:,.0f} flights, "
        f"{metrics['gate.observed_rate']:.1%} of them late):",
        soft_wrap=True,
    )
    rivals = {
        "base_rate": "the share of late flights before",
        "carrier_hour": "that share by carrier and hour",
        "champion": "the champion so far",
    }
    ours = scores["challenger"]
    console.print(f"  Brier score      {ours['brier']:.4f}, less is better")
    for who, words in rivals.items():
        if who in scores:
            verdict = "better" if ours["brier"] < scores[who]["brier"] else "no better"
            console.print(
                f"                   {scores[who]['brier']:.4f} has {words}: the model is {verdict}", soft_wrap=True
            )
    console.print(
        f"  area under ROC   {ours['roc_auc']:.4f}, {scores['carrier_hour']['roc_auc']:.4f} by carrier and hour"
    )
    console.print(f"  off by           {ours['ece']:.4f} on average, where it says how likely a delay is")
    if decision.action == "promote":
        console.print(f"  the gate promoted it: champion from {decision.valid_from} on")
    else:
        console.print(f"  the gate refused it: {decision.why}", soft_wrap=True)
    valid = champion(settings, tomorrow)
    if valid is None:
        console.print(f"  {month} has no champion, so nothing is predicted. Next: ./assay models log", soft_wrap=True)
    elif valid.version != model.version:
        console.print(f"  {tomorrow} is predicted by version {valid.version}, which stays champion")
    if valid is not None:
        _print_live_prediction(settings, console, tomorrow)


def _print_live_prediction(settings: Settings, console: Console, tomorrow: date) -> None:
    from ml.serve.example import likeliest_to_be_late

    flight, said = likeliest_to_be_late(settings, tomorrow)
    console.print(
        f"\n[bold]Live[/] {flight.carrier} {flight.flight} from {flight.origin} to {flight.dest} on {tomorrow}, "
        f"{flight.sched_dep_time // 100:02}:{flight.sched_dep_time % 100:02}: {said.probability:.0%} likely to arrive more "
        f"than 15 minutes late, says version {said.model_version} from what is known now. Ask it yourself: ./assay serve",
        soft_wrap=True,
    )


def _print_answers(settings: Settings, console: Console) -> None:
    """What a person would ask, asked of the warehouse: dbt_project/analyses holds the questions."""
    questions = compiled_analyses(settings, list(QUESTIONS), dbt_environment(settings))
    for name, question in QUESTIONS.items():
        answer = ask_warehouse(settings, questions[name])
        console.print(f"\n[bold]{question}[/] {answer.seconds * 1000:.0f} ms")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for number, column in enumerate(answer.columns):
            words = isinstance(answer.rows[0][number], str) if answer.rows else True
            table.add_column(column.replace("_", " "), justify="left" if words else "right")
        for row in answer.rows:
            table.add_row(
                *["" if value is None else f"{value:,}" if not isinstance(value, str) else value for value in row]
            )
        console.print(table)


def _print_seconds(console: Console, reports: list[RunReport], whole: float) -> None:
    work = sum(seconds for report in reports for seconds in report.seconds.values())
    console.print(f"\n[bold]Time[/] {whole:.0f} s from landing to prediction, {work:.0f} s of it in steps")
