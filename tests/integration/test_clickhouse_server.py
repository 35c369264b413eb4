"""The embedded ClickHouse server, held to what clients that know nothing of it expect of a server."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
import pyarrow as pa
import pytest
import sqlalchemy
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from pyiceberg.catalog.sql import SqlCatalog

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"


class Running(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    path: Path


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: http.client.HTTPMessage


def start(path: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deploy.embedded.clickhouse_server", "--path", str(path), "--port", "0"]
    variables = {**os.environ, "CLICKHOUSE_USER": "assay", "CLICKHOUSE_PASSWORD": PASSWORD, **environment}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def running(path: Path, **environment: str) -> Iterator[Running]:
    process = start(path, **environment)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("clickhouse: ready on http://127.0.0.1:"), process.communicate()[1]
        yield Running(process, int(line.split(" (")[0].rsplit(":", 1)[1]), path)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("clickhouse") / "data", ASSAY_CLICKHOUSE_MEMORY="1G") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with connect(server) as connected:
        yield connected


def connect(server: Running, **options: Any) -> Any:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=server.port, username="assay", password=PASSWORD, **options
    )


def send(server: Running, sql: str | bytes = b"", parameters: str = "", method: str = "POST", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    login = "Basic " + base64.b64encode(f"assay:{PASSWORD}".encode()).decode()
    sent = {"Authorization": login} | {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, f"/?{parameters}", sql or None, {k: v for k, v in sent.items() if v})
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)


# ---- the protocol, as curl speaks it ---------------------------------------------------------------------------------


def test_a_select_answers_with_the_headers_of_a_server(server: Running) -> None:
    answer = send(server, "SELECT 1 AS a, 'x' AS b FORMAT JSONEachRow", "query_id=mine")
    assert (answer.status, answer.body) == (200, b'{"a":1,"b":"x"}\n')
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert answer.headers["X-ClickHouse-Timezone"]
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["result_rows"] == "1"


def test_the_format_comes_from_the_statement_then_the_parameter_then_the_header(server: Running) -> None:
    assert send(server, "SELECT 1 AS a FORMAT CSV", "default_format=JSONEachRow").body == b"1\n"
    assert send(server, "SELECT 1 AS a", "default_format=JSONEachRow").body == b'{"a":1}\n'
    assert send(server, "SELECT 1 AS a", X_ClickHouse_Format="CSVWithNames").body == b'"a"\n1\n'
    assert send(server, "EXISTS TABLE system.one", "default_format=JSONEachRow").body == b'{"result":1}\n'


def test_parameters_reach_the_statement_and_settings_end_with_the_request(server: Running) -> None:
    asked = "SELECT {n:UInt8} + 1, {s:String}, getSetting('max_block_size')"
    assert send(server, asked, "param_n=41&param_s=a%27b&max_block_size=7").body == b"42\ta\\'b\t7\n"
    assert send(server, "SELECT getSetting('max_block_size')").body != b"7\n"
    assert send(server, "SELECT 1", "no_such_setting=1").status == 404


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("", bytes)])
def test_a_body_may_be_compressed(server: Running, encoding: str, pack: Any) -> None:
    send(server, "CREATE OR REPLACE TABLE packed (a Int32, b String) ORDER BY a")
    rows = b"".join(b"%d,row %d\n" % (n, n) for n in range(1000))
    answer = send(server, pack(rows), "query=INSERT+INTO+packed+FORMAT+CSV", Content_Encoding=encoding)
    assert (answer.status, json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"]) == (200, "1000")
    assert send(server, "SELECT count(), max(b) FROM packed").body == b"1000\trow 999\n"


def test_a_body_may_use_the_framing_of_clickhouse_itself(server: Running) -> None:
    data = b"SELECT 'framed'"
    frame = bytes(16) + b"\x02" + (9 + len(data)).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data
    assert send(server, frame, "decompress=1").body == b"framed\n"


def test_an_answer_is_compressed_when_asked_for(server: Running) -> None:
    asked = "SELECT number FROM numbers(400000)"
    plain = send(server, asked).body
    packed = send(server, asked, "enable_http_compression=1", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(plain) and gzip.decompress(packed.body) == plain


def test_a_large_body_is_read_to_its_end_wherever_the_data_begins(server: Running) -> None:
    send(server, "CREATE OR REPLACE TABLE large (a UInt32, b String) ORDER BY a")
    rows = b"".join(b"(%d,'semi;colon -- no comment')," % n for n in range(100_000))
    assert send(server, b"INSERT INTO large VALUES " + rows[:-1]).status == 200
    assert send(server, "SELECT count() FROM large").body == b"100000\n"
    long = b"SELECT length('" + b"x" * (3 << 20) + b"')"
    assert send(server, long, "max_query_size=10000000").body == b"%d\n" % (3 << 20)


def test_a_short_body_inserts_nothing(server: Running) -> None:
    send(server, "CREATE OR REPLACE TABLE short (a UInt32) ORDER BY a")
    login = base64.b64encode(f"assay:{PASSWORD}".encode())
    start_line = b"POST /?query=INSERT+INTO+short+FORMAT+TSV HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + login
    for framing in (b"Content-Length: 100\r\n\r\n1\n2\n3\n", b"Transfer-Encoding: chunked\r\n\r\n6\r\n1\n2\n3\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(start_line + b"\r\n" + framing)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.makefile("rb").read()
        assert b" 500 " in answer.splitlines()[0] and b"Nothing was inserted" in answer
    assert send(server, "SELECT count() FROM short").body == b"0\n"
    packed = gzip.compress(b"1\n2\n" * 1000)[:-20]
    assert send(server, packed, "query=INSERT+INTO+short+FORMAT+TSV", Content_Encoding="gzip").status == 500
    assert send(server, "SELECT count() FROM short").body == b"0\n"


def test_an_error_has_the_code_and_status_of_a_server(server: Running) -> None:
    for sql, code, status in (
        ("SELECT * FROM nowhere", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT 'open", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        (
            "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1 SETTINGS max_execution_time = 1",
            159,
            408,
        ),
    ):
        answer = send(server, sql)
        assert (answer.headers["X-ClickHouse-Exception-Code"], answer.status) == (str(code), status), sql
        assert answer.body.startswith(b"Code: %d. DB::Exception: " % code)


def test_a_get_cannot_write(server: Running) -> None:
    for session in ("", "&session_id=reader"):
        refused = send(server, parameters="query=CREATE+DATABASE+sneaked" + session, method="GET")
        assert (refused.status, refused.headers["X-ClickHouse-Exception-Code"]) == (500, "164")
        assert send(server, parameters="query=SELECT+1" + session, method="GET").body == b"1\n"


def test_only_the_right_password_is_let_in_and_only_ping_needs_none(server: Running) -> None:
    wrong = base64.b64encode(b"assay:wrong").decode()
    for headers, parameters in (
        ({"Authorization": f"Basic {wrong}"}, ""),
        ({"Authorization": "", "X_ClickHouse_User": "assay", "X_ClickHouse_Key": "wrong"}, ""),
        ({"Authorization": ""}, "user=assay&password=wrong"),
        ({"Authorization": ""}, "user=default&password=correct+horse"),
        ({"Authorization": "Basic ???"}, ""),
        ({"Authorization": ""}, ""),
    ):
        answer = send(server, "SELECT 1", parameters, **headers)
        assert answer.status == 401 and answer.body.startswith(b"Code: 516. DB::Exception: ")
    assert send(server, "SELECT 1", "user=assay&password=correct+horse", Authorization="").body == b"1\n"
    right = {"X_ClickHouse_User": "assay", "X_ClickHouse_Key": PASSWORD}
    assert send(server, "SELECT 1", Authorization="", **right).body == b"1\n"
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for path in ("/ping", "/replicas_status"):
        connection.request("GET", path)
        assert connection.getresponse().read() == b"Ok.\n"
    connection.close()


def test_a_connection_is_kept_for_the_next_request(server: Running) -> None:
    login = "Basic " + base64.b64encode(f"assay:{PASSWORD}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.connect()
    first, began = connection.sock, time.monotonic()
    for number in range(50):
        connection.request("POST", "/", f"SELECT {number}", {"Authorization": login})
        assert connection.getresponse().read() == b"%d\n" % number
        assert connection.sock is first
    connection.close()
    assert time.monotonic() - began < 2  # 50 x 40 ms is what Nagle's algorithm would cost


# ---- what the embedded engine must not be asked ----------------------------------------------------------------------

NEEDS_SERVER = [
    "CREATE TABLE t (a Int32) ENGINE = Kafka('h:9092', 't', 'g', 'CSV')",
    "CREATE TABLE t (a Int32) /* x */ engine\n=\n-- y\n`Kafka`()",
    "CREATE TABLE t (a Int32) ENGINE RabbitMQ",
    "CREATE TABLE t (a Int32) ENGINE = NATS",
    "CREATE TABLE t (a Int32) ENGINE = ReplicatedMergeTree('/t', 'r') ORDER BY a",
    "CREATE DATABASE d ENGINE = Replicated('/d', 's', 'r')",
    "CREATE TABLE t (a Int32) ENGINE = KeeperMap('/t') PRIMARY KEY a",
    "INSERT INTO t SELECT * FROM input('a Int32') FORMAT CSV\n1",
    "CREATE USER someone",
    "CREATE OR REPLACE ROLE someone",
    "ALTER USER someone",
    "DROP QUOTA q",
    "CREATE ROW POLICY p ON t",
    "CREATE SETTINGS PROFILE p",
    "GRANT SELECT ON t TO someone",
    "/* c */ REVOKE SELECT ON t FROM someone",
]


@pytest.mark.parametrize("sql", NEEDS_SERVER)
def test_what_needs_a_server_is_refused_and_says_how_to_connect_one(server: Running, sql: str) -> None:
    answer = send(server, sql)
    assert answer.status == 501
    assert answer.body.startswith(b"Code: 48. DB::Exception: ")
    assert b"needs a ClickHouse server" in answer.body and b"Set CLICKHOUSE_HOST" in answer.body


def test_an_iceberg_write_is_refused_and_says_what_to_write_it_with(server: Running) -> None:
    for sql, parameters in (
        ("INSERT INTO FUNCTION icebergLocal('/x') SELECT 1", ""),
        ("INSERT INTO TABLE FUNCTION icebergS3('/x') VALUES (1)", ""),
        ("INSERT INTO t SETTINGS allow_insert_into_iceberg = 1 SELECT 1", ""),
        ("INSERT INTO t SELECT 1", "allow_experimental_insert_into_iceberg=1"),
    ):
        answer = send(server, sql, parameters)
        assert answer.status == 501 and b"Write it with Spark, Trino or PyIceberg" in answer.body, sql


def test_words_in_comments_strings_and_names_are_not_refused(server: Running) -> None:
    assert send(server, "SELECT 'ENGINE = Kafka', $x$ENGINE = Kafka; GRANT$x$ -- ENGINE = Kafka; REVOKE").status == 200
    assert (
        send(server, "CREATE OR REPLACE TABLE `input` (`grant` Int32 /* ENGINE = NATS */) ORDER BY tuple()").status
        == 200
    )
    assert send(server, "INSERT INTO input (`grant`) VALUES (1)").status == 200
    assert send(server, "SELECT engine, kafka_rows FROM (SELECT 1 AS engine, 2 AS kafka_rows)").body == b"1\t2\n"
    for name in ("values", "format"):
        send(server, f"CREATE OR REPLACE TABLE default.{name} (a Int32) ORDER BY a")
        assert send(server, f"INSERT INTO default.{name} VALUES (1), (2)").status == 200
        assert send(server, f"INSERT INTO default.{name} FORMAT CSV\n3\n").status == 200
        assert send(server, f"SELECT count() FROM default.{name}").body == b"3\n"
    assert send(server, "SELECT 'it''s \\' ; ENGINE = Kafka', engine FROM system.tables LIMIT 1").status == 200


def test_the_longest_open_quote_takes_no_time(server: Running) -> None:
    for text in (b"SELECT '" + b"\\'" * 500_000, b"SELECT " + b"$a" * 200_000, b"/*" * 500_000, b"`" * 999_999):
        began = time.monotonic()
        assert send(server, text).status == 400
        assert time.monotonic() - began < 3


# ---- clients ---------------------------------------------------------------------------------------------------------


def test_clickhouse_connect_inserts_and_reads_back(client: Any) -> None:
    client.command("CREATE OR REPLACE TABLE people (id UInt32, name String, at DateTime64(3)) ORDER BY id")
    rows = [[n, f"name {n}", 1_700_000_000_000 + n] for n in range(5000)]
    assert client.insert("people", rows, column_names=["id", "name", "at"]).written_rows == 5000
    read = client.query("SELECT id, name FROM people WHERE id >= {low:UInt32} ORDER BY id", parameters={"low": 4998})
    assert read.result_rows == [(4998, "name 4998"), (4999, "name 4999")]
    assert client.query("SELECT * FROM people WHERE 0").result_rows == []
    assert client.command("EXISTS TABLE people") == 1
    client.insert_arrow(
        "people",
        pa.table({"id": pa.array([7], pa.uint32()), "name": ["arrow"], "at": pa.array([0], pa.timestamp("ms"))}),
    )
    assert client.query_arrow("SELECT name FROM people WHERE name = 'arrow'").num_rows == 1
    longer = "x" * 50_000  # too long for a URL: the client sends a form
    assert client.query("SELECT length({s:String})", parameters={"s": longer}).result_rows == [(50_000,)]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_clickhouse_connect_compresses_as_it_likes(server: Running, compress: Any) -> None:
    with connect(server, compress=compress, settings={"enable_http_compression": 1}) as client:
        client.command("CREATE OR REPLACE TABLE compressed (id UInt32, text String) ORDER BY id")
        client.insert("compressed", [[n, f"text {n}"] for n in range(100_000)], column_names=["id", "text"])
        with client.query_row_block_stream("SELECT * FROM compressed ORDER BY id") as blocks:
            assert sum(len(block) for block in blocks) == 100_000


def test_a_stream_that_breaks_is_an_error_and_not_a_short_result(client: Any) -> None:
    with (
        pytest.raises(StreamFailureError, match="non-zero"),
        client.query_row_block_stream("SELECT number, throwIf(number = 2000000) FROM numbers(3000000)") as blocks,
    ):
        for _ in blocks:
            pass
    with client.query_row_block_stream("SELECT number FROM numbers(3000000)") as blocks:
        assert sum(len(block) for block in blocks) == 3_000_000
    assert client.command("SELECT 1") == 1  # the session is free as soon as its stream has ended


def test_a_session_keeps_what_set_and_use_said_and_nothing_else(server: Running) -> None:
    with connect(server, session_id="kept") as client:
        client.command("CREATE DATABASE IF NOT EXISTS other")
        client.command("CREATE TEMPORARY TABLE mine (a Int32)")
        client.command("INSERT INTO mine VALUES (1), (2)")
        client.command("SET max_block_size = 11")
        asked = "SELECT getSetting('max_block_size'), count() FROM mine"
        assert client.query(asked, settings={"max_block_size": 12}).result_rows == [(12, 2)]
        assert client.query(asked, settings={"readonly": "1"}).result_rows == [(11, 2)]
        client.command("INSERT INTO mine VALUES (3)")
        assert client.query(asked).result_rows == [(11, 3)]
        client.command("USE other")
        assert client.query("SELECT currentDatabase()").result_rows == [("other",)]
    with connect(server) as another, pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        another.query("SELECT * FROM mine")
    assert (
        send(server, "SELECT 1", "session_id=unknown&session_check=1").headers["X-ClickHouse-Exception-Code"] == "372"
    )


def test_a_session_serves_one_request_at_a_time_and_expires(server: Running) -> None:
    def slow() -> None:
        send(server, "SELECT sleep(1)", "session_id=busy&session_timeout=1")

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.3)
    locked = send(server, "SELECT 1", "session_id=busy")
    thread.join()
    assert locked.headers["X-ClickHouse-Exception-Code"] == "373"
    assert send(server, "SELECT 1", "session_id=busy&session_check=1&session_timeout=1").body == b"1\n"
    time.sleep(2)
    assert send(server, "SELECT 1", "session_id=busy&session_check=1").headers["X-ClickHouse-Exception-Code"] == "372"


def test_sqlalchemy_reads_typed_rows(server: Running) -> None:
    url = sqlalchemy.URL.create("clickhouse+http", "assay", PASSWORD, "127.0.0.1", server.port, "default")
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT number, toString(number) AS s FROM numbers(3)")).fetchall()
    engine.dispose()
    assert [tuple(row) for row in rows] == [(0, "0"), (1, "1"), (2, "2")]


def test_a_query_is_found_in_the_log_and_killed_by_the_clients_query_id(server: Running) -> None:
    answers: list[Answer] = []
    sql = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    thread = threading.Thread(target=lambda: answers.append(send(server, sql, "query_id=endless")))
    thread.start()
    time.sleep(0.5)
    assert b"finished" in send(server, "KILL QUERY WHERE Settings['log_comment'] = 'endless' SYNC").body
    thread.join(10)
    assert answers[0].headers["X-ClickHouse-Exception-Code"] == "394"
    send(server, "SYSTEM FLUSH LOGS")
    logged = send(server, "SELECT count() FROM system.query_log WHERE log_comment = 'endless' AND exception_code = 394")
    assert logged.body == b"1\n"


def test_memory_is_capped(server: Running) -> None:
    asked = send(server, "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'")
    assert asked.body == b"%d\n" % (1 << 30)
    too_much = send(server, "SELECT groupArray(number) FROM numbers(1000000000) FORMAT Null")
    assert too_much.headers["X-ClickHouse-Exception-Code"] == "241"
    assert send(server, "SELECT 1").body == b"1\n"


def test_readers_see_no_error_while_tables_are_exchanged(server: Running) -> None:
    for name in ("live", "next"):
        send(server, f"CREATE OR REPLACE TABLE {name} (a UInt32) ORDER BY a AS SELECT number FROM numbers(50)")
    done, counts = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            answer = send(server, "SELECT count() FROM live")
            counts.append(answer.body)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(40):
        assert send(server, "EXCHANGE TABLES live AND next").status == 200
    done.set()
    for reader in readers:
        reader.join()
    assert len(counts) > 20 and set(counts) == {b"50\n"}


def test_an_iceberg_table_is_read_at_the_snapshot_its_catalog_names(server: Running, tmp_path: Path) -> None:
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("silver")
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]})
    table = catalog.create_table("silver.things", rows.schema)
    table.append(rows)
    pinned = Path(table.metadata_location.removeprefix("file://"))
    table.append(rows)
    source = f"icebergLocal('{pinned.parents[1]}', settings iceberg_metadata_file_path='metadata/{pinned.name}')"
    assert send(server, f"SELECT count(), max(name) FROM {source}").body == b"3\tc\n"
    assert send(server, f"CREATE OR REPLACE VIEW things AS SELECT * FROM {source}").status == 200
    assert send(server, "SELECT sum(id) FROM things").body == b"6\n"
    assert (
        send(server, "CREATE OR REPLACE TABLE loaded ORDER BY id AS SELECT assumeNotNull(id) AS id FROM things").status
        == 200
    )
    assert send(server, "SELECT count() FROM loaded").body == b"3\n"


# ---- one process, one directory --------------------------------------------------------------------------------------


def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path, CLICKHOUSE_PASSWORD="")
    _, errors = process.communicate(timeout=30)
    assert process.returncode and "CLICKHOUSE_PASSWORD" in errors


def test_a_second_server_on_the_directory_is_refused_and_told_who_holds_it(server: Running, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(server.path)
    process = start(tmp_path / "link")
    _, errors = process.communicate(timeout=30)
    assert process.returncode
    assert str(server.path) in errors and f"pid {server.process.pid}" in errors
    assert send(server, "SELECT 1").body == b"1\n"


def test_acknowledged_rows_survive_kill_dash_nine(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        send(first, "CREATE TABLE kept (a UInt32) ORDER BY a")
        acknowledged = [0]

        def write() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # the kill ends one request somewhere
                while send(first, f"INSERT INTO kept VALUES ({acknowledged[0]})").status == 200:
                    acknowledged[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(1)
        first.process.kill()
        first.process.wait()
        writer.join()
    with running(tmp_path) as second:
        assert acknowledged[0] > 10
        kept = int(send(second, "SELECT uniqExact(a) FROM kept").body)
        assert acknowledged[0] <= kept <= acknowledged[0] + 1


def test_sigterm_cancels_what_runs_and_exits_with_zero_in_time(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        answers: list[Answer] = []
        sql = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
        thread = threading.Thread(target=lambda: answers.append(send(started, sql)))
        idle = socket.create_connection(("127.0.0.1", started.port))
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=15) == 0
        assert time.monotonic() - began < 7
        thread.join()
        idle.close()
        assert answers[0].headers["X-ClickHouse-Exception-Code"] == "394"


def test_a_client_that_does_not_read_its_answer_cannot_hold_up_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as started, socket.create_connection(("127.0.0.1", started.port)) as raw:
        login = base64.b64encode(f"assay:{PASSWORD}".encode())
        sql = b"SELECT number FROM numbers(5000000000000)"
        raw.sendall(
            b"POST / HTTP/1.1\r\nAuthorization: Basic %b\r\nContent-Length: %d\r\n\r\n%b" % (login, len(sql), sql)
        )
        assert raw.recv(12) == b"HTTP/1.1 200"
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=15) == 0


def test_the_password_is_nowhere_in_output_or_arguments(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout
    line = process.stdout.readline()
    started = Running(process, int(line.split(" (")[0].rsplit(":", 1)[1]), tmp_path)
    send(started, "SELECT 1", "user=assay&password=correct+horse", Authorization="")
    send(started, "SELECT nonsense", "user=assay&password=correct+horse", Authorization="")
    arguments = subprocess.run(
        ["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout
    process.terminate()
    output, errors = process.communicate(timeout=30)
    assert "horse" not in line + output + errors + arguments


# ---- dbt -------------------------------------------------------------------------------------------------------------

DBT_PROJECT = {
    "dbt_project.yml": "name: small\nversion: '1.0.0'\nprofile: small\nmodels: {small: {+materialized: table}}\n",
    "profiles.yml": (
        "small: {target: dev, outputs: {dev: {type: clickhouse, driver: http, schema: small, threads: 2, "
        "host: 127.0.0.1, port: \"{{ env_var('PORT') | int }}\", user: \"{{ env_var('CLICKHOUSE_USER') }}\", "
        "password: \"{{ env_var('CLICKHOUSE_PASSWORD') }}\"}}}\n"
    ),
    "seeds/raw.csv": "id,day,value\n1,2013-01-01,10\n2,2013-01-15,20\n3,2013-02-01,30\n4,2013-02-02,40\n",
    "models/plain.sql": "select id, toDate(day) as day, value from {{ ref('raw') }}",
    "models/seen.sql": "{{ config(materialized='view') }} select day, sum(value) as total from {{ ref('plain') }} group by day",
    "models/by_month.sql": (
        "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', "
        "partition_by='toYYYYMM(day)', order_by='id', engine='MergeTree()') }} select id, day, value from {{ ref('plain') }}"
        "{% if is_incremental() %} where toYYYYMM(day) = 201302{% endif %}"
    ),
    "models/by_id.sql": (
        "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id', order_by='id') }} "
        "select id, value from {{ ref('plain') }}{% if is_incremental() %} where id > 2{% endif %}"
    ),
    "models/schema.yml": (
        "models:\n- name: plain\n  description: the rows\n  columns:\n  - name: id\n    data_tests: [unique, not_null]\n"
        "- name: by_month\n  columns:\n  - name: id\n    data_tests: [unique]\n"
        "- name: by_id\n  columns:\n  - name: id\n    data_tests: [unique]\n"
    ),
    "tests/nothing_lost.sql": "select 1 from (select count() as c from {{ ref('by_month') }}) where c != 4",
}


def test_dbt_builds_a_project_twice_with_the_same_rows(server: Running, tmp_path: Path) -> None:
    assert importlib.metadata.version("dbt-clickhouse")
    for name, content in DBT_PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    variables = {
        **os.environ, "PORT": str(server.port), "CLICKHOUSE_USER": "assay", "CLICKHOUSE_PASSWORD": PASSWORD,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }  # fmt: skip
    for _ in range(2):
        build = subprocess.run(
            [Path(sys.executable).with_name("dbt"), "build", "--profiles-dir", "."],
            cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert build.returncode == 0, build.stdout[-3000:]
        assert "PASS=10 WARN=0 ERROR=0" in build.stdout
        for table, rows, total in (("plain", 4, 100), ("by_month", 4, 100), ("by_id", 4, 100)):
            assert send(server, f"SELECT count(), sum(value) FROM small.{table}").body == b"%d\t%d\n" % (rows, total)
        assert send(server, "SELECT sum(total) FROM small.seen").body == b"100\n"
