"""A branch's environment on every engine: it reads its base, writes its own tables, and cannot change the base."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from deploy.embedded import programs
from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lake import load_table, local_path, open_catalog
from foundation.settings import Settings, base_settings, branch_record, branch_settings, load
from orchestrator.cli import branch as commands
from orchestrator.cli.engines import Engine, rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.conftest import Assay
from tests.integration.own_feeds import LINEAGE, OwnFeeds, column, day_column

DAY, OTHER_DAY = date(2013, 1, 1), date(2013, 1, 2)
COLUMNS = [column("id", "string", primaryKey=True, required=True), day_column(), column("n", "int")]
NAME = "test-42"
BRANCH, BRANCH_CATALOG, BRANCH_USER = "test_42__", "lake_test_42", "test_42"


def ask(settings: Settings, engine: Engine, statement: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in rows(settings, engine, statement)]


def land_and_make(settings: Settings, contract: Contract, day: date, numbers: list[int]) -> None:
    """A day of a feed, from a file in landing to Silver."""
    text = "id,day,n\n" + "".join(f"{n},{day},{n}\n" for n in numbers)
    OwnFeeds(settings, settings.home).put(contract.feed, f"{day}.csv", text.encode(), day)
    ingest(settings, contract, [day], LINEAGE)
    refine(settings, contract, [day], LINEAGE)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, and the hash of what is in it."""
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()
    }


@pytest.fixture(scope="module")
def contract(stack: Settings, feeds: OwnFeeds, sensors_wait: None) -> Iterator[Contract]:
    """A feed with two days in the base, the first with rows that Trino took out (delete files), and a table of the
    warehouse with a view on it."""
    made = feeds.contract(feeds.name("branched"), COLUMNS)
    land_and_make(stack, made, DAY, [1, 2, 3, 4])
    land_and_make(stack, made, OTHER_DAY, [5, 6])
    ask(stack, "trino", f"delete from lake.silver.{made.feed} where n = 4")
    for statement in (
        "create database if not exists warehouse",
        f"create table warehouse.{made.feed} (n Int32) engine = MergeTree order by n",
        f"insert into warehouse.{made.feed} values (1), (2), (3)",
        f"create view warehouse.v_{made.feed} as select sum(n) as s from warehouse.{made.feed}",
    ):
        ask(stack, "clickhouse", statement)
    yield made
    ask(stack, "clickhouse", f"drop view warehouse.v_{made.feed}")
    ask(stack, "clickhouse", f"drop table warehouse.{made.feed} sync")


@pytest.fixture(scope="module")
def branch(stack: Settings, contract: Contract, assay: Assay) -> Iterator[Settings]:
    """The settings of a branch of the stack, made by the command."""
    made = assay("branch", "create", NAME)
    assert made.returncode == 0, made.stdout + made.stderr
    print(made.stdout)
    seconds = float(re.search(r"ready after ([\d.]+) s", made.stdout)[1])  # pyright: ignore[reportOptionalSubscript]
    assert seconds < 60, "below 5 s on an idle machine"
    kept = dict(os.environ)
    os.environ |= {"ASSAY_ENV": "branch", "ASSAY_BRANCH": NAME, "ASSAY_BASE": str(stack.home)}
    try:
        settings = load()
    finally:
        os.environ.clear()
        os.environ |= kept
    yield settings
    if settings.home.exists():
        commands.drop(stack, NAME, Console())


def test_a_branch_reads_what_its_base_has_on_every_engine(branch: Settings, contract: Contract) -> None:
    own = str(branch.table("silver", contract.feed))
    assert own == f"{BRANCH_CATALOG}.{BRANCH}silver.{contract.feed}"
    for engine in ("trino", "spark"):
        assert ask(branch, engine, f"select n from {own} order by n") == [(1,), (2,), (3,), (5,), (6,)]
        assert ask(branch, engine, f"select count(*) from lake.silver.{contract.feed}") == [(5,)]
    assert ask(branch, "clickhouse", f"select s from {BRANCH}warehouse.v_{contract.feed}") == [(6,)]
    assert ask(branch, "clickhouse", f"select count() from warehouse.{contract.feed}") == [(3,)]
    assert ask(branch, "clickhouse", f"select count() from {BRANCH}lake.silver_{contract.feed}") == [(5,)]


def base_writes(feed: str) -> list[tuple[Engine, str]]:
    return [
        ("trino", f"delete from lake.silver.{feed} where n = 1"),
        ("trino", f"insert into lake.silver.{feed} select * from lake.silver.{feed}"),
        ("trino", f"drop table lake.silver.{feed}"),
        ("trino", "create schema lake.test_42__gold"),
        ("trino", f"create table lake.silver.{feed}_more as select 1 as a"),
        ("trino", "drop catalog lake"),
        ("spark", f"delete from lake.silver.{feed} where n = 1"),
        ("spark", f"drop table lake.silver.{feed} purge"),
        ("spark", "create namespace lake.test_42__gold"),
        ("spark", f"alter table lake.silver.{feed} set tblproperties ('a' = 'b')"),
        ("clickhouse", f"insert into warehouse.{feed} values (9)"),
        ("clickhouse", f"drop table warehouse.{feed}"),
        ("clickhouse", f"alter table warehouse.{feed} delete where 1"),
        ("clickhouse", f"exchange tables warehouse.{feed} and {BRANCH}warehouse.{feed}"),
        ("clickhouse", "create database other"),
    ]


def test_a_write_to_the_base_is_refused_on_every_engine(stack: Settings, branch: Settings, contract: Contract) -> None:
    warehouse = Path(local_path(stack.warehouse_uri)) / "silver" / contract.feed
    before = content(warehouse)
    taken = []
    for engine, statement in base_writes(contract.feed):
        try:
            ask(branch, engine, statement)
            taken.append((engine, statement))
        except AssayError as refused:
            said = refused.what
            assert re.search(r"Access Denied|Not enough privileges|only read|GC is disabled", said), (statement, said)
    assert taken == []
    with pytest.raises(Exception, match="readonly database"):
        open_catalog(base_settings(branch)).drop_table(f"silver.{contract.feed}")
    after = content(warehouse)
    # Spark writes rows before it commits: files may have come, which the base's upkeep takes away; none changed or went.
    assert {file: after.get(file) for file in before} == before
    assert ask(stack, "trino", f"select count(*), sum(n) from lake.silver.{contract.feed}") == [(5, 17)]
    assert ask(stack, "clickhouse", f"select count() from warehouse.{contract.feed}") == [(3,)]


def test_a_branch_builds_a_day_and_the_bases_rows_do_not_change(
    stack: Settings, branch: Settings, contract: Contract
) -> None:
    warehouse = Path(local_path(stack.warehouse_uri))
    before = content(warehouse / "silver" / contract.feed) | content(warehouse / "bronze" / contract.feed)
    land_and_make(branch, contract, OTHER_DAY, [70, 80, 90])
    own = branch.table("silver", contract.feed)
    # The other day is as it was: nothing had to be built again.
    assert ask(branch, "trino", f"select n from {own} order by n") == [(1,), (2,), (3,), (70,), (80,), (90,)]
    assert ask(stack, "trino", f"select n from lake.silver.{contract.feed} order by n") == [
        (n,) for n in (1, 2, 3, 5, 6)
    ]
    assert content(warehouse / "silver" / contract.feed) | content(warehouse / "bronze" / contract.feed) == before


def test_whatever_a_branch_does_to_its_tables_the_bases_files_stay(
    stack: Settings, branch: Settings, contract: Contract
) -> None:
    folders = [Path(local_path(stack.warehouse_uri)) / layer / contract.feed for layer in ("bronze", "silver")]
    before = {file: text for folder in folders for file, text in content(folder).items()}
    silver, bronze = branch.table("silver", contract.feed), branch.table("bronze", contract.feed)
    own = f"{BRANCH}warehouse.{contract.feed}"
    ask(branch, "trino", f"delete from {silver} where n = 1")
    ask(branch, "trino", f"alter table {silver} execute optimize")
    # Trino forgets gc.enabled here; the next statement's asking says it again.
    ask(branch, "trino", f"create or replace table {silver} as select * from lake.silver.{contract.feed}")
    assert "gc.enabled" not in load_table(branch, "silver", contract.feed).properties
    for procedure in ("expire_snapshots", "remove_orphan_files"):
        call = f"call {bronze.catalog}.system.{procedure}(table => '{bronze.in_catalog}', older_than => timestamp "
        with pytest.raises(AssayError, match="GC is disabled"):
            ask(branch, "spark", f"{call} '2013-01-01 00:00:00')")
    ask(branch, "spark", f"insert overwrite {bronze} select * from {bronze} where false")
    ask(branch, "trino", f"drop table {silver}")
    ask(branch, "spark", f"drop table {bronze}")
    ask(branch, "clickhouse", f"alter table {own} delete where n = 1 settings mutations_sync = 2")
    ask(branch, "clickhouse", f"truncate table {own}")
    assert {file: text for folder in folders for file, text in content(folder).items()} == before
    assert ask(stack, "trino", f"select count(*), sum(n) from lake.silver.{contract.feed}") == [(5, 17)]
    assert ask(stack, "clickhouse", f"select sum(n) from warehouse.{contract.feed}") == [(6,)]


def test_services_are_the_bases(stack: Settings, branch: Settings, assay: Assay) -> None:
    said = assay("up", env={"ASSAY_ENV": "branch", "ASSAY_BRANCH": NAME})
    assert said.returncode == 1
    assert str(stack.home) in said.stderr


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_create_that_was_killed_is_repeated(
    stack: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commands.branches, "add_databases", killed)  # the tables are cloned, the catalog may be there
        with pytest.raises(KeyboardInterrupt):
            commands.create(stack, "test-43", Console())
    half = branch_settings(stack, "test-43")
    assert branch_record(half)["state"] == "creating"
    made = commands.create(stack, "test-43", Console())
    try:
        assert ask(made, "trino", f"select count(*) from {made.table('silver', contract.feed)}") == [(5,)]
        assert ask(made, "clickhouse", f"select count() from test_43__warehouse.{contract.feed}") == [(3,)]
    finally:
        commands.drop(stack, "test-43", Console())
    assert not half.home.exists()


def test_a_drop_that_was_killed_is_repeated_and_leaves_nothing(
    stack: Settings, branch: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(branch.mlflow_tracking_uri, branch.mlflow_tracking_uri)
    experiment = f"assay-{branch.environment}"
    own, others = f"{BRANCH}some_model", "test_42_some_model"  # to SQL's `like`, _ is any character
    client.create_registered_model(own)
    client.create_registered_model(others)
    client.create_experiment(experiment)
    warehouse = Path(local_path(stack.warehouse_uri)) / "silver" / contract.feed
    before = content(warehouse)

    remove: Callable[..., None] = commands.branches.remove_databases
    monkeypatch.setattr(commands.branches, "remove_databases", killed)
    with pytest.raises(KeyboardInterrupt):
        commands.drop(stack, NAME, Console())
    assert json.loads((branch.home / "branch.json").read_text())["state"] == "dropping"
    monkeypatch.setattr(commands.branches, "remove_databases", remove)
    commands.drop(stack, NAME, Console())

    assert not branch.home.exists()
    assert (BRANCH_CATALOG,) not in ask(stack, "trino", "show catalogs")
    names = [str(name) for (name,) in ask(stack, "clickhouse", "show databases")]
    assert not [name for name in names if name.startswith(BRANCH)]
    assert own not in (models := {model.name for model in client.search_registered_models()})
    assert others in models
    assert client.get_experiment_by_name(experiment) is None
    assert BRANCH_USER not in programs.clickhouse_users(stack).read_text()
    with pytest.raises(AssayError, match="no branch test-42"):
        commands.drop(stack, NAME, Console())
    assert content(warehouse) == before
    assert ask(stack, "clickhouse", f"select count() from warehouse.{contract.feed}") == [(3,)]
