"""Which port each service of a home listens on.

Belongs here: choosing ports, keeping them, and saying who has one. Does not belong here: addresses of external services
(`foundation.settings`).
"""

import json
import os
import random
import socket
from collections.abc import Callable, Collection

import psutil

from foundation.errors import AssayError
from foundation.settings import Settings

LISTENING = ("spark", "trino", "clickhouse", "mlflow", "dagster", "dagster-code")
# Services whose port has another name in addresses.json.
PORT_NAMES = {"dagster-webserver": "dagster"}
# Below 32768, where Linux takes the ports of outgoing connections from: a kept port stays free while we are down.
FIRST, LAST = 20000, 29999
HOST = "127.0.0.1"


def variable(service: str) -> str:
    """The variable that asks for a fixed port, such as `ASSAY_PORT_DAGSTER_CODE`."""
    return f"ASSAY_PORT_{service.upper().replace('-', '_')}"


def read(settings: Settings) -> dict[str, int]:
    """The ports that were chosen, or nothing if this home was never started."""
    file = settings.services_dir / "addresses.json"
    return json.loads(file.read_text()) if file.exists() else {}


def assign(settings: Settings, running: Collection[str], report: Callable[[str], None]) -> dict[str, int]:
    """Chooses a port for every service, keeping earlier choices, and writes them down.

    Args:
        settings: the home.
        running: the listening services (names of `LISTENING`) that run now, whose ports are theirs.
        report: told of a port that had to change.

    Raises:
        AssayError: a port that `ASSAY_PORT_<SERVICE>` asks for is not a port or belongs to another process.
    """
    kept = read(settings)
    chosen: dict[str, int] = {}
    for service in LISTENING:
        fixed = os.environ.get(variable(service))
        if fixed:
            chosen[service] = _fixed(
                service, fixed, mine=service in running and kept.get(service) == _number(service, fixed)
            )
    for service in LISTENING:
        port = kept.get(service)
        if service in chosen:
            continue
        if port and port not in chosen.values() and (service in running or is_free(port)):
            chosen[service] = port
            continue
        chosen[service] = _any_free(set(chosen.values()) | set(kept.values()))
        if port:
            report(f"{service}: port {port} is taken by {holder(port)}; now on {chosen[service]}")
    if chosen != kept:
        file = settings.services_dir / "addresses.json"
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(chosen, indent=1) + "\n")
        fresh.replace(file)
    return chosen


def _number(service: str, text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise AssayError(f"{variable(service)}={text} is not a port", "use a number from 1024 to 65535, or unset it")
    return int(text)


def _fixed(service: str, text: str, mine: bool) -> int:
    port = _number(service, text)
    if not mine and not is_free(port):
        raise AssayError(
            f"{variable(service)} asks for port {port}, which is taken by {holder(port)}",
            f"stop that process, or unset {variable(service)}",
        )
    return port


def _any_free(not_these: set[int]) -> int:
    for _ in range(1000):
        port = random.randint(FIRST, LAST)  # noqa: S311 - a port is no secret
        if port not in not_these and is_free(port):
            return port
    raise AssayError(
        f"No free port from {FIRST} to {LAST} was found in 1000 tries", f"set {variable('spark')} and the like"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def family_listens(pid: int, port: int) -> bool:
    """Whether the process or a child of it listens there.

    A child that a killed service left may hold the port for a moment and answer in its place.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for member in family:
        try:
            connections = member.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections):
            return True
    return False


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may see."""
    for process in psutil.process_iter():
        try:
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return f"process {process.pid} ({' '.join(process.cmdline())[:120]})"
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # another user's process does not show its sockets
    return "a process that this user cannot see"
