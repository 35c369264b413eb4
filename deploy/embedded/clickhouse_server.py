"""ClickHouse's HTTP interface over the embedded chDB engine, so that unmodified clients need no ClickHouse server.

    CLICKHOUSE_PASSWORD=... python -m deploy.embedded.clickhouse_server --path DIR --port 8123

What belongs here: the HTTP protocol (authentication, parameters, answers, errors' status) and the rule that one process
owns a data directory. What does not: schemas, data, users (clickhouse_users), retries, and anything a client can say in SQL.

How it behaves where it had to choose:
- A body is received whole (on disk beyond 8 MiB) before the engine sees a row: a short body inserts nothing.
- An answer below 1 MiB goes out whole, so that its errors have a status. A longer one is streamed if the engine's blocks
  may simply follow each other in its format; a format with a header or a footer is held whole.
- Answers are compressed only on `enable_http_compression=1` or `compress=1`: on one machine it costs more than it saves.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import email
import fcntl
import json
import os
import re
import signal
import socket
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

import uvicorn

from deploy.embedded import clickhouse_codecs as codecs
from deploy.embedded import clickhouse_engine as engine
from deploy.embedded.clickhouse_codecs import MEBIBYTE
from deploy.embedded.clickhouse_engine import ClickHouseError, Engine, Statement
from deploy.embedded.clickhouse_users import READS, Users, confine

# fmt: off
# Parameters the HTTP interface consumes; every other one is a setting of the query.
NOT_SETTINGS = frozenset((
    "query", "database", "default_format", "session_id", "session_timeout", "session_check", "close_session",
    "query_id", "user", "password", "quota_key", "role", "compress", "decompress", "buffer_size",
    "wait_end_of_query", "client_protocol_version", "stacktrace", "readonly",
))
# Each block the engine streams is encoded by itself: only formats without header and footer may be concatenated.
STREAMABLE = frozenset((
    "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "RowBinary", "JSONEachRow", "JSONCompactEachRow",
))
# exceptionCodeToHTTPStatus of the server; 516 is 401 so that HTTP clients ask for credentials.
HTTP_STATUS = {
    48: 501, 76: 503, 159: 408, 194: 401, 209: 503, 381: 411, 415: 415, 439: 503, 497: 403, 516: 401,
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336, 511), 404),
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 72, 117, 167, 168, 376, 427, 441, 675, 676), 400),
}
CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8", "CSV": "text/csv; charset=UTF-8; header=absent",
    "Tab": "text/tab-separated-values; charset=UTF-8", "TSV": "text/tab-separated-values; charset=UTF-8",
}
# fmt: on
ON = ("1", "true")


class Request:
    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.method, self.path, self.target = scope["method"], scope["path"], scope["query_string"]
        self.params = dict(parse_qsl(self.target.decode(errors="replace"), keep_blank_values=True))
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.query_id = self.params.get("query_id") or str(uuid.uuid4())
        if not (self.query_id.isascii() and self.query_id.isprintable()):  # it becomes a header
            self.query_id = ""

    def asks(self, name: str) -> bool:
        return self.params.get(name) in ON


@dataclasses.dataclass
class Reply:
    payload: bytes = b""
    status: int = 200
    format: str | None = None
    summary: Mapping[str, int] = dataclasses.field(default_factory=dict)
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    more: Generator[bytes] | None = None


class Application:
    """One ASGI application; the engine's work is done in threads, of which a waiting KILL QUERY always gets one."""

    def __init__(self, opened: Engine, users: Users) -> None:
        self.engine, self.users = opened, users
        self.threads = ThreadPoolExecutor(512, "request")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        work = asyncio.get_running_loop().run_in_executor
        request, reply = Request(scope), None
        try:
            reply = self.without_query(request)
            if not reply:
                prefix = self.authenticate(request)
                with codecs.spool() as body:
                    more = True
                    while more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            return  # the body ended early: the engine has seen nothing
                        body.write(message.get("body", b""))
                        more = message.get("more_body", False)
                    reply = await work(self.threads, self.answer, request, body, prefix)
        except ClickHouseError as error:
            reply = failed(error)
        except Exception as error:  # noqa: BLE001  a client gets an answer, whatever it is
            traceback.print_exc()
            reply = failed(ClickHouseError(1002, f"The embedded server failed: {error!r}; its log has more"))
        await send({"type": "http.response.start", "status": reply.status, "headers": self.head(request, reply)})
        await send({"type": "http.response.body", "body": reply.payload, "more_body": reply.more is not None})
        if reply.more is None:
            return
        gone = asyncio.ensure_future(receive())
        try:
            while (block := await work(self.threads, next, reply.more, None)) is not None and not gone.done():
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            with contextlib.suppress(ValueError):  # it runs in its thread yet
                await work(self.threads, reply.more.close)

    def without_query(self, request: Request) -> Reply | None:
        if request.path in ("/ping", "/replicas_status") or (
            request.path == "/" and request.method in ("GET", "HEAD") and not request.target
        ):
            return Reply(b"Ok.\n")
        if request.path not in ("", "/", "/query"):
            return Reply(f"There is no handle {request.path}\n".encode(), 404)
        return None

    def authenticate(self, request: Request) -> str:
        """What the databases that this user may change begin with; empty for the owner."""
        user = request.headers.get("x-clickhouse-user", request.params.get("user", "default"))
        password = request.headers.get("x-clickhouse-key", request.params.get("password", ""))
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(value).decode().partition(":")
            except ValueError:
                user = password = ""  # not base64 of UTF-8: simply wrong
        return self.users.prefix_of(user, password)

    def answer(self, request: Request, received: Any, prefix: str) -> Reply:
        params, headers = request.params, request.headers
        try:
            body = codecs.unpacked(received, headers.get("content-encoding", ""), request.asks("decompress"))
        except codecs.DAMAGED as error:
            raise ClickHouseError(33, f"Cannot read all data: {error}. Nothing was inserted") from error
        if headers.get("content-type", "").startswith("multipart/form-data"):
            params |= form_fields(body.read(), headers["content-type"])
        output = params.get("default_format") or headers.get("x-clickhouse-format")
        first = params.get("query", "").encode().rstrip()
        text = first + b"\n" * bool(first) + body.read(MEBIBYTE)
        if not text.strip():
            raise ClickHouseError(62, "Syntax error: empty query. (SYNTAX_ERROR)")
        statement = Statement(first)
        if not (statement.insert and not statement.insert["how"]):  # INSERT without a format: the body is its data
            statement = Statement(text)
            if not statement.insert:
                statement = Statement(text + body.read())
        else:
            body.seek(0)
        statement.refuse()
        bound = {name[6:]: value for name, value in params.items() if name.startswith("param_")}
        settings = self.settings(request, statement.verb)
        database = params.get("database") or headers.get("x-clickhouse-database")
        if prefix:
            confine(statement, prefix, database)
        with contextlib.ExitStack() as held:
            connection = held.enter_context(self.engine.handle(params, settings, database, statement.verb))
            if statement.insert:
                done = engine.insert(connection, statement, body, output or "Values", bound)
                return Reply(summary={"written_rows": done.rows_written, "written_bytes": done.bytes_written})
            return self.ask(request, connection, statement, statement.format or output or "TabSeparated", bound, held)

    def settings(self, request: Request, verb: str) -> dict[str, str]:
        if not request.query_id:
            raise ClickHouseError(36, "query_id has characters other than printable ASCII. (BAD_ARGUMENTS)")
        if request.params.get("role"):
            raise engine.needs_server("A role")
        settings = {"log_queries": "1"}
        for name, value in request.params.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ClickHouseError(115, f"Unknown setting '{name}'. (UNKNOWN_SETTING)")
            if re.fullmatch(engine.ICEBERG_SETTING, name.upper().encode()):
                raise engine.iceberg_write()
            if name not in NOT_SETTINGS and not name.startswith("param_"):
                settings[name] = value
        settings["log_comment"] = f"query_id={request.query_id}\n{settings.get('log_comment', '')}"
        # The engine is not told: `readonly` would stick to a session's handle for good.
        reads_only = request.method in ("GET", "HEAD") or request.params.get("readonly", "0") != "0"
        if reads_only and verb not in READS | {"SET", "USE"}:
            why = "For queries over HTTP, method GET implies readonly: use POST for modifying queries."
            raise ClickHouseError(164, f"Cannot execute query in readonly mode. {why} (READONLY)")
        return settings

    def ask(
        self, request: Request, connection: Any, statement: Statement, output: str, bound: Mapping[str, str],
        held: contextlib.ExitStack,
    ) -> Reply:  # fmt: skip
        how = ""
        if request.asks("compress") or request.asks("enable_http_compression"):
            how = codecs.chosen(request.headers.get("accept-encoding", ""), request.asks("compress"))
        headers = {"Content-Encoding": how} if how in ("lz4", "gzip") else {}
        whole = request.asks("wait_end_of_query") or "output_format_json_array_of_rows" in request.params
        whole = whole or statement.verb not in ("SELECT", "WITH") or output not in STREAMABLE
        sql = engine.by_either_id(statement.text) if statement.verb == "KILL" else statement.text
        blocks = (engine.whole if whole else engine.stream)(connection, sql, output, bound)
        start, summary = bytearray(), Counter[str]()
        for block in blocks:
            start += block.bytes()
            summary.update(
                read_rows=block.storage_rows_read(), read_bytes=block.storage_bytes_read(),
                written_rows=block.rows_written(), written_bytes=block.bytes_written(),
                result_rows=block.rows_read(), result_bytes=len(block), elapsed_ns=int(block.elapsed() * 1e9),
            )  # fmt: skip
            if len(start) >= MEBIBYTE and not whole:
                headers["X-ClickHouse-Exception-Tag"] = tag = uuid.uuid4().hex[:16]
                more = codecs.packed(streamed(bytes(start), blocks, tag, held.pop_all()), how)
                return Reply(format=output, summary=summary, headers=headers, more=more)
        return Reply(b"".join(codecs.packed([bytes(start)], how)), format=output, summary=summary, headers=headers)

    def head(self, request: Request, reply: Reply) -> list[tuple[bytes, bytes]]:
        prefix = next((prefix for prefix in CONTENT_TYPES if (reply.format or "Tab").startswith(prefix)), "")
        headers = {
            "Content-Type": CONTENT_TYPES.get(prefix, "application/octet-stream"),
            "X-ClickHouse-Server-Display-Name": self.engine.host,
            "X-ClickHouse-Query-Id": request.query_id,
            "X-ClickHouse-Timezone": request.params.get("session_timezone") or self.engine.timezone,
            "X-ClickHouse-Format": reply.format,
            "X-ClickHouse-Summary": json.dumps({name: str(value) for name, value in reply.summary.items()}),
            "Content-Length": None if reply.more else str(len(reply.payload)),
            **reply.headers,
        }
        return [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value is not None]


def streamed(start: bytes, blocks: Generator[Any], tag: str, held: contextlib.ExitStack) -> Iterator[bytes]:
    with held, contextlib.closing(blocks):
        yield start
        try:
            for block in blocks:
                yield block.bytes()
        except ClickHouseError as error:
            # The status is long sent. The server's closing frame tells what happened, and the last chunk stays out.
            text = str(error)
            yield f"\r\n__exception__\r\n{tag}\r\n{text}\n{len(text.encode()) + 1} {tag}\r\n__exception__\r\n".encode()
            raise
    # Only now, with the session free again, the end goes out: the client's next query would find it locked.


def failed(error: ClickHouseError) -> Reply:
    headers = {"X-ClickHouse-Exception-Code": str(error.code)}
    if error.code == 516:
        headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
    return Reply(f"{error}\n".encode(), HTTP_STATUS.get(error.code, 500), headers=headers)


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """Clients move parameters too long for a URL into a form."""
    form = email.message_from_bytes(b"Content-Type: %b\r\n\r\n%b" % (content_type.encode("latin-1"), body))
    fields: dict[str, str] = {}
    for part in form.walk():
        if part.get_filename() is not None:
            raise ClickHouseError(48, "External tables are not implemented here: use a temporary table instead")
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if name and isinstance(content, bytes):
            fields[str(name)] = content.decode()
    return fields


class Server(uvicorn.Server):
    """Told to end, it lets running queries finish for 3 s, then cancels them."""

    def __init__(self, config: uvicorn.Config, opened: Engine) -> None:
        super().__init__(config)
        self.patience = threading.Timer(3, opened.cancel_queries)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if not self.should_exit:
            self.patience.start()
        super().handle_exit(sig, frame)


# ---- one process -----------------------------------------------------------------------------------------------------


def lock(directory: Path) -> BinaryIO:
    """Ours, because the engine refuses a second process with an empty message. Freed by the kernel with the process."""
    file = (directory / "server.pid").open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode().strip()
        raise SystemExit(
            f"clickhouse: {directory} is in use by the server with pid {holder}: stop it or use it"
        ) from None
    file.truncate(0)
    file.write(b"%d\n" % os.getpid())
    file.flush()
    return file


def memory_limit(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)(iB)?", text)
    if not found:
        raise SystemExit(f"clickhouse: ASSAY_CLICKHOUSE_MEMORY is {text!r}; write bytes, or a number with K, M or G")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


def main() -> None:
    arguments = argparse.ArgumentParser(description="ClickHouse's HTTP interface over the embedded engine")
    arguments.add_argument("--path", required=True, help="the data directory; one server at a time")
    arguments.add_argument(
        "--host", default="127.0.0.1", help="the engine can read any file this user can: keep it local"
    )
    arguments.add_argument("--port", type=int, default=8123)
    arguments.add_argument("--users", type=Path, help="a JSON file: user to password and prefix of its databases")
    given = arguments.parse_args()
    user, password = os.environ.get("CLICKHOUSE_USER") or "default", os.environ.get("CLICKHOUSE_PASSWORD")
    if not password:
        raise SystemExit(
            "clickhouse: set CLICKHOUSE_PASSWORD; a server without a password would give every local file away"
        )
    directory = Path(os.path.realpath(given.path))  # the engine compares paths as text
    if "?" in str(directory):
        raise SystemExit(f"clickhouse: {directory} contains '?', which the engine takes for the start of its options")
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["ASSAY_CLICKHOUSE_MEMORY"] = str(memory_limit(os.environ.get("ASSAY_CLICKHOUSE_MEMORY") or "2G"))
    held = lock(directory)  # until the process ends
    os.chdir("/")  # icebergLocal reads only below the working directory (Code 481), whatever user_files_path says
    try:
        opened = Engine(directory)
    except (RuntimeError, ClickHouseError) as error:
        why = "does another program have it open, or is a table in it whose engine needs a server?"
        raise SystemExit(f"clickhouse: the engine cannot open {directory}: {why} ({error})") from error
    try:
        listening = socket.create_server((given.host, given.port), backlog=128)
    except OSError as error:
        opened.close()
        raise SystemExit(f"clickhouse: cannot listen on {given.host}:{given.port}: {error}") from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn takes them over, and sends them once more when it is done
    application = Application(opened, Users(user, password, given.users))
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, server_header=False, log_level="critical",
        timeout_keep_alive=3600, timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = Server(config, opened)
    port = listening.getsockname()[1]
    print(f"clickhouse: ready on http://{given.host}:{port} (chDB {opened.version}, {directory})", flush=True)
    server.run(sockets=[listening])
    server.patience.cancel()
    if not opened.close():
        os._exit(0)  # closing the engine under a query would crash; the directory opens again as after a kill -9
    held.close()


if __name__ == "__main__":
    main()
