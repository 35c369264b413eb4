"""The embedded engine: what it may be asked, the handles in which it is asked, and its errors in the server's words.

What belongs here: the refusal of statements that the engine cannot do or is damaged by, sessions, and what the engine
does otherwise than a server (`query_id`). What does not: HTTP.

- A request without a session gets an engine handle of its own; a session is one handle kept between requests. `SET`,
  `USE` and temporary tables live in the handle, so clients do not see each other's.
- The engine names its own queries. The client's query id travels at the head of `log_comment`; `system.query_log` is a
  view that shows it as a server does, and KILL QUERY takes either id.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import chdb
from chdb.state.sqlitelike import Connection

SERVER_ENGINES = rb"(?:KAFKA|RABBITMQ|NATS|KEEPERMAP|S3QUEUE|AZUREQUEUE|REPLICATED)\w*"
ACCESS = rb"(?:USER|ROLE|QUOTA|ROW|POLICY|MASKING|SETTINGS|PROFILE)"
ICEBERG_SETTING = rb"ALLOW_(?:EXPERIMENTAL_)?INSERT_INTO_ICEBERG"
QUERY_ID = "extract(%s, '^query_id=([^\\n]*)\\n')"


class ClickHouseError(Exception):
    """An error in the server's wording: `Code: N. DB::Exception: text`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {text}")
        self.code = code


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """The engine reports in the server's words, behind a prefix of its Python wrapper."""
    try:
        yield
    except (chdb.ChdbError, RuntimeError) as error:
        code, _, text = str(error).partition("Code: ")[2].partition(". DB::Exception: ")
        known = ClickHouseError(int(code), text.rstrip()) if code.isdigit() else ClickHouseError(1002, str(error))
        raise known from error


def needs_server(what: str, instead: str = "") -> ClickHouseError:
    return ClickHouseError(
        48,
        f"{what} needs a ClickHouse server; the embedded engine cannot do it. Set CLICKHOUSE_HOST (and "
        f"CLICKHOUSE_PORT, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD) to connect one.{instead}",
    )


# ---- statements ------------------------------------------------------------------------------------------------------

# Possessive (`++`): nothing is looked at twice, so that no input holds the interpreter's lock for long.
QUOTED = re.compile(
    rb"""  '(?:[^'\\]++|\\.?|'')*+(?:'|(?P<text>\Z))  |  /\*.*?(?:\*/|(?P<comment>\Z))  |  --[^\n]*+  |  \#[ !][^\n]*+
      |  `(?:[^`\\]++|\\.?|``)*+(?:`|(?P<name>\Z))  |  "(?:[^"\\]++|\\.?|"")*+(?:"|(?P<quoted_name>\Z))
      |  \$(\w*)\$.*?(?:\$\5\$|(?P<heredoc>\Z))""",
    re.DOTALL | re.VERBOSE,
)
PARENTHESES = rb"\((?:[^()]++|\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\))*+\)"
# INSERT with its data behind it; where nothing at all follows, the data is the body.
INSERT = re.compile(
    rb"\s*+INSERT\s++(?:INTO\s++)?+(?:TABLE\s++)?+(?:FUNCTION\s++)?+\w++(?:\s*+\.\s*+\w++)?+"
    rb"(?:[^\w();]++|" + PARENTHESES + rb"|(?!(?:SELECT|WITH|FROM|WATCH|FORMAT|VALUES)\b)\w++)*+"
    rb"(?:(?P<how>VALUES\b|FORMAT\s++(?P<format>\w++))|\Z)",
    re.IGNORECASE,
)
DATA_GAP = re.compile(rb";?[ \t\f]*\r?\n?")  # between an INSERT's format and its data
FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^()]*)?;?\s*\Z", re.IGNORECASE)
KILL = re.compile(
    rb"\s*KILL\s+QUERY\s+WHERE\b(.*?)((?:\b(?:SYNC|ASYNC|TEST|FORMAT)\b[^()']*)?;?\s*)\Z", re.IGNORECASE | re.DOTALL
)
# Some of these the engine accepts and then loses the rows (input()) or never opens the directory again (Kafka).
REFUSED = re.compile(
    rb"\A\s*(?P<access>GRANT|REVOKE|SET\s+(?:DEFAULT\s+)?ROLE|EXECUTE\s+AS|"
    rb"(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?" + ACCESS + rb")\b"
    rb"|\bENGINE(?:\s*=\s*|\s+)(?P<engine>" + SERVER_ENGINES + rb")"
    rb"|\b(?P<input>INPUT)\s*\(\s*'"
    rb"|\b(?P<iceberg>INTO\s+(?:TABLE\s+)?FUNCTION\s+ICEBERG\w*|" + ICEBERG_SETTING + rb")\b"
    rb"|\b(?P<file>INTO\s+OUTFILE|FROM\s+INFILE)\b"
    rb"|\A\s*SET\b[^;]*?\b(?P<readonly>READONLY)\b",
    re.IGNORECASE,
)


def blank(found: re.Match[bytes]) -> bytes:
    text = found.group()
    if text[:1] in b"'$":
        return b"'".ljust(len(text))
    if text[:1] in b'`"':
        return b" " + re.sub(rb"\W", b"_", text[1:-1]) + b" "
    return b" " * len(text)


class Statement:
    """What has to be known of a statement before the engine sees it.

    Everything is looked up in `code`: the text with its comments and strings blanked and its names unquoted, each byte
    in its place.
    """

    def __init__(self, text: bytes) -> None:
        self.text, self.code = text, QUOTED.sub(blank, text)
        word = re.match(rb"[\s(]*(\w{0,20})", self.code)
        self.verb = word[1].decode().upper() if word else ""
        if self.verb == "WITH" and re.search(rb"\bINSERT\s+INTO\b", self.code, re.IGNORECASE):
            self.verb = "INSERT"
        self.insert = INSERT.match(self.code)
        self.end = self.insert.end() if self.insert else len(text)

    @property
    def format(self) -> str | None:
        found = FORMAT.search(self.code[-1000:])
        return found[1].decode() if found else None

    def refuse(self) -> None:
        """Raises ClickHouseError if the engine must not be asked this."""
        if not self.insert:
            for quote in QUOTED.finditer(self.text):
                if quote.lastgroup:
                    where = f"the {quote.lastgroup} at position {quote.start() + 1}"
                    raise ClickHouseError(62, f"Syntax error: {where} is never closed. (SYNTAX_ERROR)")
        code = self.code[: self.end]
        if re.search(rb";\s*[^\s;]", code):
            raise ClickHouseError(62, "Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)")
        for found in REFUSED.finditer(code):
            words = " ".join(found[0].decode().upper().split())
            match found.lastgroup:
                case "engine":
                    raise needs_server(f"The engine {found['engine'].decode()}")
                case "input":
                    raise needs_server("The table function input()")
                case "iceberg":
                    raise iceberg_write()
                case "file":
                    raise ClickHouseError(78, f"{words} is not allowed: rows come and go in the body")
                case "readonly":  # it would stick to the session's handle: not even a query could be named any more
                    raise ClickHouseError(164, "SET readonly is not possible here: add readonly=1 to each request")
                case _:
                    raise needs_server(words)


def iceberg_write() -> ClickHouseError:
    return needs_server(
        "Writing Iceberg tables", " Or keep their catalog right: Write it with Spark, Trino or PyIceberg instead."
    )


def quoted(value: str, quote: str = "'") -> str:
    return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


# ---- handles and sessions --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Session:
    connection: Connection
    expires: float = 0.0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Engine:
    """The one engine of this process. Handles are cheap: opening and closing one takes half a millisecond."""

    def __init__(self, directory: Path) -> None:
        # The engine starts its log anew each time and would stumble over what is left of the last one.
        shutil.rmtree(directory / "data" / "system", ignore_errors=True)
        options = {
            "config-file": str(Path(__file__).resolve().with_name("clickhouse_config.xml")),
            # More than 4 threads help no query of a laptop's size and starve the other engines on the machine.
            "max_threads": str(min(4, os.cpu_count() or 1)),
            "implicit_select": "0",
            "log_queries": "0",  # a request switches it on for its own statement: our SET and USE stay out of the log
        }
        self._address = f"{directory}?{urlencode(options)}"
        self._root = chdb.connect(self._address)  # keeps the engine open between requests
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        row = json.loads(run(self._root, "SELECT version(), timezone(), hostName()", "JSONCompactEachRow").bytes())
        self.version, self.timezone, self.host = row
        run(self._root, "SYSTEM FLUSH LOGS")  # makes the table
        own = QUERY_ID % "log_comment"
        run(
            self._root,
            f"CREATE VIEW system.query_log AS SELECT * REPLACE (if({own} = '', query_id, {own}) AS query_id, "
            f"if({own} = '', initial_query_id, {own}) AS initial_query_id, "
            "replaceRegexpOne(log_comment, '^query_id=[^\\n]*\\n', '') AS log_comment) FROM system.engine_query_log",
        )

    @contextlib.contextmanager
    def handle(
        self, params: Mapping[str, str], settings: dict[str, str], database: str | None, verb: str
    ) -> Iterator[Connection]:
        session_id = params.get("session_id")
        if not session_id:
            with contextlib.closing(chdb.connect(self._address)) as connection:
                use(connection, database)
                change(connection, settings)
                yield connection
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
            self._expire(time.monotonic())
            if session_id not in self._sessions:
                if must_exist:
                    raise ClickHouseError(372, f"Session {session_id} not found")
                self._sessions[session_id] = Session(chdb.connect(self._address))
            session = self._sessions[session_id]
            if not session.lock.acquire(blocking=False):
                raise ClickHouseError(373, f"Session {session_id} is locked by a concurrent client")
            return session

    def _expire(self, now: float) -> None:
        for name, session in list(self._sessions.items()):
            if session.expires < now and session.lock.acquire(blocking=False):
                self._sessions.pop(name).connection.close()

    def cancel_queries(self) -> None:
        run(self._root, "KILL QUERY WHERE 1")

    def close(self) -> bool:
        """False if a query cannot be ended."""
        if run(self._root, "SELECT count() FROM system.processes").bytes() != b"1\n":
            return False
        self._expire(float("inf"))
        self._root.close()
        return True


def run(connection: Connection, sql: str, output: str = "TabSeparated") -> Any:
    return next(whole(connection, sql, output, {}))


def change(connection: Connection, settings: Mapping[str, str]) -> None:
    if settings:
        run(connection, "SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items()))


def use(connection: Connection, database: str | None) -> None:
    if database and database != "default":
        run(connection, f"USE {quoted(database, '`')}")


@contextlib.contextmanager
def restored(connection: Connection, settings: dict[str, str], database: str | None, verb: str) -> Iterator[None]:
    """A request's settings and database end with the request; what `SET` and `USE` said stays in the session."""
    if verb == "SET":
        settings = {name: settings[name] for name in ("log_comment", "log_queries")}
    current = ", ".join(f"toString(getSetting('{name}'))" for name in settings)
    before = json.loads(run(connection, f"SELECT currentDatabase(), {current}", "JSONCompactEachRow").bytes())
    if database:
        run(connection, f"USE {quoted(database, '`')}")
    try:
        change(connection, settings)
        yield
    finally:
        change(connection, dict(zip(settings, before[1:], strict=True)))
        if database and verb != "USE":
            known = run(connection, f"EXISTS DATABASE {quoted(before[0], '`')}").bytes() == b"1\n"
            run(connection, f"USE {quoted(before[0] if known else 'default', '`')}")


# ---- asking ----------------------------------------------------------------------------------------------------------


def insert(connection: Connection, statement: Statement, rest: Any, output: str, bound: Mapping[str, str]) -> Any:
    """The text's own data first, then the rest of the body."""
    found = cast(re.Match[bytes], statement.insert)
    change(connection, {f"param_{name}": value for name, value in bound.items()})
    given = found["format"].decode() if found["format"] else "Values" if found["how"] else output
    sql = statement.text[: found.start("how")] if found["how"] else statement.text
    gap = cast(re.Match[bytes], DATA_GAP.match(statement.text, found.end()))
    with engine_errors(), connection.send_insert(cast(Any, sql), given) as inserter:
        inserter.append(statement.text[gap.end() :])
        while piece := rest.read(1 << 20):
            inserter.append(piece)
        return inserter.finish()


def whole(connection: Connection, sql: str | bytes, output: str, bound: Mapping[str, str]) -> Generator[Any]:
    with engine_errors():  # the engine takes bytes as well: a string literal need not be UTF-8
        yield connection.query(cast(Any, sql), output, params=dict(bound))


def stream(connection: Connection, sql: bytes, output: str, bound: Mapping[str, str]) -> Generator[Any]:
    """Blocks, each encoded by itself."""
    with engine_errors(), connection.send_query(cast(Any, sql), output, params=dict(bound)) as blocks:
        yield from blocks


def by_either_id(sql: bytes) -> bytes:
    """KILL QUERY by the id that the client gave, or by the one in system.processes."""
    own = (QUERY_ID % "Settings['log_comment']").encode()
    found = KILL.match(sql)
    if not found:
        return sql
    by_own = re.sub(rb"\b(?:initial_)?query_id\b", lambda _: own, found[1])
    return b"KILL QUERY WHERE (%b\n) OR (%b\n) %b" % (found[1], by_own, found[2])
