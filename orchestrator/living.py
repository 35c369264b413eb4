"""Which runs have a living process, and the end of those that have none.

Belongs here: the mark of a run under way, and failing a run whose process is gone. Does not belong here: the runs of a code
server that was restarted (deploy/embedded/launch.py).

A run that is killed (kill -9, no memory left, a machine switched off) says nothing more. For Dagster it goes on for ever and
keeps its place in its pool, and each later run that needs the pool waits for it without a word (1.13: run monitoring knows
only runs that were launched on other machines). The mark is a locked file: a lock ends with its process, however that ends.
"""

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO

import dagster as dg

FOLDER = "running"
GONE = "Its process ended without a word: it was killed, or the machine was stopped. Start it again."
# Until the process ends: Dagster writes that a run has ended after its executor is done.
_marks: list[IO[str]] = []


def mark(instance: dg.DagsterInstance, run_id: str) -> None:
    """Says that this process executes a run, until the process ends."""
    folder = _folder(instance)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{run_id}"
    held = fresh.open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    fresh.rename(folder / run_id)  # only now: nobody finds a mark that is not locked yet
    _marks.append(held)


def fail_gone(instance: dg.DagsterInstance) -> list[str]:
    """Marks as failed each run that is under way in a process that is gone, and gives back the places in pools of all runs that
    are over: a run that somebody else ended, as the webserver does by force, keeps its own.

    Returns:
        The ids of the runs that were marked as failed.
    """
    folder = _folder(instance)
    if folder is None:
        return []
    gone = [run_id for file in sorted(folder.glob("[!.]*")) if (run_id := _fail_if_gone(instance, file))]
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return gone


def _fail_if_gone(instance: dg.DagsterInstance, file: Path) -> str | None:
    with suppress(FileNotFoundError), file.open("r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # it lives
        run = instance.get_run_by_id(file.name)
        under_way = run is not None and not run.is_finished
        if run and under_way:
            instance.report_run_failed(run, GONE)
        file.unlink()
        return file.name if under_way else None
    return None


def _folder(instance: dg.DagsterInstance) -> Path | None:
    """Where the marks of this machine are; None where runs are launched on others, whose launcher looks after them, and where
    the instance ends with this process."""
    # Its configuration is asked: to make the launcher of a cluster fails outside of the cluster.
    launcher = instance.get_ref().run_launcher_data if instance.is_persistent else None
    here = launcher is not None and launcher.class_name == dg.DefaultRunLauncher.__name__
    return Path(instance.root_directory) / FOLDER if here else None
