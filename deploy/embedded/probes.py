"""When a service is ready: it has answered the question that its users will ask.

Belongs here: one probe a service, and a cheap one for `status`. Does not belong here: waiting and retrying
(`services`). A probe returns if the service is ready and raises `NotReady` with the reason if it is not yet.
"""

import atexit
import base64
import http.client
import json
import socket
import time
from typing import Any

from deploy.embedded.ports import HOST, PORT_NAMES, family_listens
from foundation.errors import AssayError
from foundation.names import CATALOG
from foundation.settings import PROJECT, Settings

# Every probe answers within this, or counts as not ready. The first statement in Spark takes some 5 s.
SECONDS = 15
# Dagster imports all our code again.
RELOAD_SECONDS = 120
# A daemon that has no webserver to ask for its heartbeats is taken for ready when it has lived this long.
DAEMON_SECONDS = 5
WORKSPACE = """{ workspaceOrError { __typename
  ... on PythonError { message }
  ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
    ... on PythonError { message className errorChain { error { message className } } } } } } } }"""
RELOAD = """mutation { reloadWorkspace { __typename ... on PythonError { message } } }"""
HEARTBEATS = """{ instance { daemonHealth { allDaemonStatuses {
  daemonType required healthy lastHeartbeatTime lastHeartbeatErrors { message } } } } }"""


class NotReady(Exception):
    """Not yet; the text says what it answered."""


def is_ready(settings: Settings, service: str, ports: dict[str, int], pid: int, started: float) -> None:
    """Asks the service its users' question.

    Args:
        settings: the home.
        service: one of `programs.SERVICES`.
        ports: the home's ports.
        pid: its process, which must be the one that listens.
        started: when the process started, seconds since 1970.

    Raises:
        NotReady: not yet.
        AssayError: waiting will not help: Dagster cannot load the definitions.
    """
    own = ports.get(PORT_NAMES.get(service, service))
    if own and not family_listens(pid, own):
        raise NotReady(f"its process does not listen on port {own} yet")
    match service:
        case "spark":
            _spark(ports["spark"])
        case "trino":
            _trino(settings, ports["trino"])
        case "clickhouse":
            _clickhouse(settings, ports["clickhouse"])
        case "mlflow":
            _get(ports["mlflow"], "/health")
        case "dagster-code":
            _listens(ports["dagster-code"])
        case "dagster-webserver":
            _dagster_webserver(ports["dagster"], ports["dagster-code"])
        case "dagster-daemon":
            _dagster_daemon(ports["dagster"], started)
        case _:
            raise ValueError(service)


def answers(service: str, ports: dict[str, int], pid: int) -> bool:
    """Whether the service's own process answers at all: milliseconds, for `status`."""
    own = ports.get(PORT_NAMES.get(service, service))
    if own and not family_listens(pid, own):
        return False
    paths = {"trino": "/v1/info", "clickhouse": "/ping", "mlflow": "/health", "dagster-webserver": "/server_info"}
    try:
        if service in ("spark", "dagster-code"):
            _listens(ports[service])
        elif service in paths:
            _get(ports[PORT_NAMES.get(service, service)], paths[service])
    except NotReady:
        return False
    return True


def _listens(port: int) -> None:
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError as error:
        raise NotReady(f"nothing listens on port {port} yet") from error


def _get(
    port: int, path: str, body: str | None = None, headers: dict[str, str] | None = None, seconds: int = SECONDS
) -> str:
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        connection.request("POST" if body is not None else "GET", path, body=body, headers=headers or {})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{path} on port {port}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotReady(f"{path} on port {port} answered {response.status}: {text[:200]}")
    return text


# Neither stopped nor collected: either shuts a thread pool that all sessions of a process share, and a collection in the
# middle of another session's work waits for itself forever (see docs/decisions/0005).
_kept: list[object] = []


def _spark(port: int) -> None:
    _listens(port)
    # Imported here: it takes 2 s, and `up` on running services does not need it.
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.session import SparkSession

    try:
        session = SparkSession.builder.remote(f"sc://{HOST}:{port}").create()
        _kept.append(session)
        # At the end of this process it would ask a server that may be gone by then, for minutes.
        atexit.unregister(session.client._cleanup_ml_cache)
        session.sql(f"show namespaces in {CATALOG}").collect()
        if session.sql("select 1").collect()[0][0] != 1:
            raise NotReady("select 1 is not 1")
    except PySparkException as error:
        raise NotReady(str(error).partition("\n")[0]) from error


def _trino(settings: Settings, port: int) -> None:
    _listens(port)
    from trino.dbapi import connect
    from trino.exceptions import Error, TrinoConnectionError

    connection = connect(host=HOST, port=port, user=settings.trino_user, request_timeout=SECONDS, max_attempts=1)
    try:
        cursor = connection.cursor()
        cursor.execute("select count(*) from system.runtime.nodes where state = 'active'")
        if not cursor.fetchall()[0][0]:
            raise NotReady("no node is active yet")
        cursor.execute(f"show schemas from {CATALOG}")
        cursor.fetchall()
    except (Error, TrinoConnectionError, OSError) as error:
        raise NotReady(str(error).partition("\n")[0]) from error
    finally:
        connection.close()


def _clickhouse(settings: Settings, port: int) -> None:
    credentials = base64.b64encode(f"{settings.clickhouse_user}:{settings.clickhouse_password}".encode()).decode()
    answer = _get(port, "/", body="select 1", headers={"Authorization": f"Basic {credentials}"})
    if answer.strip() != "1":
        raise NotReady(f"select 1 answered {answer[:200]!r}")


def _graphql(port: int, query: str, seconds: int = SECONDS) -> dict[str, Any]:
    body = json.dumps({"query": query})
    answer = json.loads(_get(port, "/graphql", body, {"Content-Type": "application/json"}, seconds))
    if answer.get("errors"):
        raise NotReady(str(answer["errors"][0].get("message")))
    return answer["data"]


def _dagster_webserver(port: int, code_port: int) -> None:
    _listens(port)
    _listens(code_port)
    failure = _load_failure(port)
    if failure:
        # The code server may hold an error that was mended since: it reads the code again, and then it counts.
        _graphql(port, RELOAD, RELOAD_SECONDS)
        failure = _load_failure(port)
    if failure:
        what, _, action = failure.partition("\nNext: ")  # our own errors say what to do
        action = action.rstrip(".") or f"mend the code in {PROJECT} (`./assay logs dagster-code` shows the whole error)"
        raise AssayError(
            f"Dagster cannot load the definitions: {what.rstrip('.')}", f"{action}, then run ./assay up again"
        )


def _load_failure(port: int) -> str:
    """Why Dagster's code location cannot be loaded; empty if it is."""
    workspace = _graphql(port, WORKSPACE)["workspaceOrError"]
    entries = workspace.get("locationEntries", [])
    if not entries or any(entry["loadStatus"] != "LOADED" for entry in entries):
        raise NotReady(workspace.get("message", "the code location is being loaded"))
    for entry in entries:
        failure = entry["locationOrLoadError"]
        if failure["__typename"] != "PythonError":
            continue
        causes = [failure, *(link["error"] for link in failure.get("errorChain", []))]
        if any(cause["className"] == "DagsterUserCodeUnreachableError" for cause in causes):
            # The webserver asked before the code server listened; by itself it would ask again, but not soon.
            _graphql(port, RELOAD, RELOAD_SECONDS)
            raise NotReady("the code server did not answer the webserver yet")
        return causes[-1]["message"].strip()
    return ""


def _dagster_daemon(webserver_port: int, started: float) -> None:
    if time.time() - started < 1:
        raise NotReady("it has just started")
    try:
        _listens(webserver_port)
    except NotReady:
        if time.time() - started < DAEMON_SECONDS:
            raise
        return
    statuses = _graphql(webserver_port, HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    waiting = [
        status["daemonType"]
        for status in statuses
        if status["required"] and (not status["healthy"] or (status["lastHeartbeatTime"] or 0) < started)
    ]
    if waiting:
        raise NotReady(f"no heartbeat yet from {', '.join(sorted(waiting))}")
