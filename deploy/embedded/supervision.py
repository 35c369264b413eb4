"""Talking to this home's supervisord.

Belongs here: its configuration file, starting it, and its calls. Does not belong here: what the programs are
(`programs`) and when they are ready (`probes`).
"""

import hashlib
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from deploy.embedded.files import write_private
from deploy.embedded.leftovers import HOME, SERVICE
from deploy.embedded.programs import scratch
from foundation.errors import AssayError
from foundation.settings import PROJECT, Settings

START_SECONDS = 20
# The longest that a service may take to stop before it is killed; Spark and Trino take 1 to 3 s.
STOP_SECONDS = 25


def socket_file(settings: Settings) -> Path:
    """Where supervisord listens; beside its other files unless their path is too long for a socket."""
    folder = scratch(settings)
    return (folder.parent if folder.is_relative_to(settings.home) else folder) / "supervisord.sock"


def pid_file(settings: Settings) -> Path:
    return settings.services_dir / "supervisord.pid"


def log_file(settings: Settings, service: str) -> Path:
    return settings.services_dir / "logs" / f"{service}.log"


def connect(settings: Settings) -> Any:
    """The calls of supervisord. One connection per thread: it is not safe to share."""
    transport = SupervisorTransport(None, None, serverurl=f"unix://{socket_file(settings)}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor


def is_running(settings: Settings) -> bool:
    """Whether this home's supervisord answers."""
    return bool(running_pid(settings))


def running_pid(settings: Settings) -> int | None:
    """The process id of this home's supervisord, or None if none answers."""
    if not socket_file(settings).exists():
        return None
    try:
        return int(connect(settings).getPID())
    except (OSError, xmlrpc.client.Error):
        return None  # the socket of one that was killed


def write_configuration(settings: Settings, plans: Iterable[tuple[str, Path, str]]) -> Path:
    """Writes supervisord.conf for (service, plan file, plan text); a changed text makes a changed program.

    Raises:
        AssayError: the home's path has a percent sign, which supervisord expands twice.
    """
    folder = settings.services_dir
    if "%" in str(folder):
        raise AssayError(
            f"supervisord cannot work in {settings.home}, which has a % in it", "set ASSAY_HOME to another folder"
        )
    lines = [
        "[unix_http_server]",
        f"file={_escaped(socket_file(settings))}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisord]",
        f"logfile={_escaped(folder / 'logs' / 'supervisord.log')}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"pidfile={_escaped(pid_file(settings))}",
        f"childlogdir={_escaped(folder / 'logs')}",
        "umask=077",
        "silent=true",
    ]
    if os.getuid() == 0:
        lines.append("user=0")  # said aloud, or supervisord warns
    for service, plan, text in plans:
        command = shlex.join([sys.executable, "-m", "deploy.embedded.launch", str(plan)])
        lines += [
            f"[program:{service}]",
            f"command={_escaped(command)}",
            f"directory={_escaped(PROJECT)}",
            f'environment=ASSAY_PLAN="{hashlib.sha256(text.encode()).hexdigest()}"',
            "autostart=false",
            "autorestart=true",
            "startsecs=5",
            "startretries=3",
            f"stopwaitsecs={STOP_SECONDS}",
            "stopasgroup=true",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escaped(log_file(settings, service))}",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
        ]
    file = folder / "supervisord.conf"
    write_private(file, "\n".join(lines) + "\n")
    return file


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


def start(settings: Settings, configuration: Path) -> None:
    """Starts supervisord as a daemon and waits until it answers.

    Raises:
        AssayError: it does not come up; with what it said.
    """
    socket_file(settings).unlink(missing_ok=True)
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(configuration)],
        cwd=PROJECT,
        env=os.environ | {HOME: str(settings.home), SERVICE: "supervisord"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log = settings.services_dir / "logs" / "supervisord.log"
    if ran.returncode != 0:
        raise AssayError(f"supervisord did not start: {ran.stdout.strip()}", f"read {log}")
    deadline = time.monotonic() + START_SECONDS
    while not is_running(settings):
        if time.monotonic() > deadline:
            raise AssayError(f"supervisord does not answer after {START_SECONDS} s", f"read {log}")
        time.sleep(0.05)


def reload(settings: Settings, report: Callable[[str], None]) -> None:
    """Makes a running supervisord follow its configuration file; stops the programs that changed or are gone."""
    calls = connect(settings)
    [[added, changed, removed]] = calls.reloadConfig()
    for name in [*changed, *removed]:
        report(f"{name}: its configuration changed; stopping the old one")
        calls.stopProcessGroup(name)
        calls.removeProcessGroup(name)
    for name in [*added, *changed]:
        calls.addProcessGroup(name)


def start_program(settings: Settings, service: str) -> None:
    """Starts one program and does not wait; a running one stays. One that keeps failing gets a new start."""
    if states(settings)[service]["statename"] in ("BACKOFF", "EXITED"):
        stop_program(settings, service)
    try:
        connect(settings).startProcess(service, False)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.ALREADY_STARTED:
            raise AssayError(
                f"{service} cannot be started: {fault.faultString}", f"read {log_file(settings, service)}"
            ) from fault


def stop_program(settings: Settings, service: str) -> None:
    """Stops one program and waits; a stopped one stays."""
    try:
        connect(settings).stopProcess(service, True)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise AssayError(f"{service} cannot be stopped: {fault.faultString}", "run ./assay down") from fault


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """What supervisord says of each program: statename, pid, start (seconds since 1970). Empty if it is down."""
    if not is_running(settings):
        return {}
    return {info["name"]: info for info in connect(settings).getAllProcessInfo()}


def shut_down(settings: Settings) -> None:
    """Stops all programs at once, then supervisord, and waits until it is gone."""
    pid = running_pid(settings)
    if pid is None:
        return
    calls = connect(settings)
    calls.stopAllProcesses(False)  # `shutdown` alone stops one program after the other
    deadline = time.monotonic() + STOP_SECONDS + 5
    while any(info["statename"] == "STOPPING" for info in calls.getAllProcessInfo()) and time.monotonic() < deadline:
        time.sleep(0.1)
    calls.shutdown()
    try:
        psutil.Process(pid).wait(timeout=STOP_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        return  # the caller ends what is left
