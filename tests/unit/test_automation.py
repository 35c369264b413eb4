"""Automation on an ephemeral instance: views are made once, tables for the days that changed, nothing behind a failed check."""

from collections.abc import Iterator

import dagster as dg
import pytest

from orchestrator.automation import any_partition, view_condition

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")
GOLD, VIEW, FACTS, WEATHER = (dg.AssetKey(name) for name in ("gold", "view", "facts", "weather"))
DAY, OTHER = "2013-01-10", "2013-01-20"


def definitions(view_version: str = "1") -> dg.Definitions:
    """A daily table, an unpartitioned view of it, and a daily table made of the view: as orchestrator/dbt_graph.py ties them."""

    @dg.asset(key=GOLD, partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("right", asset=GOLD, blocking=True)])
    def gold(): ...

    @dg.asset(key=WEATHER, partitions_def=DAYS)
    def weather() -> None: ...

    @dg.asset(key=VIEW, deps=[GOLD], automation_condition=view_condition(), code_version=view_version)
    def view() -> None: ...

    condition = any_partition(views=[VIEW], optional=[WEATHER])

    @dg.asset(key=FACTS, deps=[GOLD, VIEW, WEATHER], partitions_def=DAYS, automation_condition=condition)
    def facts() -> None: ...

    return dg.Definitions([gold, weather, view, facts])


class Ticks:
    """Evaluates the automation sensor's conditions tick by tick, remembering as its cursor does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor, self.definitions = instance, None, definitions()

    def requested(self) -> set[tuple[str, str | None]]:
        """What one tick requests: (asset, partition)."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            (key.to_user_string(), partition)
            for key in (GOLD, VIEW, FACTS)
            for partition in (result.get_requested_partitions(key) if result.get_num_requested(key) else ())
        }

    def written(self, key: dg.AssetKey, partition: str | None = None) -> None:
        tags = {"dagster/code_version": "1"} if key == VIEW else {}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=tags))

    def checked(self, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=GOLD, check_name="right", passed=passed)
        )


@pytest.fixture
def ticks() -> Iterator[Ticks]:
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


def test_nothing_is_made_behind_a_failed_check_until_it_passes(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    built.checked(passed=False)
    assert built.requested() == set()
    assert built.requested() == set()
    built.checked(passed=True)
    assert built.requested() == {("facts", OTHER)}


def test_what_is_optional_holds_nothing_up_and_makes_the_day_again_when_it_comes(built: Ticks) -> None:
    built.written(WEATHER, DAY)
    assert built.requested() == {("facts", DAY)}


def test_a_check_that_never_ran_holds_nothing_up(built: Ticks) -> None:
    built.written(GOLD, OTHER)
    assert built.requested() == {("facts", OTHER)}
