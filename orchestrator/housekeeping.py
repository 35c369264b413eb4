"""Files of the home that nobody looks at any more: dbt's artifacts of each call, logs, what killed engines left.

Belongs here: which folders and files are old enough to go. Does not belong here: data (spark_assets, intake) and Dagster's
history (history.py). Ages are by the real clock: a file's time is real, `ASSAY_NOW` is the data's.
"""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.programs import SERVICES
from foundation.settings import Settings

DAY_SECONDS = 86_400
# What supervisord keeps of each service: it begins a new file at 10 MB.
LOG_BYTES = 10_000_000


@dataclass
class Removal:
    """What went: how many, and the bytes that everything looked at took before and takes now."""

    removed: int = 0
    before: int = 0
    after: int = 0


def prune_dbt_runs(settings: Settings, days: float, keep_last: int) -> Removal:
    """Deletes dbt's artifacts of calls older than some days, but for the newest of each target."""
    done = Removal()
    for runs in sorted(settings.dbt_target.glob("*/runs")):
        newest_first = sorted((run for run in runs.iterdir() if run.is_dir()), key=_changed, reverse=True)
        for number, run in enumerate(newest_first):
            _consider(done, run, number >= keep_last and _age_days(run) > days)
    return done


def prune_logs(settings: Settings, days: float) -> Removal:
    """Deletes logs of services that there are no more; shortens those that nobody rotates, such as the demo's and dbt's,
    to their last 10 MB."""
    done = Removal()
    rotated = (*SERVICES, "supervisord")
    if settings.base:
        return done  # the services are the base's, and so are their logs
    logs = settings.services_dir / "logs"
    for file in sorted(logs.iterdir()) if logs.exists() else []:
        if not file.name.startswith(tuple(f"{name}.log" for name in rotated)):
            _consider(done, file, _age_days(file) > days)
            if file.exists():
                _shorten(done, file)
    for file in sorted(settings.dbt_target.glob("*/dbt.log.*")):
        _consider(done, file, _age_days(file) > days)
    return done


def prune_scratch(settings: Settings, days: float) -> Removal:
    """Deletes what killed Sparks left in their scratch; a running one's folders change with every shuffle, and an idle one
    has nothing in them."""
    done = Removal()
    local = settings.home / "spark" / "local"
    started = _started(settings)
    for folder in sorted(local.iterdir()) if local.exists() else []:
        # Spark makes its folders as it starts: one from before the running one's start is another's.
        _consider(done, folder, _age_days(folder) > days and _changed(folder) < started)
    return done


def _started(settings: Settings) -> float:
    """When the running Spark started; now if none runs, never if it is not known."""
    from deploy.embedded import supervision

    spark = supervision.states(settings).get("spark")
    return float(spark["start"]) if spark and spark["pid"] else time.time()


def _consider(done: Removal, path: Path, remove: bool) -> None:
    size = size_of(path)
    done.before += size
    if not remove:
        done.after += size
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    done.removed += 1


def _shorten(done: Removal, file: Path) -> None:
    size = file.stat().st_size
    if size <= LOG_BYTES:
        return
    with file.open("r+b") as stream:
        # In place: a command that is writing goes on in the same file.
        stream.seek(size - LOG_BYTES)
        kept = stream.read(LOG_BYTES).partition(b"\n")[2]
        stream.seek(0)
        stream.write(kept)
        stream.truncate()
    done.removed += 1
    done.after -= size - len(kept)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files of a folder; files that vanish meanwhile count nothing."""
    return sum(_bytes(file) for file in (path.rglob("*") if path.is_dir() else [path]))


def total(removals: Iterable[Removal]) -> Removal:
    """Several removals as one."""
    whole = Removal()
    for one in removals:
        whole.removed, whole.before, whole.after = (
            whole.removed + one.removed,
            whole.before + one.before,
            whole.after + one.after,
        )
    return whole


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _age_days(path: Path) -> float:
    return (time.time() - _changed(path)) / DAY_SECONDS
