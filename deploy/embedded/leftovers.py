"""Which processes are this home's services, found by what is in their environment.

Belongs here: recognising and ending processes that supervisord does not (or no longer) know: children of a killed
service, services of a killed supervisord. Does not belong here: starting or stopping services in an orderly way
(`services`). Only a process whose environment names both this home and a service is ever touched, so neither a person's
shell (which has ASSAY_HOME but no ASSAY_SERVICE) nor another home's services are.
"""

from collections.abc import Callable
from pathlib import Path

import psutil

HOME = "ASSAY_HOME"
SERVICE = "ASSAY_SERVICE"
TERM_SECONDS = 10
KILL_SECONDS = 5


def processes_of(home: Path, service: str | None = None) -> list[psutil.Process]:
    """Running processes of a service of this home, or of all its services; never the caller or its parents."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        try:
            environment = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # it ended, or it is somebody else's: in both cases not ours to end
        owner = environment.get(SERVICE)
        if owner and environment.get(HOME) == str(home) and service in (None, owner):
            found.append(process)
    return found


def end(processes: list[psutil.Process], report: Callable[[str], None]) -> None:
    """Asks each to stop, then forces those that did not."""
    for process in processes:
        try:
            report(f"ending a left-over process: {process.pid} {process.name()}")
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=TERM_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=KILL_SECONDS)
