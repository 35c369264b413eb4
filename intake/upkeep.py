"""Upkeep of archive and ledger.

Belongs here: what a killed archiver left, and free pages of the ledger. Does not belong here: archived files and the
ledger's rows: both are kept for ever, as nothing received is lost.
"""

import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from foundation.lock import writer_lock
from foundation.settings import Settings

# A copy of the largest file takes minutes. The archiver's lock is held here, so a `.part` that is older is nobody's.
PART_SECONDS = 3600
PART = re.compile(r"(\.\d+)?\.part")
# Less than this is not worth that every writer waits.
FREE_SHARE = 0.25


@dataclass(frozen=True)
class LedgerSize:
    """Bytes of the ledger's file before and after; both None if it is somebody else's database."""

    before: int | None
    after: int | None


def remove_parts(settings: Settings) -> list[Path]:
    """Deletes the temporary files of archivers that were killed, and returns them."""
    removed: list[Path] = []
    for folder in sorted(settings.archive.iterdir()) if settings.archive.exists() else []:
        with writer_lock(settings, f"archive.{folder.name}"):
            for file in sorted(folder.iterdir()):
                if PART.fullmatch(file.name) and time.time() - file.stat().st_mtime > PART_SECONDS:
                    file.unlink(missing_ok=True)
                    removed.append(file)
    return removed


def shrink_ledger(settings: Settings) -> LedgerSize:
    """Gives back the free pages of the embedded ledger, if there are many."""
    file = Path(settings.ledger_url.removeprefix("sqlite:///"))
    if settings.is_external("ledger") or not file.exists():
        return LedgerSize(None, None)
    before = file.stat().st_size
    # Waits for a writer as long as the archiver does; without transactions, as VACUUM wants it.
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
        (free,), (pages,) = (
            connection.execute(f"pragma {name}").fetchone() for name in ("freelist_count", "page_count")
        )
        if pages and free / pages > FREE_SHARE:
            connection.execute("vacuum")
    return LedgerSize(before, file.stat().st_size)
