"""Which statements a confined user of the embedded ClickHouse may send: those that change nothing but its own databases."""

import json
from pathlib import Path

import pytest

from deploy.embedded.clickhouse_engine import ClickHouseError, Statement
from deploy.embedded.clickhouse_users import Users, confine

OWN = [
    "select * from warehouse.facts",
    "with a as (select 1) select * from a",
    "/* dbt */ create table `pr_42__warehouse`.`t` (a Int8) engine = MergeTree() order by a",
    "create or replace view `pr_42__warehouse`.`v` as select * from `warehouse`.`fct_events`",
    "create table if not exists pr_42__warehouse.t clone as warehouse.facts",
    "create database if not exists `pr_42__x`",
    "insert into pr_42__warehouse.t select * from warehouse.t",
    "insert into pr_42__warehouse.t format CSV 1,2",
    "alter table pr_42__warehouse.t replace partition id '1' from warehouse.t",
    "alter table pr_42__warehouse.t delete where note = 'to table warehouse.t'",
    "rename table pr_42__warehouse.a to pr_42__warehouse.b",
    "exchange tables `pr_42__warehouse`.`a` and `pr_42__warehouse`.`b`",
    "drop table if exists pr_42__warehouse.t sync",
    "drop view if exists `pr_42__lake`.`v`",
    "drop database pr_42__warehouse",
    "truncate table pr_42__warehouse.t",
    "optimize table pr_42__warehouse.t final",
    "delete from pr_42__warehouse.t where a = 1",
    "create temporary table t (a Int8)",
    "set max_threads = 1",
    "kill query where query_id = 'a'",
]
OTHERS = [
    "insert into warehouse.t select 1",
    "insert into `warehouse` . `t` values (1)",
    "insert into t values (1)",
    "insert into function file('a.csv') select 1",
    "with a as (select 1) insert into warehouse.t select * from a",
    "create table warehouse.t (a Int8) engine = Memory",
    "create table pr_42__x.t (a Int8) engine = Buffer(warehouse, t, 1, 1, 1, 1, 1, 1, 1)",
    "create table pr_42__x.t engine Distributed(a, warehouse, t)",
    "create materialized view pr_42__x.v to warehouse.t as select 1",
    "create or replace view lake.gold_event_facts as select 1",
    "create database other",
    "create function f as x -> x",
    "drop table warehouse.t",
    "drop table pr_42__warehouse.t, warehouse.t",
    "drop table if exists t",
    "drop database warehouse",
    "drop/**/database/**/`warehouse`",
    "truncate warehouse.t",
    "truncate all tables from warehouse",
    "truncate database warehouse",
    "detach table warehouse.t",
    "attach table warehouse.t",
    "alter table warehouse.t drop partition 1",
    "alter table pr_42__warehouse.t move partition 1 to table warehouse.t",
    "alter table pr_42__warehouse.t delete where 1, move partition 1 to table warehouse . t",
    "alter database warehouse modify setting a = 1",
    "rename table pr_42__warehouse.a to warehouse.b",
    "rename table pr_42__a.a to pr_42__a.b, warehouse.a to warehouse.b",
    "rename database warehouse to pr_42__warehouse",
    "exchange tables pr_42__warehouse.a and warehouse.a",
    "optimize table warehouse.t",
    "delete from warehouse.t where 1",
    "system drop mark cache",
    "backup database warehouse to disk('a', 'b')",
    "kill mutation where 1",
    "drop table {t:Identifier}",
    "drop table pr_42__warehouse.warehouse.t",
]


@pytest.mark.parametrize("text", OWN)
def test_what_reads_or_changes_only_its_own_databases_passes(text: str) -> None:
    confine(Statement(text.encode()), "pr_42__", None)


@pytest.mark.parametrize("text", OTHERS)
def test_what_changes_anything_else_or_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(ClickHouseError, match="Not enough privileges") as caught:
        confine(Statement(text.encode()), "pr_42__", None)
    assert caught.value.code == 497


@pytest.mark.parametrize("text", [text for text in OWN if "pr_42__" in text and not text.startswith("alter table")])
def test_another_branch_may_not_do_the_same(text: str) -> None:
    with pytest.raises(ClickHouseError, match="begin with pr_4__"):
        confine(Statement(text.encode()), "pr_4__", None)


def test_a_name_without_its_database_is_in_the_requests_own() -> None:
    confine(Statement(b"drop table t"), "pr_42__", "pr_42__warehouse")
    with pytest.raises(ClickHouseError):
        confine(Statement(b"drop table t"), "pr_42__", "warehouse")


def test_the_owner_is_not_confined_and_a_branch_is_known_from_the_moment_it_is_written_down(tmp_path: Path) -> None:
    file = tmp_path / "users"
    users = Users("default", "secret", file)
    assert users.prefix_of("default", "secret") == ""
    with pytest.raises(ClickHouseError, match="AUTHENTICATION_FAILED"):
        users.prefix_of("pr_42", "own")
    file.write_text(json.dumps({"pr_42": ["own", "pr_42__"]}))
    assert users.prefix_of("pr_42", "own") == "pr_42__"


@pytest.mark.parametrize(("user", "password"), [("pr_42", "secret"), ("pr_42", ""), ("default", "own"), ("", "")])
def test_a_password_is_its_users_alone(tmp_path: Path, user: str, password: str) -> None:
    (tmp_path / "users").write_text(json.dumps({"pr_42": ["own", "pr_42__"]}))
    with pytest.raises(ClickHouseError, match="AUTHENTICATION_FAILED"):
        Users("default", "secret", tmp_path / "users").prefix_of(user, password)
