"""The batched event log keeps what Dagster's own keeps, and each reads what the other wrote."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from alembic.script import ScriptDirectory

from orchestrator.event_log import BatchedSqliteEventLog
from orchestrator.reporting import report_check

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-11")
KEY = dg.AssetKey("table")
CHECKS = ("rows_are_there", "keys_are_unique")
BAD = "2013-01-04"
RANGE = {"dagster/asset_partition_range_start": "2013-01-02", "dagster/asset_partition_range_end": "2013-01-06"}


def instance_of(home: Path, batched: bool) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    log = f"""
event_log_storage:
  module: orchestrator.event_log
  class: BatchedSqliteEventLog
  config: {{base_dir: "{home / "history" / "runs"}"}}
"""
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + (log if batched else ""))
    return dg.DagsterInstance.from_config(str(home))


def run_range(instance: dg.DagsterInstance) -> str:
    """A run of five days, each with its own metadata and a tag, and of two checks; returns its id."""

    @dg.asset(
        key=KEY,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(CHECKS[0], asset=KEY),
            dg.AssetCheckSpec(CHECKS[1], asset=KEY, partitions_def=DAYS),
        ],
    )
    def table(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        for number, day in enumerate(context.partition_keys):
            context.add_asset_metadata({"rows": number}, partition_key=day)
        yield dg.MaterializeResult(asset_key=KEY)
        found = dg.AssetCheckResult(asset_key=KEY, passed=False, check_name=CHECKS[1])
        report_check(context, found, {date.fromisoformat(day): day != BAD for day in context.partition_keys})
        for name in CHECKS:
            yield dg.AssetCheckResult(asset_key=KEY, passed=name == CHECKS[0], check_name=name)

    job = dg.Definitions([table]).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags=RANGE).run_id


def kept(instance: dg.DagsterInstance, run_id: str) -> list[object]:
    """What a reader can see: of the run, of each day, of the asset, of what was planned."""
    materializations = instance.fetch_materializations(KEY, limit=100).records
    planned = instance.get_event_records(
        dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=KEY)
    )
    newest = instance.get_latest_materialization_event(KEY)
    assert newest is not None
    assert newest.asset_materialization is not None
    return [
        [(event.event_type, event.partition) for event in map(_event, instance.all_logs(run_id))],
        [
            (one.partition_key, one.asset_materialization.metadata["rows"].value)
            for one in materializations
            if one.asset_materialization
        ],
        sorted(str(one.partition_key) for one in planned),
        newest.asset_materialization.partition,
        sorted(instance.get_materialized_partitions(KEY)),
        sorted(
            (name, str(one.partition), one.status.value, one.event is not None)
            for name in CHECKS
            for one in instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(KEY, name), limit=100
            )
        ),
    ]


def _event(entry: dg.EventLogEntry) -> dg.DagsterEvent:
    return entry.get_dagster_event()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What Dagster's own log keeps of the range, written one by one."""
    with instance_of(tmp_path_factory.mktemp("expected") / "single", batched=False) as instance:
        return kept(instance, run_range(instance))


@pytest.mark.parametrize("reader_is_batched", [True, False])
def test_a_range_written_at_once_is_what_one_by_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: list[object], reader_is_batched: bool
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "3")  # a batch and a rest
    with instance_of(tmp_path / "batched", batched=True) as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLog)
        run_id = run_range(instance)
    with instance_of(tmp_path / "batched", batched=reader_is_batched) as instance:
        assert kept(instance, run_id) == expected


def test_a_batch_is_written_at_once_and_not_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    single: list[str] = []
    store = BatchedSqliteEventLog.store_event

    def counted(self: BatchedSqliteEventLog, event: dg.EventLogEntry) -> None:
        if event.dagster_event_type:
            single.append(event.dagster_event_type.value)
        store(self, event)

    monkeypatch.setattr(BatchedSqliteEventLog, "store_event", counted)
    with instance_of(tmp_path / "home", batched=True) as instance:
        run_range(instance)
    assert not {"ASSET_MATERIALIZATION", "ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED"} & set(
        single
    )
    assert single.count("ASSET_CHECK_EVALUATION") == len(CHECKS), "the range's own results, not those of its days"


def test_a_check_of_a_range_fails_for_its_bad_day_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    with instance_of(tmp_path / "home", batched=True) as instance:
        run_range(instance)
        key = dg.AssetCheckKey(KEY, CHECKS[1])
        (state,) = instance.event_log_storage.get_asset_check_state([(key, DAYS)]).values()
        by_status = {
            status.value: sorted(subset.subset_value.get_partition_keys())
            for status, subset in state.subsets.items()
            if not subset.is_empty
        }
    assert by_status == {
        "FAILED": [BAD],
        "SUCCEEDED": ["2013-01-02", "2013-01-03", "2013-01-05", "2013-01-06"],
    }


def tables(file: Path) -> list[object]:
    """What a database is made of, its revision and its journal."""
    with closing(sqlite3.connect(file)) as connection:
        made = connection.execute("select type, name, tbl_name, sql from sqlite_master order by type, name").fetchall()
        return [made, *connection.execute("select version_num from alembic_version, pragma_journal_mode").fetchall()]


def store(instance: dg.DagsterInstance, run_id: str, said: str) -> None:
    instance.event_log_storage.store_event(
        dg.EventLogEntry(error_info=None, level=20, user_message=said, run_id=run_id, timestamp=0.0)
    )


def test_a_runs_file_is_made_as_dagster_makes_it(tmp_path: Path) -> None:
    for name, batched in (("single", False), ("batched", True)):
        with instance_of(tmp_path / name, batched) as instance:
            store(instance, "run", "hello")
    single, batched = (tmp_path / name / "history" / "runs" / "run.db" for name in ("single", "batched"))
    assert tables(batched) == tables(single)
    assert len(tables(single)) == 2


def test_to_begin_or_open_a_runs_file_loads_no_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_of(tmp_path / "home", batched=True) as instance, monkeypatch.context() as patch:
        patch.delattr(ScriptDirectory, "from_config")
        store(instance, "run", "hello")
        base = str(tmp_path / "home" / "history" / "runs")
        assert [entry.user_message for entry in BatchedSqliteEventLog(base).get_logs_for_run("run")] == ["hello"]


def test_a_file_that_was_begun_without_tables_gets_them(tmp_path: Path) -> None:
    with instance_of(tmp_path / "home", batched=True) as instance:
        (tmp_path / "home" / "history" / "runs" / "run.db").touch()
        store(instance, "run", "hello")
        assert len(instance.all_logs("run")) == 1


def test_of_a_run_that_many_begin_at_once_no_event_is_lost(tmp_path: Path) -> None:
    with instance_of(tmp_path / "home", batched=True):
        pass
    base = tmp_path / "home" / "history" / "runs"
    logs = [BatchedSqliteEventLog(str(base)) for _ in range(8)]
    with ThreadPoolExecutor(len(logs)) as pool:
        entry = dg.EventLogEntry(error_info=None, level=20, user_message="", run_id="run", timestamp=0.0)
        list(pool.map(lambda log: log.store_event(entry), logs))
    assert len(logs[0].get_logs_for_run("run")) == len(logs)
    assert {file.name.partition("-")[0] for file in base.iterdir()} == {"index.db", "run.db"}
