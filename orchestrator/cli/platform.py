"""Starting the services with what they need, and telling how they are.

Belongs here: `up`, `status` and `doctor` as a person sees them. Does not belong here: how a service is run
(deploy/embedded).
"""

import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from deploy.embedded import doctor, programs, services
from foundation.contract import load_contracts
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.cli.alerts import finding as alerts_finding
from orchestrator.cli.pausing import print_automation
from orchestrator.dbt_sources import write_feed_sources
from orchestrator.manifests import TARGETS, build, is_current

# The graph cannot load without dbt's manifests, and these are made for the engines' addresses: engines come first.
NEED_MANIFESTS = ("dagster-code", "dagster-webserver", "dagster-daemon")


def start(settings: Settings, console: Console, only_engines: bool = False, manifests: bool = True) -> None:
    """Everything up and ready, or the engines alone; the first time, runtimes are fetched and dbt's manifests built.

    Args:
        manifests: build those that are not current. Without, they stay as they are: of another tree, whose home this is.

    Raises:
        AssayError: the manifests shall stay as they are, and the services to be started need current ones; or one did not
            come up.
    """
    if not (manifests or only_engines):
        raise AssayError("The Dagster services load dbt's manifests as they start", "add --engines to --no-manifests")
    write_feed_sources(load_contracts())
    began = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(name: str, done: int, whole: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=whole)
            progress.update(tasks[name], completed=done)

        def report(text: str) -> None:
            console.print(f"  {text}", markup=False)

        stale = [target for target in TARGETS if manifests and not is_current(settings, target)]
        if stale or only_engines:
            engines = [name for name in programs.embedded(settings) if name not in NEED_MANIFESTS]
            services.up(settings, report, only=engines, progress=advance)
        if stale:
            report(f"dbt: building the manifests of {' and '.join(stale)}")
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda target: build(settings, target), stale))
        if not only_engines:
            services.up(settings, report, progress=advance)
    console.print(f"Everything is ready after {time.monotonic() - began:.0f} s.")


def print_addresses(settings: Settings, console: Console) -> None:
    """Where a person finds what."""
    clickhouse = "{}:{}".format(*settings.clickhouse_address)
    trino = "{}:{}".format(*settings.trino_address)
    console.print(f"  Dagster     http://127.0.0.1:{settings.port('dagster')}")
    console.print(f"  MLflow      {settings.mlflow_tracking_uri}")
    console.print(f"  Trino       http://{trino} (user {settings.trino_user}, catalog lake)")
    console.print(
        f"  ClickHouse  http://{clickhouse} (user {settings.clickhouse_user}, password: see ./assay env)",
        soft_wrap=True,
    )
    console.print(f"  Spark       {settings.spark_remote}")


def print_status(settings: Settings, console: Console) -> bool:
    """A line a service; True if all of them are ready."""
    found = services.status(settings)
    table = Table(box=None, pad_edge=False)
    for column in ("service", "state", "ready", "pid", "memory", "up for", "address"):
        table.add_column(column, justify="right" if column in ("pid", "memory", "up for") else "left")
    for one in found:
        table.add_row(
            one.name,
            one.state,
            "yes" if one.ready else "no",
            str(one.pid or ""),
            f"{one.memory_mb} MB",
            f"{one.uptime_seconds} s",
            one.address,
        )
    console.print(table)
    console.print(f"{sum(one.memory_mb for one in found) / 1024:.1f} GB in all.")
    if any(one.ready for one in found if one.name == "dagster-webserver"):
        print_automation(settings, console)
    ready = all(one.ready for one in found)
    if not ready:
        console.print("Next: ./assay up starts what is not ready; ./assay logs <service> says why it is not.")
    return ready


def print_findings(settings: Settings, console: Console) -> bool:
    """A line a finding and what to do; True if nothing is wrong."""
    found = doctor.doctor(settings)
    for one in found:
        console.print(f"{'[green]ok  [/]' if one.ok else '[red]bad [/]'} ", end="")
        console.print(f"{one.name}: {one.detail}", markup=False, soft_wrap=True)
        if not one.ok:
            console.print(f"     Next: {one.next_action}", markup=False, soft_wrap=True)
    ok, told = alerts_finding(settings)
    console.print(f"{'[green]ok  [/]' if ok else '[red]bad [/]'} ", end="")
    console.print(f"alerts: {told}", markup=False, soft_wrap=True)
    stale = [target for target in TARGETS if not is_current(settings, target)]
    if stale:
        console.print(f"[red]bad [/] dbt manifests: {', '.join(stale)} not current\n     Next: run ./assay up")
    return all(one.ok for one in found) and ok and not stale
