"""Becomes one service: the command that supervisord runs for every program.

Belongs here: what must happen at every start of a service, also when supervisord restarts it by itself. Does not belong
here: which command a service is: `programs` writes that to `<services>/launch/<service>.json` (mode 0600), which keeps
passwords out of command lines and out of supervisord's own file.

    python -m deploy.embedded.launch <services>/launch/<service>.json
"""

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from deploy.embedded.leftovers import end, processes_of

# Dagster tags with this the runs that its code server executes (1.13); a run of the command line has no such tag.
EXECUTED_BY_CODE_SERVER = ".dagster/grpc_info"
UNDER_WAY = ("STARTING", "STARTED", "CANCELING")


def main(file: Path) -> None:
    """Ends what an earlier life left (its children would keep the port), then becomes the service."""
    plan = json.loads(file.read_text())
    environment = {name: value for name, value in os.environ.items() if name not in plan["unset"]} | plan["environment"]
    end(processes_of(Path(environment["ASSAY_HOME"]), file.stem), _say)
    if file.stem == "dagster-code":
        fail_abandoned_runs(Path(environment["DAGSTER_HOME"]))
    os.chdir(plan["directory"])
    os.execve(plan["command"][0], plan["command"], environment)


def fail_abandoned_runs(dagster_home: Path) -> int:
    """Marks as failed the runs that the previous code server was executing; they would stay "started" for ever.

    Dagster's own run monitoring cannot see it: the launcher of a code server has no health check (1.13). A run left as
    "started" would keep its place in the queue, and two of them would stop the platform.
    """
    database = dagster_home / "history" / "runs.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        rows = connection.execute(
            "select r.run_id from runs r join run_tags t on t.run_id = r.run_id "
            f"where r.status in ({','.join('?' * len(UNDER_WAY))}) and t.key = ?",
            (*UNDER_WAY, EXECUTED_BY_CODE_SERVER),
        ).fetchall()
    if not rows:
        return 0
    # Imported here: it takes a second, and nearly every start has nothing to do.
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(dagster_home)) as instance:
        for (run_id,) in rows:
            run = instance.get_run_by_id(run_id)
            if run and not run.is_finished:
                _say(f"run {run_id} was under way when the code server ended: marked as failed")
                instance.report_run_failed(
                    run, "The services were stopped while this run was under way; start it again."
                )
    return len(rows)


def _say(text: str) -> None:
    print(f"[launch] {text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
