"""Automation on an ephemeral instance, tick by tick: what is asked for when data, code and luck change, and what is not."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.execution.api import create_execution_plan
from sqlalchemy import Engine, event

from orchestrator.attempts import read_records
from orchestrator.automation import any_partition, view_condition
from orchestrator.reporting import report_check
from orchestrator.sensors import RANGE_END, RANGE_START
from tests.unit.homes import dagster_home

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-02-05")
GOLD, VIEW, FACTS, WEATHER, HISTORY = (dg.AssetKey(name) for name in ("gold", "view", "facts", "weather", "history"))
DAY, OTHER = "2013-01-10", "2013-01-20"
LOOKBACK = dg.TimeWindowPartitionMapping(start_offset=-2, allow_nonexistent_upstream_partitions=True)
BROKEN: set[str] = set()


def definitions(view_version: str = "1", facts_version: str = "1") -> dg.Definitions:
    """A daily table, an unpartitioned view of it, a daily table made of the view, as orchestrator/dbt_graph.py ties them, and
    one that looks back on two days. A step of what is named in BROKEN fails."""

    @dg.asset(
        key=GOLD,
        partitions_def=DAYS,
        check_specs=[dg.AssetCheckSpec("right", asset=GOLD, blocking=True, partitions_def=DAYS)],
    )
    def gold(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found = dg.AssetCheckResult(asset_key=GOLD, check_name="right", passed=True)
        report_check(context, found, {date.fromisoformat(day): True for day in context.partition_keys})
        return dg.MaterializeResult(check_results=[found])

    @dg.asset(key=WEATHER, partitions_def=DAYS)
    def weather() -> None: ...

    @dg.asset(key=VIEW, deps=[GOLD], automation_condition=view_condition(), code_version=view_version)
    def view() -> None: ...

    @dg.asset(
        key=FACTS,
        deps=[GOLD, VIEW, WEATHER],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=any_partition(views=[VIEW], optional=[WEATHER]),
        code_version=facts_version,
    )
    def facts(context: dg.AssetExecutionContext) -> None:
        if "facts" in BROKEN:
            raise RuntimeError("the engine died")

    @dg.asset(
        key=HISTORY,
        deps=[dg.AssetDep(GOLD, partition_mapping=LOOKBACK)],
        partitions_def=DAYS,
        automation_condition=any_partition(),
    )
    def history() -> None: ...

    return dg.Definitions([gold, weather, view, facts, history])


def names(result: dg.AutomationResult) -> set[str]:
    """The conditions that were evaluated for an asset."""
    return {result.condition.name}.union(*(names(one) for one in result.child_results))


class Ticks:
    """Evaluates the automation sensor's conditions tick by tick, remembering as its cursor does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor, self.definitions = instance, None, definitions()
        self.now = datetime.now(UTC)
        self.asked: dict[dg.AssetKey, set[str]] = {}

    def requested(self, after: timedelta = timedelta(0), of: tuple[dg.AssetKey, ...] = (GOLD, VIEW, FACTS)) -> set:
        """What one tick requests: (asset, partition)."""
        self.now += after
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        self.asked = {one.key: names(one) for one in result.results}
        return {
            (key.to_user_string(), partition)
            for key in of
            for partition in (result.get_requested_partitions(key) if result.get_num_requested(key) else ())
        }

    def written(self, key: dg.AssetKey, partition: str | None = None) -> None:
        tags = {"dagster/code_version": "1"} if key == VIEW else {}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=tags))

    def checked(self, passed: bool, partition: str) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=GOLD, check_name="right", passed=passed, partition=partition, blocking=True
            )
        )

    def run(self, first: str, last: str, *keys: dg.AssetKey) -> None:
        """A real run of a range."""
        self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=list(keys),
            instance=self.instance,
            tags={RANGE_START: first, RANGE_END: last},
            raise_on_error=False,
        )
        self.now = datetime.now(UTC)

    def start(self, key: dg.AssetKey, partition: str) -> dg.DagsterRun:
        """A run that has begun, and goes on."""
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
        run = self.instance.create_run_for_job(
            job,
            execution_plan=create_execution_plan(job),
            asset_selection=frozenset({key}),
            tags={"dagster/partition": partition},
        )
        self.instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name=run.job_name), run.run_id
        )
        return run

    def end(self, run: dg.DagsterRun, key: dg.AssetKey, partition: str) -> None:
        """That run makes its partition, and ends."""
        made = dg.AssetMaterialization(key, partition=partition)
        data = StepMaterializationData(made)
        kind = dg.DagsterEventType
        self.instance.report_dagster_event(
            dg.DagsterEvent(kind.ASSET_MATERIALIZATION.value, job_name=run.job_name, event_specific_data=data),
            run.run_id,
        )
        self.instance.report_dagster_event(dg.DagsterEvent(kind.RUN_SUCCESS.value, job_name=run.job_name), run.run_id)


@pytest.fixture
def ticks() -> Iterator[Ticks]:
    BROKEN.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        made = Ticks(instance)
        assert made.requested() == set(), "nothing is there"
        yield made


@pytest.fixture
def built(ticks: Ticks) -> Ticks:
    """A day of everything is there."""
    for key, partition in ((GOLD, DAY), (VIEW, None), (FACTS, DAY)):
        ticks.written(key, partition)
    ticks.requested()
    assert ticks.requested() == set()
    return ticks


# --- views


def test_a_view_is_made_first_and_then_what_reads_it(ticks: Ticks) -> None:
    ticks.written(GOLD, DAY)
    assert ticks.requested() == {("view", None)}
    ticks.written(VIEW)
    assert ticks.requested() == {("facts", DAY)}


def test_new_rows_pass_a_view_without_making_it_again(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    assert built.requested() == {("facts", OTHER)}


def test_a_view_that_is_made_again_makes_no_day_again(built: Ticks) -> None:
    built.written(VIEW)
    assert built.requested() == set()


def test_a_view_whose_sql_changed_is_made_again(built: Ticks) -> None:
    built.definitions = definitions(view_version="2")
    assert built.requested() == {("view", None)}


# --- what is behind a bad day


def test_nothing_is_made_behind_a_failed_check_until_it_passes(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    built.checked(passed=False, partition=OTHER)
    assert built.requested() == set()
    assert built.requested() == set()
    built.run(OTHER, OTHER, GOLD)
    assert built.requested() == {("facts", OTHER)}


def test_a_failed_check_of_a_day_holds_up_that_day_alone(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    built.written(GOLD, DAY)
    built.checked(passed=False, partition=OTHER)
    assert built.requested() == {("facts", DAY)}


def test_what_looks_back_on_a_bad_day_is_made_without_it(ticks: Ticks) -> None:
    ticks.written(GOLD, "2013-01-08")
    ticks.written(GOLD, "2013-01-09")
    ticks.checked(passed=False, partition="2013-01-09")
    ticks.written(GOLD, DAY)
    assert ("history", DAY) in ticks.requested(of=(HISTORY,))
    assert ("history", "2013-01-09") not in ticks.requested(of=(HISTORY,))


def test_a_check_that_never_ran_holds_nothing_up(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    assert built.requested() == {("facts", OTHER)}


def test_what_is_optional_holds_nothing_up_and_makes_the_day_again_when_it_comes(built: Ticks) -> None:
    built.written(WEATHER, DAY)
    assert built.requested() == {("facts", DAY)}


# --- changes of code


def test_a_changed_model_is_made_again_for_the_days_that_there_are(built: Ticks) -> None:
    built.definitions = definitions(facts_version="2")
    assert built.requested() == {("facts", DAY)}
    assert built.requested() == set()


def test_a_changed_model_is_not_made_for_a_day_whose_only_run_was_cancelled(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    assert built.requested() == {("facts", OTHER)}
    built.instance.report_run_canceled(built.start(FACTS, OTHER))
    assert built.requested() == set()
    built.definitions = definitions(facts_version="2")
    assert built.requested() == {("facts", DAY)}


def test_a_day_that_was_being_made_when_its_model_changed_is_made_once_more(built: Ticks) -> None:
    run = built.start(FACTS, DAY)
    built.definitions = definitions(facts_version="2")
    assert built.requested() == set(), "it is being made"
    built.end(run, FACTS, DAY)
    assert built.requested() == {("facts", DAY)}
    built.written(FACTS, DAY)
    assert built.requested() == set()
    assert built.requested() == set()


# --- races


def test_a_change_while_a_day_is_being_made_is_not_forgotten(built: Ticks) -> None:
    built.written(GOLD, DAY)
    assert built.requested() == {("facts", DAY)}
    run = built.start(FACTS, DAY)
    built.written(GOLD, DAY)  # corrected, and the run has read the old rows
    assert built.requested() == set(), "it is being made"
    built.end(run, FACTS, DAY)
    assert built.requested() == {("facts", DAY)}


def test_what_somebody_made_from_the_newest_rows_is_not_made_again(built: Ticks) -> None:
    built.run(DAY, OTHER, GOLD)
    built.run(DAY, OTHER, FACTS)
    assert built.requested() == set()


def test_what_one_run_made_all_of_is_not_made_again(built: Ticks) -> None:
    built.run(DAY, OTHER, GOLD, FACTS)
    assert built.requested() == set()


# --- failures


def test_what_failed_is_tried_again_after_2_10_and_60_minutes_and_then_left(built: Ticks) -> None:
    BROKEN.add("facts")
    built.written(GOLD, DAY)
    assert built.requested() == {("facts", DAY)}
    for minutes in (2, 10, 60):
        built.run(DAY, DAY, FACTS)
        assert built.requested() == set()
        assert built.requested(after=timedelta(minutes=minutes, seconds=-10)) == set()
        assert built.requested(after=timedelta(seconds=20)) == {("facts", DAY)}
    built.run(DAY, DAY, FACTS)
    assert built.requested(after=timedelta(days=3)) == set()


def test_what_was_left_is_tried_again_when_something_changes(built: Ticks) -> None:
    test_what_failed_is_tried_again_after_2_10_and_60_minutes_and_then_left(built)
    built.written(GOLD, DAY)
    assert built.requested() == {("facts", DAY)}
    built.run(DAY, DAY, FACTS)
    assert built.requested() == set()
    assert built.requested(after=timedelta(minutes=3)) == {("facts", DAY)}, "its tries are counted anew"


def test_a_cancelled_run_is_not_started_again_but_a_change_is_heard(built: Ticks) -> None:
    built.written(GOLD, DAY)
    assert built.requested() == {("facts", DAY)}
    run = built.start(FACTS, DAY)
    built.instance.report_run_canceled(run)
    assert built.requested(after=timedelta(days=1)) == set()
    built.written(GOLD, DAY)
    assert built.requested() == {("facts", DAY)}


def test_a_backfill_of_400_days_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN.clear()
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")  # a home's log writes 800 events at once
    with dg.DagsterInstance.from_config(str(dagster_home(tmp_path / "home"))) as instance:
        ticks = Ticks(instance)
        ticks.written(VIEW)
        ticks.requested()
        ticks.run("2013-01-01", "2014-02-04", GOLD)
        asked = ticks.requested(of=(FACTS,))
        assert len(asked) == 400
        assert ticks.requested(of=(FACTS,)) == set()
        ticks.run("2013-01-01", "2014-02-04", FACTS)
        assert ticks.requested(of=(FACTS,)) == set()


def test_a_day_that_began_after_the_code_server_is_made_as_well() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(instance)
        today = str(ticks.now.date())
        days = dg.DailyPartitionsDefinition(str(ticks.now.date() - timedelta(days=3)))

        @dg.asset(key=FACTS, deps=[GOLD], partitions_def=days, automation_condition=any_partition())
        def facts() -> None: ...

        ticks.definitions = dg.Definitions([dg.AssetSpec(GOLD, partitions_def=days), facts])
        ticks.written(GOLD, today)
        assert ticks.requested() == set(), "it has not ended"
        assert ticks.requested(after=timedelta(days=1)) == {("facts", today)}


# --- months


MONTHS = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
LEARNT_FROM, MODEL = dg.AssetKey("learnt_from"), dg.AssetKey("model")


@pytest.fixture
def months(ticks: Ticks) -> Ticks:
    """What is learnt from, by month, of a daily table, and a model of the month after: as orchestrator/assets/models.py."""
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
    same = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)

    @dg.asset(
        key=LEARNT_FROM,
        deps=[dg.AssetDep(GOLD, partition_mapping=same)],
        partitions_def=MONTHS,
        automation_condition=any_partition(),
    )
    def learnt_from() -> None: ...

    @dg.asset(
        key=MODEL,
        deps=[dg.AssetDep(LEARNT_FROM, partition_mapping=before)],
        partitions_def=MONTHS,
        automation_condition=any_partition(earlier=[LEARNT_FROM]),
    )
    def model() -> None: ...

    ticks.definitions = dg.Definitions([dg.AssetSpec(GOLD, partitions_def=DAYS), learnt_from, model])
    ticks.requested()
    return ticks


def test_a_month_is_learnt_from_once_when_its_last_day_is_there(months: Ticks) -> None:
    of = (LEARNT_FROM, MODEL)
    for day in range(1, 31):
        months.written(GOLD, f"2013-01-{day:02}")
        assert months.requested(of=of) == set()
    months.written(GOLD, "2013-01-31")
    assert months.requested(of=of) == {("learnt_from", "2013-01-01")}
    assert months.requested(of=of) == set()
    months.written(LEARNT_FROM, "2013-01-01")
    assert months.requested(of=of) == {("model", "2013-02-01")}
    months.written(MODEL, "2013-02-01")
    assert months.requested(of=of) == set()


def test_a_corrected_day_makes_its_month_and_the_next_ones_model_again_once(months: Ticks) -> None:
    of = (LEARNT_FROM, MODEL)
    for number in range(59):
        months.written(GOLD, str(date(2013, 1, 1) + timedelta(days=number)))
    for month in ("2013-01-01", "2013-02-01"):
        months.written(LEARNT_FROM, month)
    for month in ("2013-02-01", "2013-03-01"):
        months.written(MODEL, month)
    assert months.requested(of=of) == set()
    for day in ("2013-01-07", "2013-01-08"):
        months.written(GOLD, day)
    assert months.requested(of=of) == {("learnt_from", "2013-01-01")}
    months.written(LEARNT_FROM, "2013-01-01")
    assert months.requested(of=of) == {("model", "2013-02-01")}
    months.written(MODEL, "2013-02-01")
    assert months.requested(of=of) == set()


# --- what reads the day before

SERVED, PLAN, GUESSES = (dg.AssetKey(name) for name in ("served", "plan", "guesses"))


@pytest.fixture
def guessing(ticks: Ticks) -> Ticks:
    """What is served of each day, and guesses of a day's plan from what was served the day before, as
    orchestrator/assets/models.py; the tenth to the twelfth are there."""
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)

    @dg.asset(key=SERVED, deps=[GOLD], partitions_def=DAYS, automation_condition=any_partition())
    def served() -> None: ...

    @dg.asset(
        key=GUESSES,
        deps=[PLAN, dg.AssetDep(SERVED, partition_mapping=before)],
        partitions_def=DAYS,
        automation_condition=any_partition(earlier=[SERVED]),
    )
    def guesses() -> None: ...

    specs = [dg.AssetSpec(key, partitions_def=DAYS) for key in (GOLD, PLAN)]
    ticks.definitions = dg.Definitions([*specs, served, guesses])
    for key in (GOLD, PLAN, SERVED, GUESSES):
        for day in ("2013-01-10", "2013-01-11", "2013-01-12"):
            ticks.written(key, day)
    assert ticks.requested(of=(SERVED, GUESSES)) == set()
    return ticks


@pytest.mark.parametrize("plan_too", [False, True], ids=["the day before", "the day before and its own plan"])
def test_a_corrected_day_makes_the_guesses_of_the_next_day_again_once(guessing: Ticks, plan_too: bool) -> None:
    of = (SERVED, GUESSES)
    guessing.written(GOLD, "2013-01-10")
    if plan_too:
        guessing.written(PLAN, "2013-01-11")
    assert guessing.requested(of=of) == {("served", "2013-01-10")}
    guessing.written(SERVED, "2013-01-10")
    assert guessing.requested(of=of) == {("guesses", "2013-01-11")}
    guessing.written(GUESSES, "2013-01-11")
    assert guessing.requested(of=of) == set()


# --- what a tick costs


def test_what_dagster_takes_long_to_answer_is_asked_only_of_what_is_due(built: Ticks) -> None:
    costly = {"missing", "run_in_progress", "backfill_in_progress", "will_be_requested"}
    built.requested()
    assert "changed_since_the_last_attempt" in built.asked[FACTS]
    assert not costly & built.asked[FACTS]
    built.written(GOLD, DAY)
    built.requested()
    assert costly <= built.asked[FACTS]


def test_a_tick_without_a_change_has_as_many_queries_for_40_assets_as_for_4_and_reads_no_partition_again() -> None:
    few, many = idle_queries(4), idle_queries(40)
    assert len(many) == len(few) > 0
    assert not [one for one in many if "event_logs.partition" in one]


def test_what_a_deleted_run_made_is_not_there_any_more(ticks: Ticks) -> None:
    graph = ticks.definitions.resolve_asset_graph()
    ticks.run(DAY, DAY, GOLD)
    [deleted] = ticks.instance.get_runs()
    ticks.run(OTHER, OTHER, GOLD)
    assert set(read_records(ticks.instance, graph, [GOLD]).made[GOLD]) == {DAY, OTHER}
    ticks.instance.delete_run(deleted.run_id)
    assert set(read_records(ticks.instance, graph, [GOLD]).made[GOLD]) == {OTHER}


def idle_queries(assets: int) -> list[str]:
    """The statements that Dagster's storage runs for a tick in which nothing has changed, with a chain of so many assets."""
    keys = [dg.AssetKey(f"a{number}") for number in range(assets)]

    def asset_of(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            key=keys[number],
            deps=keys[number - 1 : number] if number else [],
            partitions_def=DAYS,
            automation_condition=any_partition() if number else None,
            code_version="1",
        )
        def made() -> None: ...

        return made

    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(instance)
        ticks.definitions = dg.Definitions([asset_of(number) for number in range(assets)])
        for key in keys:
            ticks.written(key, DAY)
        assert ticks.requested(of=tuple(keys)) == set()
        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert ticks.requested(of=tuple(keys)) == set()
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    return statements
