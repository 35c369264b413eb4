"""A ClickHouse server of a test's own, and requests to it as `curl` would send them.

Belongs here: starting the embedded server on a directory, one plain request. Does not: clients, and what is expected.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


def send(server: Running, sql: str | bytes = b"", parameters: str = "", method: str = "POST", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    login = "Basic " + base64.b64encode(f"assay:{PASSWORD}".encode()).decode()
    sent = {"Authorization": login} | {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, f"/?{parameters}", sql or None, {k: v for k, v in sent.items() if v})
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)
