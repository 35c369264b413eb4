"""The services of a home: start them, stop them, say how they are.

Belongs here: `up`, `down`, `status` and what a person is told when a service does not come up. Does not belong here:
command lines (`programs`), ports (`ports`), supervisord's calls (`supervision`), what "ready" means (`probes`), and
finding out what is wrong with a machine (`doctor`).

Everything is under `<home>/services/`: addresses.json, clickhouse.password, supervisord.conf, launch/, logs/, tmp/.
"""

import fcntl
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Generator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.embedded import leftovers, ports, probes, programs, runtimes, supervision
from deploy.embedded.files import write_private
from foundation.errors import AssayError
from foundation.settings import Settings

Report = Callable[[str], None]
# A cold start of everything takes some 60 s of processor time: 30 to 40 s on two idle cores, and 190 s were seen on two
# cores with ten processes waiting.
READY_SECONDS = 480
POLL_SECONDS = 0.3
AFTER_CODE_SERVER = ("dagster-webserver", "dagster-daemon")
CODE_SERVER_SECONDS = 60
LOG_LINES = 15


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is. `ready`: it answers now. `state`: running, starting, stopping, stopped or failed."""

    name: str
    state: str
    ready: bool
    pid: int | None
    address: str
    memory_mb: int
    uptime_seconds: int


STATES = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "failed",
    "FATAL": "failed",
    "EXITED": "failed",
    "UNKNOWN": "failed",
    "STOPPING": "stopping",
    "STOPPED": "stopped",
}


def up(
    settings: Settings,
    report: Report,
    only: Collection[str] | None = None,
    progress: runtimes.Progress = lambda name, done, whole: None,
) -> None:
    """Starts what is not running and returns when everything asked for is ready. Doing it twice changes nothing.

    Args:
        settings: the home.
        report: told in one line what happens; may be called from several threads, one after the other.
        only: the services to start (names of `programs.SERVICES`); the default is all that this home runs itself.
        progress: told the bytes of downloads, see `runtimes.ensure`.

    Raises:
        AssayError: a part cannot be fetched, a port is taken, a service does not come up.
    """
    wanted = _wanted(settings, only)
    parts = None
    if any(name in programs.embedded(settings) for name in ("spark", "trino")):
        parts = runtimes.ensure(settings.cache, report, progress)
    settings.services_dir.mkdir(parents=True, exist_ok=True)
    with _lock(settings, report):
        programs.prepare_home(settings)
        if not supervision.is_running(settings):
            # Services whose supervisord was killed: nobody would restart or stop them.
            leftovers.end(leftovers.processes_of(settings.home), report)
        running = [name for name, info in supervision.states(settings).items() if info["pid"]]
        addresses = ports.assign(settings, [ports.PORT_NAMES.get(name, name) for name in running], report)
        plans = [
            (program.name, *programs.write_plan(settings, program))
            for program in programs.programs(settings, addresses, parts)
        ]
        configuration = supervision.write_configuration(settings, plans)
        if supervision.is_running(settings):
            supervision.reload(settings, report)
        else:
            supervision.start(settings, configuration)
        logs = {name: _size(log_file(settings, name)) for name in wanted}
        for name in wanted:
            if name not in AFTER_CODE_SERVER and not supervision.states(settings)[name]["pid"]:
                report(f"{name}: starting")
                supervision.start_program(settings, name)
        _wait_until_ready(settings, wanted, addresses, logs, report)


@contextmanager
def resting(settings: Settings, name: str) -> Generator[None]:
    """One service is stopped within, and ready again afterwards. If this process is killed, the next `up` starts it."""
    if name in programs.embedded(settings):
        supervision.stop_program(settings, name)
    try:
        yield
    finally:
        if name in programs.embedded(settings):
            up(settings, lambda text: None, only=[name])


def down(settings: Settings, report: Report = lambda text: None) -> None:
    """Stops every service of this home and waits until no process of it is left. Doing it twice changes nothing."""
    if not settings.services_dir.exists():
        return
    with _lock(settings, report):
        supervision.shut_down(settings)
        leftovers.end(leftovers.processes_of(settings.home), report)
        for file in (supervision.socket_file(settings), supervision.pid_file(settings), _ready_file(settings)):
            file.unlink(missing_ok=True)
        shutil.rmtree(programs.scratch(settings), ignore_errors=True)  # what killed services left there


def status(settings: Settings) -> list[ServiceStatus]:
    """How every service of this home is, within a second."""
    addresses = ports.read(settings)
    states = supervision.states(settings)
    return [_status(settings, name, states.get(name), addresses) for name in programs.embedded(settings)]


def log_file(settings: Settings, service: str) -> Path:
    """Where a service's output goes.

    Raises:
        AssayError: there is no such service.
    """
    if service not in (*programs.SERVICES, "supervisord"):
        raise AssayError(f"There is no service {service!r}", f"use one of {', '.join(programs.SERVICES)}")
    return supervision.log_file(settings, service)


def _wanted(settings: Settings, only: Collection[str] | None) -> list[str]:
    ours = programs.embedded(settings)
    unknown = [name for name in only or () if name not in ours]
    if unknown:
        raise AssayError(f"{', '.join(unknown)} is no service that this home runs", f"use some of {', '.join(ours)}")
    return [name for name in ours if only is None or name in only]


@contextmanager
def _lock(settings: Settings, report: Report) -> Generator[None]:
    with (settings.services_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another command is starting or stopping the services; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Waiting --------------------------------------------------------------------------------------------------------------


def _wait_until_ready(
    settings: Settings, wanted: list[str], addresses: dict[str, int], logs: dict[str, int], report: Report
) -> None:
    stop = threading.Event()
    speak = threading.Lock()
    known = _read_ready(settings)

    def say(text: str) -> None:
        with speak:
            report(text)

    def one(name: str) -> tuple[str, list[float]]:
        return name, _wait_for(settings, name, addresses, logs[name], known.get(name), say, stop)

    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        try:
            futures = [pool.submit(one, name) for name in wanted]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failures = [failure for future in done if (failure := future.exception())]
        finally:
            stop.set()
    ready = known | dict(future.result() for future in futures if not future.exception())
    write_private(_ready_file(settings), json.dumps(ready))
    if failures:
        raise failures[0]


def _wait_for(
    settings: Settings,
    name: str,
    addresses: dict[str, int],
    log_start: int,
    known: list[float] | None,
    say: Report,
    stop: threading.Event,
) -> list[float]:
    """Waits for a service; returns [pid, start] of the ready process: the next `up` need not probe it fully."""
    if name in AFTER_CODE_SERVER and not supervision.states(settings)[name]["pid"]:
        _start_after_code_server(settings, name, addresses, say, stop)
    began = time.monotonic()
    first_pid = 0
    reason = "it did not start"
    while True:
        info = supervision.states(settings).get(name)
        if info is None:
            raise AssayError("supervisord ended while the services started", "run ./assay up again")
        identity = [info["pid"], info["start"]]
        first_pid = first_pid or info["pid"]
        restarted = info["pid"] not in (0, first_pid)
        if restarted or info["statename"] in ("BACKOFF", "FATAL", "EXITED", "UNKNOWN", "STOPPED"):
            # Stopped, or supervisord would start a service that cannot live again and again.
            supervision.stop_program(settings, name)
            raise _died(settings, name, log_start)
        try:
            if identity == known and probes.answers(name, addresses, info["pid"]):
                return identity
            probes.is_ready(settings, name, addresses, info["pid"], info["start"])
            if identity != known:
                say(f"{name}: ready after {time.monotonic() - began:.1f} s")
            return identity
        except probes.NotReady as not_ready:
            reason = str(not_ready)
        if time.monotonic() - began > READY_SECONDS:
            raise AssayError(
                f"{name} is not ready after {READY_SECONDS} s ({reason}); the end of its log is:\n"
                + "\n".join(relevant_lines(_log_since(settings, name, log_start))),
                f"read {log_file(settings, name)}, or run ./assay up again to wait longer",
            )
        if stop.wait(POLL_SECONDS):
            raise AssayError(f"{name} was not ready yet when another service failed", "run ./assay up again")


def _start_after_code_server(
    settings: Settings, name: str, addresses: dict[str, int], say: Report, stop: threading.Event
) -> None:
    """The webserver and the daemon work without it, but begin with pages of "connection refused" in their logs."""
    patience = time.monotonic() + CODE_SERVER_SECONDS
    while time.monotonic() < patience and (pid := supervision.states(settings)["dagster-code"]["pid"]):
        if probes.answers("dagster-code", addresses, pid) or stop.wait(POLL_SECONDS):
            break
    say(f"{name}: starting")
    supervision.start_program(settings, name)


def _died(settings: Settings, name: str, log_start: int) -> AssayError:
    lines = relevant_lines(_log_since(settings, name, log_start))
    said = "its log says:\n" + "\n".join(lines) if lines else "its log says nothing"
    return AssayError(f"{name} ended while it started; {said}", f"read {log_file(settings, name)}")


ERROR_LINE = re.compile(
    r"(^|[\s.:(])\w*(Error|Exception|FATAL|Fatal|panic)\b|Caused by|already in use|No space left", re.MULTILINE
)
# Frames of a stack say where, not what.
PYTHON_FRAME = re.compile(r"^\s*File \".*\n(\s{4,}.*\n)*", re.MULTILINE)
NOISE_LINE = re.compile(r"^\s+at [\w.$/@]+\(|^\s+\.\.\. \d+ (more|common)|^\s*$")


def relevant_lines(log: str, limit: int = LOG_LINES) -> list[str]:
    """The lines of a log that say why: the first that names an error, then the last ones, without stack frames."""
    lines = [line.rstrip() for line in PYTHON_FRAME.sub("", log).splitlines() if not NOISE_LINE.search(line)]
    first = next((number for number, line in enumerate(lines) if ERROR_LINE.search(line)), None)
    if first is None or len(lines) - first <= limit:
        return lines[first if first is not None else -limit :][:limit]
    return [lines[first], "…", *lines[-(limit - 2) :]]


def _log_since(settings: Settings, name: str, start: int) -> str:
    file = log_file(settings, name)
    if not file.exists():
        return ""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(start if start <= size else 0)  # smaller than before: supervisord began a new file
        return stream.read().decode(errors="replace")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _ready_file(settings: Settings) -> Path:
    return settings.services_dir / "ready.json"


def _read_ready(settings: Settings) -> dict[str, list[float]]:
    file = _ready_file(settings)
    return json.loads(file.read_text()) if file.exists() else {}


# Status ---------------------------------------------------------------------------------------------------------------


def _status(settings: Settings, name: str, info: dict[str, Any] | None, addresses: dict[str, int]) -> ServiceStatus:
    state = STATES[info["statename"]] if info else "stopped"
    pid = info["pid"] if info and info["pid"] else None
    return ServiceStatus(
        name=name,
        state=state,
        ready=pid is not None and probes.answers(name, addresses, pid),
        pid=pid,
        address=programs.address(settings, name, addresses),
        memory_mb=memory_mb(pid) if pid else 0,
        uptime_seconds=int(time.time() - info["start"]) if info and pid else 0,
    )


def memory_mb(pid: int) -> int:
    """The resident memory of a process and its children; pages that they share count for each."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # a run ended meanwhile
    return total // 2**20
