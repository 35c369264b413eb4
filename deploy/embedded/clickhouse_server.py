"""ClickHouse's HTTP interface over the embedded chDB engine, so that unmodified clients need no ClickHouse server.

    CLICKHOUSE_PASSWORD=... python -m deploy.embedded.clickhouse_server --path DIR --port 8123

What belongs here: the HTTP protocol (authentication, parameters, sessions, compression, errors), the rule that one
process owns a data directory, and the refusal of what the embedded engine cannot do or is damaged by.
What does not: schemas, data, users, retries, and anything a client can say in SQL.

How it behaves where it had to choose:
- A request without a session gets an engine handle of its own; a session is one handle kept between requests. `SET`,
  `USE` and temporary tables live in the handle, so clients do not see each other's.
- A body is received whole (on disk beyond 8 MiB) before the engine sees a row: a short body inserts nothing.
- The engine names its own queries; the client's query id is kept in `log_comment`
  (`KILL QUERY WHERE Settings['log_comment'] = '<query id>'`).
- Responses are compressed only on `enable_http_compression=1`: on one machine compressing costs more than it saves.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import email
import fcntl
import hmac
import http.client
import importlib
import io
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from email.message import Message
from gzip import GzipFile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import chdb
from chdb.state.sqlitelike import Connection, StreamingResult

# Parameters the HTTP interface consumes; every other one is a setting of the query.
# fmt: off
NOT_SETTINGS = frozenset((
    "query", "database", "default_format", "session_id", "session_timeout", "session_check", "close_session",
    "query_id", "user", "password", "quota_key", "role", "compress", "decompress", "buffer_size",
    "wait_end_of_query", "client_protocol_version", "stacktrace",
))
READS = frozenset(("SELECT", "WITH", "FROM", "VALUES", "SHOW", "DESC", "DESCRIBE", "EXISTS", "EXPLAIN", "CHECK", "("))
# Each block the engine streams is encoded by itself: only formats without header and footer may be concatenated.
STREAMABLE = frozenset((
    "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "RowBinary", "JSONEachRow", "JSONCompactEachRow",
))
SERVER_ENGINES = ("KAFKA", "RABBITMQ", "NATS", "KEEPERMAP", "S3QUEUE", "AZUREQUEUE", "REPLICATED")
ACCESS = frozenset(("USER", "ROLE", "QUOTA", "ROW", "POLICY", "MASKING", "SETTINGS", "PROFILE"))
ICEBERG_WRITES = frozenset(("ALLOW_INSERT_INTO_ICEBERG", "ALLOW_EXPERIMENTAL_INSERT_INTO_ICEBERG"))
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
MEBIBYTE = 1 << 20
LAST_CHUNK = b"0\r\n\r\n"
# A list of numbers decides nothing: skipped as one, 200,000 of them cost 6 ms instead of 2.4 s.
TOKEN = re.compile(
    rb"(?P<skip>[\s\0]+|\d[\d\s.,]*|--[^\n]*|#[ !][^\n]*)|(?P<word>[A-Za-z_]\w*)|(?P<open>/\*|'|\"|`|\$\w*\$)|(?P<mark>.)",
    re.DOTALL,
)
DATA_GAP = re.compile(rb";?[ \t\f]*\r?\n?")  # between an INSERT's format and its data
QUOTE_END = {quote: re.compile(rb"[\\" + quote + rb"]") for quote in (b"'", b'"', b"`")}


def optional_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


LZ4, LZ4_BLOCK, ZSTD = (optional_module(name) for name in ("lz4.frame", "lz4.block", "backports.zstd"))
DAMAGED = (OSError, EOFError, RuntimeError, zlib.error, *((ZSTD.ZstdError,) if ZSTD else ()))


class ClickHouseError(Exception):
    """An error in the server's wording: `Code: N. DB::Exception: text`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {text}")
        self.code = code


class Unclosed(ClickHouseError):
    """A quote, comment or heredoc without its end."""


def engine_error(error: Exception) -> ClickHouseError:
    """The engine reports in the server's words, behind a prefix of its Python wrapper."""
    code, _, text = str(error).partition("Code: ")[2].partition(". DB::Exception: ")
    return ClickHouseError(int(code), text.rstrip()) if code.isdigit() else ClickHouseError(1002, str(error))


def needs_server(what: str) -> ClickHouseError:
    return ClickHouseError(
        48,
        f"{what} needs a ClickHouse server; the embedded engine cannot do it. Set CLICKHOUSE_HOST (and "
        "CLICKHOUSE_PORT, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD) to connect one.",
    )


# ---- statements ----------------------------------------------------------------------------------------------------


class Token(NamedTuple):
    """A word in capitals, a quoted name in capitals behind a backtick, a mark, or ' for a string."""

    text: str
    depth: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Statement:
    verb: str
    format: str | None
    insert_end: int | None = None  # an INSERT with its data inline: where the statement ends ...
    data_start: int = 0  # ... and where the data begins


def tokens(text: bytes) -> Iterator[Token]:
    """Every byte is looked at a fixed number of times: no input can hold the interpreter lock for long."""
    at = depth = 0
    while at < len(text):
        found = cast(re.Match[bytes], TOKEN.match(text, at))
        start, at, kind, raw = at, found.end(), found.lastgroup, found.group()
        if kind == "skip":
            continue
        token = raw.decode("latin-1").upper()
        if kind == "open":
            at = end_of_quoted(text, at, raw)
            if at < 0:
                raise Unclosed(
                    62, f"Syntax error: {raw.decode()} at position {start + 1} is never closed. (SYNTAX_ERROR)"
                )
            if raw == b"/*":
                continue
            token = "'" if raw[:1] in b"'$" else "`" + text[start + 1 : at - 1].decode("latin-1").upper()
        depth -= token in (")", "]")
        yield Token(token, depth, start, at)
        depth += token in ("(", "[")


def end_of_quoted(text: bytes, at: int, opening: bytes) -> int:
    if opening not in QUOTE_END:
        closing = b"*/" if opening == b"/*" else opening
        end = text.find(closing, at)
        return end if end < 0 else end + len(closing)
    while found := QUOTE_END[opening].search(text, at):
        at = found.end()
        if found.group() == opening and text[at : at + 1] != opening:
            return at
        at += 1  # a backslash or a doubled quote: the next byte belongs to the text
    return -1


def parse(text: bytes, complete: bool = True) -> Statement | None:
    """What the HTTP layer has to know of a statement, or None when the part given does not settle it."""
    seen: list[Token] = []
    verb, data_may_follow = "", False
    try:
        for token in tokens(text):
            last = seen[-1] if seen else token
            if last.text == ";":
                raise ClickHouseError(62, "Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)")
            seen.append(token)
            if len(seen) == 1 or (verb == "WITH" and token.depth == 0 and token.text in ("INSERT", "SELECT")):
                verb, data_may_follow = token.text, token.text == "INSERT" and len(seen) == 1
            elif data_may_follow and token.depth == 0 and len(seen) > 3:
                after_dot = seen[-3].text == "." if last.text == "FORMAT" else last.text == "."  # a table's name
                if (token.text == "VALUES" or last.text == "FORMAT") and not after_dot:
                    refuse(seen)
                    values = token.text == "VALUES"
                    gap = cast(re.Match[bytes], DATA_GAP.match(text, token.end))
                    output = "Values" if values else text[token.start : token.end].decode()
                    return Statement(verb, output, token.start if values else last.start, gap.end())
                data_may_follow = token.text not in ("SELECT", "WITH")
            if not complete and not data_may_follow:
                return None
    except Unclosed:
        if complete:
            raise
    if not complete:
        return None
    refuse(seen)
    chosen = None
    for word, name, after in zip(seen, seen[1:], [*seen[2:], Token(";", 0, 0, 0)], strict=False):
        if word.text == "FORMAT" and word.depth == 0 and after.text in (";", "SETTINGS"):
            chosen = text[name.start : name.end].decode()
    return Statement(verb, chosen)


def refuse(seen: list[Token]) -> None:
    """Some of these the engine accepts and then loses the rows (input()) or never opens the directory again (Kafka)."""
    words = [token.text.lstrip("`") for token in seen] + ["", ""]
    for at, word in enumerate(words[:-2]):
        before, after = words[at - 1], words[at + 1]
        if word == "ENGINE":
            name = words[at + 2] if after == "=" else after
            if name.startswith(SERVER_ENGINES):
                raise needs_server(f"The engine {name}")
        elif word == "INPUT" and after == "(" and words[at + 2] == "'":
            raise needs_server("The table function input()")
        elif word in ICEBERG_WRITES or (
            word.startswith("ICEBERG") and before == "FUNCTION" and "INTO" in words[max(0, at - 3) : at]
        ):
            raise iceberg_write()
        elif word == "OUTFILE" and before == "INTO":
            raise ClickHouseError(358, "INTO OUTFILE is not allowed: the answer goes to the client")
        elif word == "INFILE" and before == "FROM":
            raise ClickHouseError(78, "FROM INFILE is not allowed: send the data as the body")
    subject = words[3] if words[1:3] == ["OR", "REPLACE"] else words[1]
    if words[0] in ("GRANT", "REVOKE") or (words[0] in ("CREATE", "ALTER", "DROP") and subject in ACCESS):
        raise needs_server("GRANT and REVOKE" if words[0] in ("GRANT", "REVOKE") else f"{words[0]} {subject}")


def iceberg_write() -> ClickHouseError:
    return ClickHouseError(
        48, "INSERT INTO an Iceberg table would bypass its catalog. Write it with Spark, Trino or PyIceberg instead."
    )


def quoted(value: str, quote: str = "'") -> str:
    return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


# ---- engine handles and sessions -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Session:
    connection: Connection
    expires: float
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Engine:
    """The one engine of this process. Handles are cheap: opening one, a query and closing it take 2 ms."""

    def __init__(self, path: str) -> None:
        config = Path(__file__).resolve().with_name("clickhouse_config.xml")
        self._address = f"{path}?{urlencode({'config-file': str(config)})}"
        self._root = chdb.connect(self._address)  # keeps the engine open between requests
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        row = json.loads(
            run(self._root, "SELECT version() AS v, timezone() AS z, hostName() AS h", "JSONEachRow").bytes()
        )
        self.version, self.timezone, self.host = row["v"], row["z"], row["h"]

    def _open(self) -> Connection:
        connection = chdb.connect(self._address)
        # More than 4 threads help no query of a laptop's size and starve the other engines on the machine.
        change(connection, {"max_threads": str(min(4, os.cpu_count() or 1))})
        return connection

    @contextlib.contextmanager
    def handle(self, params: Mapping[str, str], settings: dict[str, str], verb: str) -> Iterator[Connection]:
        session_id, database = params.get("session_id"), params.get("database")
        if not session_id:
            connection = self._open()
            try:
                if database:
                    run(connection, f"USE {quoted(database, '`')}")
                change(connection, {name: value for name, value in settings.items() if name != "readonly"})
                if "readonly" in settings:  # last: nothing can be changed after it
                    change(connection, {"readonly": settings["readonly"]})
                yield connection
            finally:
                connection.close()
            return
        timeout = params.get("session_timeout", "60")
        if not timeout.isdigit() or int(timeout) > 3600:
            raise ClickHouseError(374, f"Invalid session timeout: '{timeout}' (at most 3600)")
        session = self._take(session_id, params.get("session_check") == "1")
        try:
            with restored(session.connection, settings, database, verb):
                yield session.connection
        finally:
            session.expires = time.monotonic() + int(timeout)
            session.lock.release()

    def _take(self, session_id: str, must_exist: bool) -> Session:
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                if must_exist:
                    raise ClickHouseError(372, f"Session {session_id} not found")
                session = self._sessions[session_id] = Session(self._open(), 0.0)
            if not session.lock.acquire(blocking=False):
                raise ClickHouseError(373, f"Session {session_id} is locked by a concurrent client")
            return session

    def expire(self, everything: bool = False) -> None:
        with self._lock:
            for name, session in list(self._sessions.items()):
                if (everything or session.expires < time.monotonic()) and session.lock.acquire(blocking=False):
                    del self._sessions[name]
                    session.connection.close()

    def cancel_queries(self) -> None:
        run(self._root, "KILL QUERY WHERE 1")

    def close(self) -> None:
        self.expire(everything=True)
        self._root.close()


def run(
    connection: Connection, sql: str | bytes, output: str = "TabSeparated", params: Mapping[str, str] | None = None
) -> Any:
    try:  # the engine takes bytes as well: a string literal need not be UTF-8
        return connection.query(cast(Any, sql), output, params=dict(params or {}))
    except (chdb.ChdbError, RuntimeError) as error:
        raise engine_error(error) from error


def change(connection: Connection, settings: Mapping[str, str]) -> None:
    if settings:
        run(connection, "SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items()))


@contextlib.contextmanager
def restored(connection: Connection, settings: dict[str, str], database: str | None, verb: str) -> Iterator[None]:
    """A request's settings and database end with the request; what `SET` and `USE` said stays in the session."""
    # `readonly` would stick for good: the caller has checked it. A SET has no use for the request's other settings.
    wanted = {name: value for name, value in settings.items() if name != "readonly" and verb != "SET"}
    current = ", ".join(f"toString(getSetting('{name}'))" for name in ("readonly", *wanted))
    row = json.loads(run(connection, f"SELECT currentDatabase(), {current}", "JSONCompactEachRow").bytes())
    before_database, readonly, before = row[0], row[1], dict(zip(wanted, row[2:], strict=True))
    if readonly == "1":  # set by the session itself: no setting can change any more, not even the query's name
        if any(before[name] != value for name, value in wanted.items() if name != "log_comment"):
            raise ClickHouseError(164, "Cannot modify settings in readonly mode. (READONLY)")
        wanted = before = {}
    if database:
        run(connection, f"USE {quoted(database, '`')}")
    try:
        change(connection, wanted)
        yield
    finally:
        change(connection, before)
        if database and verb != "USE":
            known = run(connection, f"EXISTS DATABASE {quoted(before_database, '`')}").bytes() == b"1\n"
            run(connection, f"USE {quoted(before_database if known else 'default', '`')}")


# ---- bodies --------------------------------------------------------------------------------------------------------


class Body(io.RawIOBase):
    """The bytes of one request as announced by Content-Length or in chunks; an early end is an error."""

    def __init__(self, source: Any, headers: Message) -> None:
        self._source = source
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("Content-Length") or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._chunked and not self._left:
            size = self._source.readline(1024).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise ClickHouseError(33, "Cannot read all data: the body ended early. Nothing was inserted")
            self._left = int(size, 16)
            if not self._left:
                self._chunked = False
                while self._source.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass  # trailers carry nothing we use
        if not self._left:
            return 0
        data = self._source.read(min(self._left, len(buffer)))
        buffer[: len(data)] = data
        self._left -= len(data)
        if not data:
            raise ClickHouseError(
                33, f"Cannot read all data: {self._left} bytes of the body are missing. Nothing was inserted"
            )
        if self._chunked and not self._left:
            self._source.readline(8)  # the line end behind a chunk
        return len(data)


def decoded(source: Any, encoding: str) -> Any:
    """A file of the body's content; each decoder also reads several frames in a row, which clients send."""
    if encoding in ("", "identity"):
        return source
    if encoding == "gzip":
        return GzipFile(fileobj=source)
    if encoding == "deflate":
        return io.BytesIO(zlib.decompress(source.read()))
    if encoding == "lz4" and LZ4:
        return LZ4.LZ4FrameFile(source)
    if encoding == "zstd" and ZSTD:
        return ZSTD.ZstdFile(source)
    raise ClickHouseError(48, f"Content-Encoding {encoding} is not understood here: send gzip, deflate or no encoding")


def native_blocks(source: Any) -> Iterator[bytes]:
    """ClickHouse's own framing (`decompress=1`): checksum (16 bytes, not verified), method, both sizes, data."""
    while head := source.read(25):
        method, packed, size = struct.unpack_from("<BII", head.ljust(25, b"\0"), 16)
        data = source.read(max(0, packed - 9))
        if len(data) != packed - 9 or method not in (0x02, 0x82, 0x90):
            raise ClickHouseError(33, "Cannot read all data: a compressed block is damaged. Nothing was inserted")
        if method == 0x82 and LZ4_BLOCK:
            data = LZ4_BLOCK.decompress(data, uncompressed_size=size)
        elif method == 0x90 and ZSTD:
            data = ZSTD.decompress(data)
        elif method != 0x02:
            raise ClickHouseError(48, "decompress=1 needs the packages lz4 and backports.zstd")
        yield data


def encoder(accepted: str) -> tuple[str, bytes, Any] | None:
    """Name, first bytes and compressor for the best encoding the client takes."""
    names = {name.partition(";")[0].strip() for name in accepted.lower().split(",")}
    if "lz4" in names and LZ4:
        frame = LZ4.LZ4FrameCompressor()
        return "lz4", frame.begin(), frame
    if "zstd" in names and ZSTD:
        return "zstd", b"", ZSTD.ZstdCompressor()
    for name, window in (("gzip", 31), ("deflate", 15)):
        if name in names:
            return name, b"", zlib.compressobj(3, wbits=window)
    return None


def form_fields(body: bytes, content_type: str) -> Iterator[tuple[str, str]]:
    """Clients move parameters too long for a URL into a form."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = str(header.get_param("boundary")).encode()
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        described = email.message_from_bytes(head)
        if described.get_filename() is not None:
            raise ClickHouseError(
                48, "External tables are not implemented: insert the rows into a temporary table instead"
            )
        yield str(described.get_param("name", header="content-disposition")), content.decode()


# ---- HTTP ----------------------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    payload: bytes = b""
    format: str | None = None
    summary: Mapping[str, int] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with it a small answer waits some 40 ms for the client's acknowledgement
    wbufsize = 1 << 16
    body_read = streaming = False
    query_id = ""

    @property
    def owner(self) -> Server:
        return cast(Server, self.server)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line may carry a password, and system.query_log has every query."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        self.query_id, self.streaming = params.get("query_id") or str(uuid.uuid4()), False
        self.body_read = not (self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"))
        try:
            with self.owner.one_request():
                self._route(url.path, params)
                self.wfile.flush()
        except ConnectionError:
            self.close_connection = True  # the client is gone: nobody is left to answer

    def _route(self, path: str, params: dict[str, str]) -> None:
        try:
            if path in ("/ping", "/replicas_status"):
                return self._send(200, Reply(b"Ok.\n"))
            if path not in ("", "/", "/query"):
                return self._send(404, Reply(f"There is no handle {path}\n".encode()))
            self._authenticate(params)
            reply = self._answer(params)
            # The end goes out after the session is free again, or the client's next query would find it locked.
            if reply:
                return self._send(200, reply)
            if self.streaming:
                self.wfile.write(LAST_CHUNK)
        except ClickHouseError as error:
            if self.streaming:  # a second answer would be read as part of the first
                self.close_connection = True
                return None
            headers = {"X-ClickHouse-Exception-Code": str(error.code)}
            if error.code == 516:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            self._send(HTTP_STATUS.get(error.code, 500), Reply(f"{error}\n".encode()), headers)
        return None

    do_POST = do_HEAD = do_PUT = do_GET

    def _authenticate(self, params: Mapping[str, str]) -> None:
        user = self.headers.get("X-ClickHouse-User", params.get("user", "default"))
        password = self.headers.get("X-ClickHouse-Key", params.get("password", ""))
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(value).decode().partition(":")
            except ValueError:
                user = password = ""  # not base64 of UTF-8: simply wrong
        same_user = hmac.compare_digest(user.encode(), self.owner.user.encode())
        if not (hmac.compare_digest(password.encode(), self.owner.password.encode()) and same_user):
            # A client sends headers and body apart; closing with the body unread resets the connection under the answer.
            self.rfile.read(min(MEBIBYTE, int(self.headers.get("Content-Length") or 0)))
            raise ClickHouseError(
                516,
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name. "
                "(AUTHENTICATION_FAILED)",
            )

    def _answer(self, params: dict[str, str]) -> Reply | None:
        """None when the answer went out as a stream, but for its end."""
        with tempfile.SpooledTemporaryFile(max_size=8 * MEBIBYTE) as spool:
            self._receive(spool, params.get("decompress") == "1")
            if self.headers.get("Content-Type", "").startswith("multipart/form-data"):
                params |= form_fields(spool.read(), self.headers["Content-Type"])
            head, first = params.get("query", "").encode(), spool.read(MEBIBYTE)
            text = head.rstrip() + b"\n" + first if head and first else head or first
            if not text.strip():
                if self.command in ("GET", "HEAD"):
                    return Reply(b"Ok.\n")
                raise ClickHouseError(62, "Syntax error: empty query. (SYNTAX_ERROR)")
            statement = parse(text, complete=len(first) < MEBIBYTE)
            if statement is None:
                text += spool.read()
                statement = parse(text)
            assert statement is not None
            settings = self._settings(params, statement.verb)
            with self.owner.engine.handle(params, settings, statement.verb) as connection:
                if statement.insert_end is not None:
                    return insert(connection, statement, text, spool, binds(params))
                return self._query(connection, statement, text, params)

    def _receive(self, spool: Any, framed: bool) -> None:
        raw = io.BufferedReader(Body(self.rfile, self.headers), MEBIBYTE)
        try:
            content = decoded(raw, self.headers.get("Content-Encoding", ""))
            if framed:
                spool.writelines(native_blocks(content))
            else:
                shutil.copyfileobj(content, spool, MEBIBYTE)
        except ConnectionError:
            raise
        except DAMAGED as error:
            raise ClickHouseError(33, f"Cannot read all data: {error}. Nothing was inserted") from error
        self.body_read = True
        spool.seek(0)

    def _settings(self, params: Mapping[str, str], verb: str) -> dict[str, str]:
        if not (self.query_id.isascii() and self.query_id.isprintable()):  # it becomes a header
            self.query_id = str(uuid.uuid4())
            raise ClickHouseError(36, "query_id has characters other than printable ASCII. (BAD_ARGUMENTS)")
        if params.get("role"):
            raise needs_server("A role")
        if params.get("compress") == "1":
            raise ClickHouseError(
                48, "compress=1 is not implemented: use Accept-Encoding with enable_http_compression=1"
            )
        settings = {"log_comment": self.query_id}
        for name, value in params.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ClickHouseError(115, f"Unknown setting '{name}'. (UNKNOWN_SETTING)")
            if name.upper() in ICEBERG_WRITES:
                raise iceberg_write()
            if name not in NOT_SETTINGS and not name.startswith("param_"):
                settings[name] = value
        if self.command in ("GET", "HEAD") and settings.get("readonly", "0") == "0":
            settings["readonly"] = "2"
        if settings.get("readonly", "0") != "0" and verb not in READS | {"SET", "USE"}:
            why = (
                "For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries."
            )
            raise ClickHouseError(164, f"Cannot execute query in readonly mode. {why} (READONLY)")
        return settings

    def _query(
        self, connection: Connection, statement: Statement, text: bytes, params: Mapping[str, str]
    ) -> Reply | None:
        output = statement.format or params.get("default_format") or self.headers.get("X-ClickHouse-Format")
        output = output or "TabSeparated"
        as_array = "output_format_json_array_of_rows" in params  # one array around all rows cannot be sent by blocks
        whole = params.get("wait_end_of_query") == "1" or as_array
        if statement.verb == "SELECT" and output in STREAMABLE and not whole and self.request_version != "HTTP/1.0":
            return self._stream(connection, text, output, binds(params))
        result = run(connection, text, output, binds(params))
        payload = result.bytes()
        summary = {
            "read_rows": result.storage_rows_read(), "read_bytes": result.storage_bytes_read(),
            "written_rows": result.rows_written(), "written_bytes": result.bytes_written(),
            "result_rows": result.rows_read(), "result_bytes": len(payload),
            "elapsed_ns": int(result.elapsed() * 1e9),
        }  # fmt: skip
        return Reply(payload, output if payload or statement.verb in READS else None, summary)

    def _stream(self, connection: Connection, text: bytes, output: str, bound: Mapping[str, str]) -> Reply | None:
        """An answer below 1 MiB goes out whole, so that its errors have a status; a longer one in chunks."""
        try:
            stream = connection.send_query(cast(Any, text), output, params=dict(bound))
        except (chdb.ChdbError, RuntimeError) as error:
            raise engine_error(error) from error
        with stream:
            held, rows = bytearray(), 0
            blocks = blocks_of(stream)
            for block in blocks:
                held += block.bytes()
                rows += block.rows_read()
                if len(held) >= MEBIBYTE:
                    self._send(200, Reply(bytes(held), output), more=blocks)
                    return None
            return Reply(bytes(held), output, {"result_rows": rows, "result_bytes": len(held)})

    def _send(self, status: int, reply: Reply, headers: Mapping[str, str] | None = None, more: Any = None) -> None:
        asked = reply.format and any(f"enable_http_compression={on}" in self.path for on in ("1", "true"))
        encoding = encoder(self.headers.get("Accept-Encoding", "")) if asked else None
        chunked, tag = bool(more or encoding), uuid.uuid4().hex[:16]
        self.streaming = more is not None
        prefix = next((prefix for prefix in CONTENT_TYPES if (reply.format or "Tab").startswith(prefix)), "")
        self.send_response(status)
        for name, value in {
            "Content-Type": CONTENT_TYPES.get(prefix, "application/octet-stream"),
            "X-ClickHouse-Server-Display-Name": self.owner.engine.host,
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Timezone": self.owner.engine.timezone,
            "X-ClickHouse-Format": reply.format,
            "X-ClickHouse-Summary": json.dumps({name: str(value) for name, value in reply.summary.items()}),
            "X-ClickHouse-Exception-Tag": tag if more else None,
            "Content-Encoding": encoding[0] if encoding else None,
            "Transfer-Encoding": "chunked" if chunked else None,
            "Content-Length": None if chunked else str(len(reply.payload)),
            # What is left of a body would be taken for the next request.
            "Connection": None if self.body_read else "close",
            **(headers or {}),
        }.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if not chunked:
            self.wfile.write(reply.payload)
            return
        compress = encoding[2].compress if encoding else bytes
        self._chunk(encoding[1] if encoding else b"")
        self._chunk(compress(reply.payload))
        try:
            for block in more or ():
                self._chunk(compress(block.bytes()))
        except ClickHouseError as error:
            # The status is long sent. The server's closing frame tells what happened, and the last chunk stays out.
            text, mark = str(error).encode(), tag.encode()
            frame = b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (mark, text, len(text) + 1, mark)
            self._chunk(compress(frame) + (encoding[2].flush() if encoding else b""))
            self.close_connection, self.streaming = True, False
            return
        self._chunk(encoding[2].flush() if encoding else b"")
        if not more:
            self.wfile.write(LAST_CHUNK)

    def _chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the answer
            self.wfile.writelines((b"%x\r\n" % len(data), data, b"\r\n"))


def binds(params: Mapping[str, str]) -> dict[str, str]:
    return {name[6:]: value for name, value in params.items() if name.startswith("param_")}


def blocks_of(stream: StreamingResult) -> Iterator[Any]:
    try:
        yield from stream
    except (chdb.ChdbError, RuntimeError) as error:
        raise engine_error(error) from error


def insert(connection: Connection, statement: Statement, text: bytes, rest: Any, bound: Mapping[str, str]) -> Reply:
    change(connection, {f"param_{name}": value for name, value in bound.items()})
    sql = cast(Any, text[: statement.insert_end])
    try:
        with connection.send_insert(sql, statement.format or "Values") as inserter:
            piece = text[statement.data_start :]
            while piece:
                inserter.append(piece)
                piece = rest.read(MEBIBYTE)
            done = inserter.finish()
    except (chdb.ChdbError, RuntimeError) as error:
        raise engine_error(error) from error
    return Reply(summary={"written_rows": done.rows_written, "written_bytes": done.bytes_written})


class Server(ThreadingHTTPServer):
    daemon_threads = True  # an idle kept-alive connection must not hold up the end of the process
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], engine: Engine, user: str, password: str) -> None:
        super().__init__(address, Handler)
        self.engine, self.user, self.password = engine, user, password
        self._changed, self._active, self._stopping = threading.Condition(), 0, False

    def service_actions(self) -> None:  # called twice a second
        self.engine.expire()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that went away is no fault of ours
            super().handle_error(request, client_address)

    @contextlib.contextmanager
    def one_request(self) -> Iterator[None]:
        with self._changed:
            if self._stopping:
                raise ConnectionAbortedError("the server is stopping")
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def stop(self) -> bool:
        """Running queries get 3 s to finish, then they are cancelled. False if one cannot be ended even so."""
        self.shutdown()
        self.server_close()
        with self._changed:
            self._stopping = True
            if not self._changed.wait_for(lambda: not self._active, timeout=3):
                self.engine.cancel_queries()
            ended = self._changed.wait_for(lambda: not self._active, timeout=1.5)
        if ended:
            self.engine.close()
        return ended


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
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    held = lock(directory)  # until the process ends
    os.chdir("/")  # icebergLocal reads only below the working directory (Code 481), whatever user_files_path says
    try:
        engine = Engine(str(directory))
    except RuntimeError as error:
        why = "does another program have it open, or is a table in it whose engine needs a server?"
        raise SystemExit(f"clickhouse: the engine cannot open {directory}: {why} ({error})") from error
    try:
        server = Server((given.host, given.port), engine, user, password)
    except OSError as error:
        engine.close()
        raise SystemExit(f"clickhouse: cannot listen on {given.host}:{given.port}: {error}") from error
    threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
    port = server.server_address[1]
    probe = http.client.HTTPConnection(given.host, port, timeout=30)
    probe.request("POST", "/", "SELECT 1", {"X-ClickHouse-User": user, "X-ClickHouse-Key": password})
    answer = probe.getresponse().read()
    probe.close()
    if answer != b"1\n":
        raise SystemExit(f"clickhouse: the first query failed: {answer.decode()}")
    print(f"clickhouse: ready on http://{given.host}:{port} (chDB {engine.version}, {directory})", flush=True)
    stop.wait()
    if not server.stop():
        # A client that does not read its answer holds a query open, and closing the engine under it would crash. The
        # directory opens again after this as after a kill -9.
        os._exit(0)
    held.close()


if __name__ == "__main__":
    main()
