"""Dagster's home for a test, with the event log of a real one.

Its databases are made once and copied: to make them takes 0.3 s of CPU, and to copy them nothing.
"""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

CONFIG = """\
telemetry: {{enabled: false}}
event_log_storage:
  module: orchestrator.event_log
  class: BatchedSqliteEventLog
  config: {{base_dir: "{folder}/history/runs"}}
"""
# Dagster's own keeps what a step prints with two processes a step.
NO_PRINTS = "compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}\n"


def dagster_home(folder: Path, like: Path | None = None, prints: bool = False) -> Path:
    """Makes a home in a folder.

    Args:
        like: a home whose history it begins with, where no process has it open; None for none.
        prints: keep what steps print.
    """
    shutil.copytree(like or Path(_empty().name), folder, dirs_exist_ok=True)
    (folder / "dagster.yaml").write_text(CONFIG.format(folder=folder) + ("" if prints else NO_PRINTS))
    return folder


@cache
def _empty() -> TemporaryDirectory[str]:
    made = TemporaryDirectory()
    Path(made.name, "dagster.yaml").write_text(CONFIG.format(folder=made.name))
    with dg.DagsterInstance.from_config(made.name):
        return made
