"""Silver is judged on its branch: what is not as expected is not published, on a real Spark and through Dagster. A mart is
judged as ClickHouse has it."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from foundation.contract import Contract
from foundation.expectation import Expectation
from foundation.lake import load_table
from foundation.settings import Settings, load
from orchestrator.assets.expectations import EXPECTATIONS, judge_table
from orchestrator.assets.lake import lake_assets
from orchestrator.partitions import daily_partitions
from quality.profile import Subject
from quality.suites import BETWEEN
from tests.check_events import evaluations_of
from tests.integration.embedded_clickhouse import PASSWORD, running, send
from tests.integration.own_feeds import OwnFeeds, column, day_column

DAYS = [date(2013, 5, 1) + timedelta(number) for number in range(21)]
USUAL, FEW, FEWER = 50, 3, 40


@pytest.fixture
def contract(feeds: OwnFeeds, sensors_wait: None) -> Contract:
    quality = {
        "type": "custom",
        "engine": "greatExpectations",
        "severity": "warn",
        "implementation": {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "amount", "max_value": 99},
        },
    }
    columns = [
        day_column(),
        column("code", "string", primaryKey=True, classification="pii"),
        column("amount", "int", quality=[quality]),
    ]
    return feeds.contract(feeds.name("judged"), columns)


def deliver(feeds: OwnFeeds, contract: Contract, day: date, rows: int, amount: int = 1) -> None:
    lines = [f"{day},person-{number},{amount}" for number in range(rows)]
    feeds.put(contract.feed, "rows.csv", "\n".join(["day,code,amount", *lines, ""]).encode(), day)


def made(
    settings: Settings, contract: Contract, days: Sequence[date]
) -> tuple[bool, Mapping[str | None, dg.AssetCheckEvaluation], list[str]]:
    """Makes days in one run: whether it succeeded, the verdicts by partition, and what failed steps said."""
    definitions = dg.Definitions(assets=lake_assets(settings, contract, daily_partitions({contract.feed: contract})))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": str(days[0]),
                "dagster/asset_partition_range_end": str(days[-1]),
            },
            raise_on_error=False,
        )
        found = evaluations_of(instance, result, EXPECTATIONS)
    said = [str(one.step_failure_data.user_failure_data) for one in result.all_events if one.is_step_failure]
    return result.success, found, said


def seen(settings: Settings, contract: Contract, day: date) -> int:
    """The rows of a day that readers of Silver see."""
    return load_table(settings, "silver", contract.feed).scan(row_filter=f"day = '{day}'").count()


def test_a_day_that_breaks_an_error_is_not_published_and_its_neighbours_are(
    stack: Settings, feeds: OwnFeeds, contract: Contract
) -> None:
    for day in DAYS[:20]:
        deliver(feeds, contract, day, USUAL)
    success, verdicts, _ = made(stack, contract, DAYS[:20])
    assert success and set(verdicts) == {None, *map(str, DAYS[:20])}
    assert all(one.passed for one in verdicts.values())

    warned, bad, good = DAYS[18:21]
    deliver(feeds, contract, warned, USUAL, amount=100)
    deliver(feeds, contract, bad, FEW)
    deliver(feeds, contract, good, FEWER)
    success, verdicts, said = made(stack, contract, [warned, bad, good])

    assert not success
    assert [seen(stack, contract, day) for day in (warned, bad, good)] == [USUAL, USUAL, FEWER]
    assert "rows_ratio" in said[0] and str(bad) in said[0] and str(good) not in said[0].split("Next")[0]
    assert {day: one.passed for day, one in verdicts.items()} == {
        None: True,  # the table is right: the day was not published
        str(warned): False,
        str(bad): False,
        str(good): True,
    }
    assert verdicts[str(bad)].severity == dg.AssetCheckSeverity.ERROR
    assert verdicts[str(warned)].severity == dg.AssetCheckSeverity.WARN
    assert "audit" not in load_table(stack, "silver", contract.feed).refs()
    pages = list((stack.home / "data_docs" / f"silver.{contract.feed}").glob("*.html"))
    assert pages and not any("person-" in page.read_text() for page in pages)

    deliver(feeds, contract, bad, USUAL + 1)
    success, verdicts, _ = made(stack, contract, [bad])
    assert success and verdicts[str(bad)].passed
    assert seen(stack, contract, bad) == USUAL + 1


def test_a_mart_is_judged_by_month_as_clickhouse_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(
        "warehouse",
        "mart",
        "month",
        "month",
        expectations=(
            Expectation(BETWEEN, {"column": "mean_share", "min_value": 0.3}, "error", "profile"),
            Expectation(BETWEEN, {"column": "late", "max_value": 9}, "warn", "rows"),
        ),
        generated=False,
    )
    with running(tmp_path / "data", ASSAY_CLICKHOUSE_MEMORY="1G") as server:
        for statement in (
            "create database warehouse",
            "create table warehouse.mart (code LowCardinality(String), month Date, share Nullable(Float64), late UInt32) "
            "engine = MergeTree order by month",
            "insert into warehouse.mart values ('a', '2013-01-01', 0.9, 3), ('b', '2013-01-01', null, 10), "
            "('a', '2013-02-01', 0.1, 5)",
        ):
            assert send(server, statement).status == 200
        services = tmp_path / "home" / "services"
        services.mkdir(parents=True)
        (services / "addresses.json").write_text(json.dumps({"clickhouse": server.port}))
        (services / "clickhouse.password").write_text(PASSWORD)
        monkeypatch.setenv("CLICKHOUSE_USER", "assay")
        settings = load(tmp_path / "home")
        months: list[date | None] = [date(2013, 1, 1), date(2013, 2, 1), date(2013, 3, 1)]
        report = judge_table(settings, subject, months)
    assert not report.errored
    assert list(report.refusals()) == [months[1]]
    (warned,) = report.parts[months[0]].failed
    assert warned.found == "1 of 2 rows are not" and warned.samples == ("10",)
    assert report.parts[months[2]].not_judged == 2
