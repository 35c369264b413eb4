"""One writer a table: the lock that Dagster's runs and the command line both honour.

Belongs here: taking and naming locks. Does not belong here: who needs one. A lock ends with its process, so a killed
writer leaves none behind.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import AssayError
from foundation.settings import Settings

POLL_SECONDS = 0.2


def writer_of(layer: str, table: str) -> str:
    """The name of the lock that the one writer of an Iceberg table holds: quarantine is written with Silver, and Gold by
    one dbt call at a time."""
    return {"quarantine": f"silver.{table}", "gold": "dbt.trino"}.get(layer, f"{layer}.{table}")


@contextmanager
def writer_lock(settings: Settings, name: str, wait_seconds: float = 900) -> Iterator[None]:
    """Holds the lock `name` of this home, waiting for another writer to finish.

    Args:
        wait_seconds: how long to wait; 900 is longer than a year's backfill of a table takes.

    Raises:
        AssayError: the other writer was not done in time; the message names its process.
    """
    if settings.read_only:
        raise AssayError(f"{name} would be written in {settings.home}, which is only read here", "write in the branch")
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as file:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise AssayError(
                        f"{name} is held by process {file.read().strip() or 'unknown'}, for longer than {wait_seconds:.0f} s",
                        "wait for it, or end it, then run this again",
                    ) from None
                time.sleep(POLL_SECONDS)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
