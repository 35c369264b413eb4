"""What is wrong with this machine or this home, and what to do about it.

Belongs here: findings about the embedded platform: machine, fetched parts, ports, services, files. Does not belong
here: findings about data or code (the command line adds those), and mending anything: `doctor` only looks.
"""

import fcntl
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.embedded import leftovers, ports, programs, runtimes, services, supervision
from foundation.settings import Settings

# Everything at rest takes some 2.3 GB; a backfill of a year needs another GB in Spark and Trino.
MEMORY_BYTES_NEEDED = 4_000_000_000
DISK_BYTES_NEEDED = 3_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `next_action` is empty if `ok`."""

    name: str
    ok: bool
    detail: str
    next_action: str = ""


def doctor(settings: Settings) -> list[Finding]:
    """Looks at everything and changes nothing; takes some seconds, most of them for hashing the fetched parts."""
    found = [
        _python(),
        _disk("disk of the home", settings.home),
        _disk("disk of the cache", settings.cache),
        _memory(settings),
    ]
    found.append(_parts(settings))
    found.append(_lock(settings))
    found += _ports(settings)
    found += _services(settings)
    found.append(_sockets(settings))
    found.append(_strays(settings))
    if not settings.is_external("catalog"):
        found.append(_catalog(settings.catalog_file))
    found.append(_password(settings))
    return found


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Finding("python", True, f"{version} at {sys.executable}")
    return Finding("python", False, f"{version} is not 3.11 or 3.12", "run the project's own Python through ./assay")


def _disk(name: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    detail = f"{free / 1e9:.1f} GB free at {there}"
    if free >= DISK_BYTES_NEEDED:
        return Finding(name, True, detail)
    return Finding(name, False, detail, f"free space: {DISK_BYTES_NEEDED / 1e9:.0f} GB are wanted")


def _memory(settings: Settings) -> Finding:
    available = psutil.virtual_memory().available
    detail = f"{available / 1e9:.1f} GB available"
    running = any(info["pid"] for info in supervision.states(settings).values())
    if available >= MEMORY_BYTES_NEEDED or running:
        return Finding("memory", True, detail)
    return Finding(
        "memory", False, detail, f"close programs: {MEMORY_BYTES_NEEDED / 1e9:.0f} GB are wanted before ./assay up"
    )


def _parts(settings: Settings) -> Finding:
    missing = runtimes.missing(settings.cache)
    if missing:
        return Finding("JVM parts", False, f"not fetched: {', '.join(missing)}", "run ./assay up, which fetches them")
    wrong = runtimes.verify(settings.cache)
    if wrong:
        folders = sorted({Path(file).relative_to(settings.cache).parts[0] for file in wrong})
        what = f"{len(wrong)} files are not as they were unpacked, such as {wrong[0]}"
        remove = " ".join(str(settings.cache / name) for name in folders)
        return Finding("JVM parts", False, what, f"remove {remove} and run ./assay up, which fetches them again")
    return Finding(
        "JVM parts", True, f"all of {', '.join(runtimes.pins())} in {settings.cache}, every file as unpacked"
    )


def _lock(settings: Settings) -> Finding:
    file = settings.services_dir / ".lock"
    if file.exists():
        with file.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Finding(
                    "lock", False, "another command is starting or stopping the services", "wait until it ends"
                )
    return Finding("lock", True, "nobody is starting or stopping the services")


def _ports(settings: Settings) -> list[Finding]:
    states = supervision.states(settings)
    running = {ports.PORT_NAMES.get(name, name) for name, info in states.items() if info["pid"]}
    mine = {ports.PORT_NAMES.get(name, name) for name in programs.embedded(settings)}
    found: list[Finding] = []
    for service, port in ports.read(settings).items():
        if service in mine and service not in running and not ports.is_free(port):
            what = f"port {port} of {service} is taken by {ports.holder(port)}"
            found.append(Finding("ports", False, what, "run ./assay up, which chooses another, or stop that process"))
    if found:
        return found
    text = ", ".join(f"{service} {port}" for service, port in ports.read(settings).items()) or "none chosen yet"
    return [Finding("ports", True, text)]


def _services(settings: Settings) -> list[Finding]:
    statuses = services.status(settings)
    if all(one.state == "stopped" for one in statuses):
        return [Finding("services", False, "none runs", "run ./assay up")]
    found: list[Finding] = []
    for one in statuses:
        log = supervision.log_file(settings, one.name)
        detail = f"{one.state}, {'answers' if one.ready else 'does not answer'}, {one.memory_mb} MB"
        action = "" if one.ready else f"run ./assay up; if it fails, read {log}"
        found.append(Finding(f"service {one.name}", one.ready, detail, action))
    return found


def listening(settings: Settings) -> list[tuple[str, int, str]]:
    """Every listening socket of this home's processes: its address, its port, whose it is."""
    found: list[tuple[str, int, str]] = []
    for process in leftovers.processes_of(settings.home):
        try:
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.append((connection.laddr.ip, connection.laddr.port, f"{process.pid} {process.name()}"))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
    return found


def is_loopback(address: str) -> bool:
    """Java shows an IPv4 address as an IPv6 one."""
    return address.removeprefix("::ffff:") in ("127.0.0.1", "::1")


def _sockets(settings: Settings) -> Finding:
    sockets = listening(settings)
    open_to_others = [f"{address}:{port} ({who})" for address, port, who in sockets if not is_loopback(address)]
    if open_to_others:
        what = f"reachable from other machines: {', '.join(open_to_others)}"
        return Finding(
            "listening sockets", False, what, "run ./assay down and tell the maintainers which service it is"
        )
    return Finding("listening sockets", True, f"{len(sockets)}, all on 127.0.0.1")


def _strays(settings: Settings) -> Finding:
    if supervision.is_running(settings):
        return Finding("left-over processes", True, "supervisord looks after its services")
    strays = [str(process.pid) for process in leftovers.processes_of(settings.home)]
    if not strays:
        return Finding("left-over processes", True, "none")
    what = f"services without a supervisord: {', '.join(strays)}"
    return Finding("left-over processes", False, what, "run ./assay up or ./assay down; both end them")


def _catalog(file: Path) -> Finding:
    if not file.exists():
        return Finding("Iceberg catalog", True, "not made yet; ./assay up makes it")
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as connection:
            tables = connection.execute("select count(*) from iceberg_tables").fetchone()[0]
            sound = connection.execute("pragma quick_check").fetchone()[0]
    except sqlite3.Error as error:
        return Finding(
            "Iceberg catalog", False, f"{file} cannot be read: {error}", "restore it from a copy of the home"
        )
    if sound != "ok":
        return Finding("Iceberg catalog", False, f"{file} is damaged: {sound}", "restore it from a copy of the home")
    return Finding("Iceberg catalog", True, f"{tables} tables and views in {file}")


def _password(settings: Settings) -> Finding:
    name, file = "ClickHouse password", settings.services_dir / "clickhouse.password"
    if settings.is_external("clickhouse-password"):
        return Finding(name, True, "from CLICKHOUSE_PASSWORD")
    if not file.exists():
        return Finding(name, True, "not made yet; ./assay up makes it")
    mode = file.stat().st_mode & 0o777
    if mode != 0o600 or file.stat().st_uid != os.getuid():
        return Finding(name, False, f"{file} can be read by others (mode {mode:o})", f"run chmod 600 {file}")
    return Finding(name, True, "readable by its owner only")
