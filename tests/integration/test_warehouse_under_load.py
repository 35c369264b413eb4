"""Readers during rebuilds, and dbt beside dbt: nobody sees a hole, a double row or an error.

Belongs here: what happens at once on one embedded ClickHouse server. Does not: its protocol, this project's own models.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.dbt_here import plain_dbt_here
from tests.integration.embedded_clickhouse import PASSWORD, Running, running, send

READERS, READS, MONTHS, ROWS = 4, 10_000, 3, 500
VERSION = "uniqExact(version) = 1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("clickhouse") / "data", ASSAY_CLICKHOUSE_MEMORY="1G") as started:
        yield started


def do(server: Running, sql: str, database: str = "default") -> None:
    answer = send(server, sql, f"database={database}")
    assert answer.status == 200, answer.body


def rows_of(month: int, version: int) -> str:
    return f"select toDate('2013-0{month}-01') + number % 28 as day, number, {version} as version from numbers({ROWS})"


def test_ten_thousand_reads_during_rebuilds_see_whole_months_and_no_error(server: Running) -> None:
    # Atomic, as every schema of dbt's is. In the engine's own `default`, replacing a view leaves a hole.
    do(server, "create database rebuilt")
    columns = "(day Date, number UInt32, version UInt32) engine = MergeTree partition by toYYYYMM(day) order by number"
    for name in ("facts", "facts_new", "mart"):
        do(server, f"create table {name} {columns}", "rebuilt")
    for month in range(1, MONTHS + 1):
        do(server, f"insert into facts {rows_of(month, 0)}", "rebuilt")
    do(server, f"insert into mart {rows_of(1, 0)}", "rebuilt")
    do(server, "create view seen as select *, 0 as made from facts", "rebuilt")
    whole_months = "\n".join([f"{ROWS}\t1"] * MONTHS).encode() + b"\n"
    questions = (
        (f"select count(), {VERSION} from facts group by toYYYYMM(day)", whole_months),
        (f"select count(), {VERSION} from mart", b"%d\t1\n" % ROWS),
        ("select count(), uniqExact(made) from seen", b"%d\t1\n" % (ROWS * MONTHS)),
    )
    answers: list[bytes] = []
    asked = itertools.count()
    login = {"Authorization": "Basic " + base64.b64encode(f"assay:{PASSWORD}".encode()).decode()}

    def read() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while (number := next(asked)) < READS:
            sql, right = questions[number % len(questions)]
            connection.request("POST", "/?database=rebuilt", sql, login)
            answer = connection.getresponse().read()
            answers.append(b"right" if answer == right else answer)
        connection.close()

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    rebuilds = 0
    while any(reader.is_alive() for reader in readers):
        rebuilds += 1
        month = rebuilds % MONTHS + 1
        do(server, "truncate table facts_new", "rebuilt")
        do(server, f"insert into facts_new {rows_of(month, rebuilds)}", "rebuilt")
        do(server, f"alter table facts replace partition 20130{month} from facts_new", "rebuilt")
        do(server, f"create table mart_new {columns}", "rebuilt")
        do(server, f"insert into mart_new {rows_of(1, rebuilds)}", "rebuilt")
        do(server, "exchange tables mart and mart_new", "rebuilt")
        do(server, "drop table mart_new sync", "rebuilt")
        do(server, f"create or replace view seen as select *, {rebuilds} as made from facts", "rebuilt")
    for reader in readers:
        reader.join()
    assert Counter(answers) == {b"right": READS}
    assert rebuilds > 20
    print(f"{READS} reads during {rebuilds} rebuilds")


# ---- dbt -------------------------------------------------------------------------------------------------------------

PROJECT = {
    "dbt_project.yml": (
        "name: small\nversion: '1.0.0'\nprofile: small\n"
        "models: {small: {+materialized: table, +persist_docs: {relation: true, columns: true}}}\n"
    ),
    "profiles.yml": """
small:
  target: dev
  outputs:
    dev:
      {type: clickhouse, driver: http, threads: 2, host: 127.0.0.1, schema: "{{ env_var('SCHEMA') }}",
       port: "{{ env_var('PORT') | int }}", user: assay, password: "{{ env_var('CLICKHOUSE_PASSWORD') }}"}
""",
    "seeds/raw.csv": "id,day,value\n1,2013-01-01,10\n2,2013-01-15,20\n3,2013-02-01,30\n4,2013-02-02,40\n",
    "models/plain.sql": "select toUInt32(id) as id, toDate(day) as day, toInt64(value) as value from {{ ref('raw') }}",
    "models/seen.sql": (
        "{{ config(materialized='view') }} select day, sum(value) as total from {{ ref('plain') }} group by day"
    ),
    "models/by_month.sql": (
        "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', "
        "partition_by='toYYYYMM(day)', order_by='id', engine='MergeTree()') }} "
        "select id, day, value from {{ ref('plain') }}{% if is_incremental() %} where toYYYYMM(day) = 201302{% endif %}"
    ),
    "models/by_id.sql": (
        "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id', order_by='id') }} "
        "select id, value from {{ ref('plain') }}{% if is_incremental() %} where id > 2{% endif %}"
    ),
    "models/arrived.sql": "select count() as files from {{ source('own', 'arrivals') }}",
    "models/schema.yml": """
sources:
- name: own
  schema: "{{ env_var('SCHEMA') }}"
  tables:
  - name: arrivals
    config: {loaded_at_field: at, freshness: {error_after: {count: 1, period: day}}}
  - name: late_arrivals
    config: {loaded_at_field: at, freshness: {warn_after: {count: 1, period: day}}}
models:
- name: plain
  description: the rows as they came
  config: {contract: {enforced: true}}
  columns:
  - {name: id, data_type: UInt32, description: who it is, data_tests: [unique, not_null]}
  - {name: day, data_type: Date}
  - {name: value, data_type: Int64}
- name: by_month
  columns: [{name: id, data_tests: [unique, {relationships: {arguments: {to: ref('plain'), field: id}}}]}]
- name: by_id
  columns: [{name: id, data_tests: [unique]}]
unit_tests:
- name: a_day_is_summed
  model: seen
  given: [{input: ref('plain'), rows: [{id: 1, day: 2013-01-01, value: 2}, {id: 2, day: 2013-01-01, value: 3}]}]
  expect: {rows: [{day: 2013-01-01, total: 5}]}
snapshots:
- name: over_time
  relation: ref('raw')
  config: {unique_key: id, strategy: check, check_cols: [value]}
""",
    "tests/nothing_lost.sql": "select 1 from (select count() as c from {{ ref('by_month') }}) where c != 4",
}


def variables(project: Path, server: Running, schema: str) -> dict[str, str]:
    target = str(project / f"target_{schema}")
    return {
        "PORT": str(server.port), "SCHEMA": schema, "CLICKHOUSE_PASSWORD": PASSWORD,
        "DBT_TARGET_PATH": target, "DBT_LOG_PATH": target, "DBT_PROFILES_DIR": str(project),
        "DBT_PROJECT_DIR": str(project), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }  # fmt: skip


def dbt(project: Path, server: Running, schema: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **variables(project, server, schema)}
    command = [Path(sys.executable).with_name("dbt"), *words]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)


def here(project: Path, server: Running, schema: str, *words: str) -> str:
    """The same where nothing runs beside it: without a process of its own."""
    code, output = plain_dbt_here(words, variables(project, server, schema))
    assert code == 0, output[-4000:]
    return output


def done(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-4000:]
    return output


def test_two_dbt_processes_build_side_by_side_and_twice_with_the_same_rows(server: Running, tmp_path: Path) -> None:
    for name, content in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    for schema in ("mine", "yours"):
        do(server, f"create database {schema}")
        for table, age in (("arrivals", 0), ("late_arrivals", 48)):
            at = f"now() - toIntervalHour({age}) as at"
            do(server, f"create table {schema}.{table} engine = MergeTree order by at as select {at}")
    nodes = "PASS=14 WARN=0 ERROR=0 SKIP=0"
    assert nodes in here(tmp_path, server, "mine", "build")
    seed = tmp_path / "seeds" / "raw.csv"
    seed.write_text(seed.read_text().replace("2013-02-02,40", "2013-02-02,41"))
    both = [dbt(tmp_path, server, schema, "build") for schema in ("mine", "yours")]
    for process in both:
        assert nodes in done(process)
    for schema, versions in (("mine", 5), ("yours", 4)):
        for table, rows in (("plain", 4), ("by_month", 4), ("by_id", 4), ("raw", 4)):
            assert send(server, f"select count(), sum(value) from {schema}.{table}").body == b"%d\t101\n" % rows
        assert (
            send(server, f"select sum(total), (select any(files) from {schema}.arrived) from {schema}.seen").body
            == b"101\t1\n"
        )
        history = send(server, f"select count(), countIf(dbt_valid_to is null) from {schema}.over_time").body
        assert history == b"%d\t4\n" % versions
    described = "select comment, (select any(comment) from system.columns where table = 'plain' and name = 'id')"
    assert send(server, f"{described} from system.tables where database = 'yours' and name = 'plain'").body == (
        b"the rows as they came\twho it is\n"
    )
    freshness = here(tmp_path, server, "mine", "source", "freshness")
    assert "PASS freshness of own.arrivals" in freshness and "WARN freshness of own.late_arrivals" in freshness
    assert "Catalog written" in here(tmp_path, server, "yours", "docs", "generate")
