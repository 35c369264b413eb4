"""Measures Gold and the warehouse: what a person waits for, beside the bare work of the engines in the same run.

Belongs here: the parts of `python bench/measure.py gold`. Does not belong here: asserting; nothing here is a test. What it
makes for comparison is in schemas that begin with `bench__`, which it drops.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.measure import PROJECT, seconds
from foundation.lake import pin_published
from foundation.settings import Settings, load
from orchestrator.cli.engines import ask_warehouse, rows
from orchestrator.dbt_environment import dbt_environment, lake_pins
from orchestrator.manifests import compiled_analyses, manifest_dir, manifest_file

SCRATCH = "bench"
YEAR, DAY = "2013-01-01...2013-12-31", "2013-06-15"
FEEDS = {"airlines": "", "airports": "", "planes": "", "schedule": YEAR, "flights": YEAR, "weather": YEAR}
ASKED = 20
MART = "mart_on_time_by_carrier"
# 5 flight numbers by 6 times of departure: the keys of 30 copies of a year stay different, and both fit UInt16.
COPIES = (5, 6)


def gold(home: Path, part: str) -> None:
    """One part, or all."""
    parts = {"year": year, "day": day, "edit": edit, "load": load_lake, "marts": marts}
    os.environ["ASSAY_HOME"] = str(home)
    seconds([PROJECT / "assay", "up"])
    seconds([PROJECT / "assay", "pause"])
    settings = load(home)
    silver(settings)
    for name in parts if part == "all" else [part]:
        print(f"load {os.getloadavg()[0]:.1f}", end="   ")
        parts[name](settings)
    seconds([PROJECT / "assay", "resume"])
    seconds([PROJECT / "assay", "down"])


def silver(settings: Settings) -> None:
    """The year up to Silver, and what of Gold and the warehouse has no days, unless they are there."""
    if not list(rows(settings, "trino", "show tables from lake.gold like 'aircraft_over_time'")):
        seconds([PROJECT / "assay", "land", "everything"])
        for feed, days in FEEDS.items():
            materialize([f"{layer}/{feed}" for layer in ("bronze", "silver", "quarantine")], days)
    seconds([PROJECT / "assay", "dbt", "build", "--shared", "--exclude", "tag:daily"])


def year(settings: Settings) -> None:
    """The year into no tables and over what is there, and the statements that these runs compiled, bare."""
    daily = {target: daily_models(settings, target) for target in ("trino", "clickhouse")}
    totals: dict[str, list[float]] = {"new": [], "again": [], "bare": []}
    for _ in range(2):
        for name in ("new", "again"):
            if name == "new":
                drop(settings, "trino", [f"lake.gold.{model}" for model in daily["trino"]])
                drop(settings, "clickhouse", [f"warehouse.{model}" for model in daily["clickhouse"]])
            totals[name].append(0.0)
            for target, models in daily.items():
                began = time.time()
                materialize([asset for asset, _ in models.values()], YEAR)
                totals[name][-1] += time.time() - began
                print(f"{target}, {name}: {told(settings, target, began, time.time())}")
        spent = {target: bare(settings, target, models) for target, models in daily.items()}
        totals["bare"].append(sum(spent.values()))
        print(f"bare: Trino {spent['trino']:.1f} s   ClickHouse {spent['clickhouse']:.1f} s")
    new, again, statements = (min(totals[name]) for name in ("new", "again", "bare"))
    print(
        f"the year: bare {statements:.1f} s   two Dagster runs {new:.1f} s, ratio {new / statements:.2f}   "
        f"over the same rows {again:.1f} s, ratio {again / statements:.2f}"
    )


def day(settings: Settings) -> None:
    """A day through both engines, the tables being there."""
    assets = [asset for target in ("trino", "clickhouse") for asset, _ in daily_models(settings, target).values()]
    print(f"a day through both, whole command: {min(materialize(assets, DAY) for _ in range(3)):.1f} s")


def edit(settings: Settings) -> None:
    """A person's loop: change a mart, build it, look at it."""
    file = next((PROJECT / "dbt_project").rglob(f"{MART}.sql"))
    before = file.read_text()
    table = settings.model_copy(update={"environment": settings.analyst}).table("warehouse", MART).in_catalog
    spent: list[tuple[float, float]] = []
    try:
        for _ in range(3):
            file.write_text(f"-- edit {time.time()}\n{before}")
            built = seconds([PROJECT / "assay", "dbt", "build", "--select", MART])
            shown = seconds([PROJECT / "assay", "sql", "-e", "clickhouse", f"select * from {table}"])
            spent.append((built, shown))
    finally:
        file.write_text(before)
    built, shown = min(spent, key=sum)
    print(f"edit a mart and see its rows: {built + shown:.1f} s (build {built:.1f} s, rows {shown:.1f} s)")


def load_lake(settings: Settings) -> None:
    """The real model and a bare insert of the same columns, of 30 years' rows, by ClickHouse's own clock."""
    scratch = settings.model_copy(update={"environment": SCRATCH})
    source, model, bare_table = (
        scratch.table("gold", "flight_facts"),
        scratch.table("warehouse", "fct_flights").in_catalog,
        scratch.table("warehouse", "bare").in_catalog,
    )
    described = json.loads(manifest_file(settings, "clickhouse").read_text())["nodes"]["model.assay.fct_flights"]
    columns = ", ".join(described["columns"])
    with scratch_schemas(settings):
        ask(settings, "trino", f"create table {source} with (format_version = 2, {PARTITIONED}) as {copies(settings)}")
        pins = pin_published(scratch, ("gold",))
        folder = manifest_dir(settings, "clickhouse") / "runs" / "bench"
        environment = {
            **dbt_environment(settings),
            "ASSAY_DBT_PREFIX": f"{SCRATCH}__",
            "ASSAY_WRITES_SHARED": "",
            "ASSAY_LAKE_PINS": lake_pins(pins),
            "DBT_TARGET_PATH": str(folder),
            "DBT_LOG_PATH": str(folder),
        }
        dbt = [PROJECT / ".venv/bin/dbt", "run", "--target", "clickhouse", "--select", "stg_flights", "fct_flights"]
        lake = scratch.table("lake", "gold_flight_facts").in_catalog
        times: dict[str, list[float]] = {"model": [], "bare": []}
        for _ in range(3):
            seconds(dbt, **environment)
            times["model"].append(of_the_log(settings, f"insert into%{SCRATCH}__warehouse%fct_flights__dbt_new_%"))
            ask(settings, "clickhouse", f"create table {bare_table} as {model}")
            ask(settings, "clickhouse", f"insert into {bare_table} select {columns} from {lake}")
            times["bare"].append(of_the_log(settings, f"insert into {bare_table} select%"))
            ask(settings, "clickhouse", f"drop table {bare_table} sync")
        count = next(rows(settings, "clickhouse", f"select count() from {model}"))[0]
    made, least = min(times["model"]), min(times["bare"])
    print(
        f"{count / 1e6:.1f} million rows from the lake: bare {least:.1f} s   the model {made:.1f} s   "
        f"{least / made:.0%} of the bare speed"
    )


def marts(settings: Settings) -> None:
    """Every mart whole, and the analyses, over HTTP from Python, the login not counted."""
    names = [name for name in daily_models(settings, "clickhouse") if name.startswith("mart_")]
    analyses = sorted(file.stem for file in (PROJECT / "dbt_project" / "analyses").glob("*.sql"))
    questions = {name: f"select * from warehouse.{name}" for name in names}
    questions |= compiled_analyses(settings, analyses, dbt_environment(settings))
    for name, question in questions.items():
        answers = [ask_warehouse(settings, question) for _ in range(ASKED)]
        spent = [1000 * answer.seconds for answer in answers]
        print(
            f"{name:<32} {len(answers[0].rows):>6} rows   median {statistics.median(spent):5.1f} ms   "
            f"worst {max(spent):5.1f} ms"
        )


PARTITIONED = "partitioning = array['month(flight_date)']"


def copies(settings: Settings) -> str:
    """The year's flights 30 times, each copy with keys of its own."""
    numbers, times = COPIES
    listed = [str(row[0]) for row in rows(settings, "trino", "show columns from lake.gold.flight_facts")]
    changed = {
        "flight": "cast(flight + 9000 * a as integer) as flight",
        "sched_dep_time": "cast(sched_dep_time + 2400 * b as integer) as sched_dep_time",
    }
    return (
        f"select {', '.join(changed.get(column) or column for column in listed)} from lake.gold.flight_facts "
        f"cross join unnest(sequence(0, {numbers - 1})) as t (a) cross join unnest(sequence(0, {times - 1})) as u (b)"
    )


def bare(settings: Settings, target: str, models: Mapping[str, tuple[str, Mapping[str, Any]]]) -> float:
    """The newest run's compiled statements with a plain client, one after the other: the seconds of all."""
    folder = newest_run(settings, target) / "compiled" / "assay"
    schema = settings.table("gold" if target == "trino" else "warehouse", "x").schema
    spent = 0.0
    with scratch_schemas(settings):
        for name, (_, node) in models.items():
            sql = (folder / node["original_file_path"]).read_text()
            for other in models:  # what was built bare is read bare
                sql = sql.replace(f'"lake"."{schema}"."{other}"', f'"lake"."{SCRATCH}__{schema}"."{other}"')
                sql = sql.replace(f"`{schema}`.`{other}`", f"`{SCRATCH}__{schema}`.`{other}`")
            config = node["config"]
            if target == "trino":
                head = (
                    f"create table lake.{SCRATCH}__{schema}.{name} with (format_version = 2, "
                    f"partitioning = array['month({config['range_column']})'])"
                )
            else:
                head = (
                    f"create table {SCRATCH}__{schema}.{name} engine MergeTree "
                    f"partition by toYYYYMM({config['range_column']}) order by {config['order_by']}"
                )
            began = time.monotonic()
            ask(settings, target, f"{head} as {sql}")
            spent += time.monotonic() - began
    return spent


def told(settings: Settings, target: str, began: float, ended: float) -> str:
    """Where a Dagster run's time went: five parts whose sum is the whole command."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        run = instance.get_run_records(limit=1)[0]
        step = min(s.start_time for s in instance.get_run_step_stats(run.dagster_run.run_id) if s.start_time)
    results = json.loads((newest_run(settings, target) / "run_results.json").read_text())
    nodes = [result for result in results["results"] if not result["unique_id"].startswith("operation")]
    first = min(moment(result["timing"][0]["started_at"]) for result in nodes if result["timing"])
    last = max(moment(result["timing"][-1]["completed_at"]) for result in nodes if result["timing"])
    invoked = moment(results["metadata"]["invocation_started_at"])
    work = {
        kind: sum(r["execution_time"] for r in nodes if r["unique_id"].startswith(kind)) for kind in ("model", "test")
    }
    return (
        f"{ended - began:.1f} s = start and graph {step - began:.1f} + dbt's process {invoked - step:.1f} + "
        f"dbt's own start {first - invoked:.1f} + statements {last - first:.1f} "
        f"(models {work['model']:.1f}, tests {work['test']:.1f}, two at once) + the rest {ended - last:.1f}"
    )


def moment(text: str) -> float:
    """Seconds since 1970 of a time that dbt wrote."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def newest_run(settings: Settings, target: str) -> Path:
    """The folder of the newest run of a target's daily models."""
    found = (manifest_dir(settings, target) / "runs").glob(f"*_dbt_{target}_daily")
    return max(found, key=lambda folder: (folder / "run_results.json").stat().st_mtime)


def daily_models(settings: Settings, target: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The daily models, parents first: name -> (asset, node)."""
    nodes = json.loads(manifest_file(settings, target).read_text())["nodes"]
    waiting = {
        unique_id: node
        for unique_id, node in nodes.items()
        if "daily" in node["tags"] and node["resource_type"] == "model"
    }
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    while waiting:
        ready = [i for i, node in waiting.items() if not waiting.keys() & set(node["depends_on"]["nodes"])]
        for node in (waiting.pop(unique_id) for unique_id in ready):
            found[node["name"]] = (f"{node['config']['schema']}/{node['name']}", node)
    return found


def materialize(assets: Sequence[str], days: str) -> float:
    """The whole command's seconds."""
    option = ["--partition-range" if "..." in days else "--partition", days] if days else []
    return seconds([PROJECT / "assay", "dagster", "asset", "materialize", "--select", ",".join(assets), *option])


def ask(settings: Settings, engine: Any, statement: str) -> None:
    """A statement whose answer nobody needs."""
    list(rows(settings, engine, statement))


def of_the_log(settings: Settings, like: str) -> float:
    """Seconds of the newest finished query that is like this, by ClickHouse's log."""
    ask(settings, "clickhouse", "system flush logs")
    found = list(
        rows(
            settings,
            "clickhouse",
            "select query_duration_ms from system.query_log where type = 'QueryFinish' "
            f"and trim(both ' \\n' from replaceRegexpAll(query, '/\\\\*.*?\\\\*/|`', '')) ilike '{like}' "
            "order by event_time_microseconds desc limit 1",
        )
    )
    return found[0][0] / 1000


def drop(settings: Settings, engine: str, tables: Sequence[str]) -> None:
    """Drops tables that may not be there."""
    for table in tables:
        ask(settings, engine, f"drop table if exists {table}")


@contextmanager
def scratch_schemas(settings: Settings) -> Iterator[None]:
    """Empty schemas for what is compared, on both engines."""
    names = [f"{SCRATCH}__{layer}" for layer in ("gold", "warehouse", "lake")]
    try:
        for name in names:
            ask(settings, "clickhouse", f"create database if not exists {name}")
        ask(settings, "trino", f"create schema if not exists lake.{names[0]}")
        yield
    finally:
        for (table,) in list(rows(settings, "trino", f"show tables from lake.{names[0]}")):
            ask(settings, "trino", f"drop table lake.{names[0]}.{table}")
        ask(settings, "trino", f"drop schema lake.{names[0]}")
        for name in names:
            ask(settings, "clickhouse", f"drop database {name} sync")
