"""Landing to archive: every version of every file is kept, by hash, and the ledger says what arrived.

Belongs here: scanning `landing/<feed>/ds=<day>/`, copying to `archive/<feed>/<sha256>`, the ledger table. Does not belong
here: the rows' meaning, which Bronze and Silver judge.

A file's identity is its path, its version is (path, sequence): A→B→A is three versions of one file and two archived
files. The order is copy, rename, ledger row: a process killed between any two leaves at most a temporary file or an
archived file without a row, and the next scan does the rest again.
"""

import csv
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from foundation import clock
from foundation.contract import Contract
from foundation.lock import writer_lock
from foundation.settings import Settings

CHUNK = 1 << 20
# A header line longer than this is not a header.
HEADER_BYTES = 1 << 16
# Text may be 100 times its gzip, not 1,000: more is a bomb, and is refused before the disk notices.
MAX_EXPANSION = 200
ACCEPTED, REJECTED = "accepted", "rejected"

metadata = sa.MetaData()
versions = sa.Table(
    "file_versions",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("feed", sa.String, nullable=False),
    sa.Column("ds", sa.Date, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("bronze_snapshot", sa.BigInteger),
    sa.Index("file_versions_of_day", "feed", "ds"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class Landed:
    """A file in the landing folder. `path` is its identity: relative, and with bytes that are no UTF-8 escaped, as the
    ledger holds text; `mtime_ns` is in nanoseconds."""

    source: Path
    path: str
    day: date
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Version:
    """A row of the ledger. `reason` says why a rejected version does not reach Bronze; `bronze_snapshot` is the commit that
    brought an accepted one there, None if none did yet."""

    sequence: int
    feed: str
    day: date
    path: str
    sha256: str
    size: int
    mtime_ns: int
    state: str
    reason: str | None
    bronze_snapshot: int | None

    def archived(self, settings: Settings) -> Path:
        """Where its bytes are. The suffix stays, as Spark picks the codec by it."""
        return archived_file(settings, self.feed, self.sha256, self.path)


def archived_file(settings: Settings, feed: str, sha256: str, path: str) -> Path:
    """Where bytes are kept. Only a name that ends in .gz is taken for gzip, as `_fault` does."""
    return settings.archive / feed / (sha256 + (".csv.gz" if path.endswith(".gz") else ".csv"))


@cache
def _engine(url: str) -> sa.Engine:
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # 60 s: a scan of a whole year holds no lock, but a slow disk may hold the writer before us.
        engine = sa.create_engine(url, connect_args={"timeout": 60})
    else:
        engine = sa.create_engine(url)
    try:
        metadata.create_all(engine)
    except DBAPIError:
        metadata.create_all(engine)  # somebody else made the table between our look and our create; now it is there
    return engine


@contextmanager
def _ledger(settings: Settings) -> Iterator[sa.Connection]:
    with _engine(settings.ledger_url).begin() as connection:
        yield connection


def listing(settings: Settings, contract: Contract) -> list[Landed]:
    """The files of a feed's landing folder, by path. Folders that are no `ds=<day>` and hidden or temporary files
    (`.x`, `_x`, `x.tmp`, which vendors write before a rename) are not listed.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[Landed] = []
    root = settings.landing / contract.feed
    if not root.exists():
        return found
    for folder in sorted(root.iterdir()):
        match = re.fullmatch(r"ds=(\d{4}-\d{2}-\d{2})", folder.name)
        if not match or not folder.is_dir():
            continue
        day = _day(match.group(1))
        if day is None:
            continue
        for file in sorted(folder.iterdir()):
            if file.is_file() and not file.name.startswith((".", "_")) and not file.name.endswith(".tmp"):
                stat = file.stat()
                path = os.fsencode(file.relative_to(settings.landing)).decode("utf-8", "backslashreplace")
                found.append(Landed(file, path, day, stat.st_size, stat.st_mtime_ns))
    return found


def unknown_to_ledger(settings: Settings, contract: Contract) -> list[Landed]:
    """The landed files whose size or time differs from their newest version in the ledger. Reads no file."""
    known = {version.path: version for version in _newest(settings, contract.feed)}
    return [
        file
        for file in listing(settings, contract)
        if (seen := known.get(file.path)) is None or (seen.size, seen.mtime_ns) != (file.size, file.mtime_ns)
    ]


def archive_arrivals(
    settings: Settings, contract: Contract, days: Collection[date] | None = None, wait_seconds: float = 900
) -> list[Version]:
    """Copies what is new in landing to the archive and writes the ledger.

    Args:
        days: only these days' files; None is every day.
        wait_seconds: how long to wait for another archiver of the feed.

    Returns:
        The new versions, in the order they were given their sequence.

    A file that changes while it is copied is left for the next call: its writer is not done.
    """
    new: list[Version] = []
    # One archiver a feed: two would both give the same new file a sequence.
    with writer_lock(settings, f"archive.{contract.feed}", wait_seconds):
        for file in unknown_to_ledger(settings, contract):
            if days is not None and file.day not in days:
                continue
            version = _archive_one(settings, contract, file)
            if version is not None:
                new.append(version)
    return new


def newest_versions(settings: Settings, feed: str, days: Collection[date]) -> dict[date, list[Version]]:
    """Each day's files, every version of them, oldest first; days without a file have an empty list."""
    by_day: dict[date, list[Version]] = {day: [] for day in days}
    if not by_day:
        return by_day
    query = (
        sa.select(versions)
        .where(versions.c.feed == feed, versions.c.ds >= min(by_day), versions.c.ds <= max(by_day))
        .order_by(versions.c.sequence)
    )
    with _ledger(settings) as connection:
        for row in connection.execute(query):
            if row.ds in by_day:
                by_day[row.ds].append(_version(row))
    return by_day


def waiting_versions(settings: Settings, feed: str, after: int) -> list[Version]:
    """The accepted versions with a higher sequence than `after` that no commit to Bronze holds yet, oldest first."""
    query = sa.select(versions).where(
        versions.c.feed == feed,
        versions.c.state == ACCEPTED,
        versions.c.bronze_snapshot.is_(None),
        versions.c.sequence > after,
    )
    with _ledger(settings) as connection:
        return [_version(row) for row in connection.execute(query.order_by(versions.c.sequence))]


def mark_in_bronze(settings: Settings, sequences: Collection[int], snapshot_id: int) -> None:
    """Notes that a commit to Bronze holds these versions. Not noting it (a kill in between) costs one more run."""
    listed = sorted(sequences)
    with _ledger(settings) as connection:
        # 500 a statement: SQLite binds no more than 999 values.
        for start in range(0, len(listed), 500):
            chosen = versions.c.sequence.in_(listed[start : start + 500])
            connection.execute(versions.update().where(chosen).values(bronze_snapshot=snapshot_id))


def known_days(settings: Settings, feed: str) -> list[date]:
    """The days of which at least one version was accepted, in order."""
    query = sa.select(versions.c.ds).distinct().where(versions.c.feed == feed, versions.c.state == ACCEPTED)
    with _ledger(settings) as connection:
        return sorted(connection.execute(query.order_by(versions.c.ds)).scalars())


def _newest(settings: Settings, feed: str) -> list[Version]:
    latest = sa.select(sa.func.max(versions.c.sequence)).where(versions.c.feed == feed).group_by(versions.c.path)
    with _ledger(settings) as connection:
        rows = connection.execute(sa.select(versions).where(versions.c.sequence.in_(latest))).all()
    return [_version(row) for row in rows]


def _version(row: sa.Row) -> Version:
    return Version(
        row.sequence,
        row.feed,
        row.ds,
        row.path,
        row.sha256,
        row.size,
        row.mtime_ns,
        row.state,
        row.reason,
        row.bronze_snapshot,
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _archive_one(settings: Settings, contract: Contract, file: Landed) -> Version | None:
    source = file.source
    folder = settings.archive / contract.feed
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{os.getpid()}.part"
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, part.open("wb") as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        after = source.stat()
        if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
            return None
        reason = _fault(part, file.path, contract)
        part.replace(archived_file(settings, contract.feed, digest.hexdigest(), file.path))
    except FileNotFoundError:
        return None  # taken back by its sender between the listing and the copy
    finally:
        part.unlink(missing_ok=True)
    return _record(settings, contract, file, digest.hexdigest(), reason)


def _record(settings: Settings, contract: Contract, file: Landed, sha256: str, reason: str | None) -> Version | None:
    """Writes the ledger row, or only the file's time if its bytes are those of its newest version."""
    now: datetime = clock.now(settings)
    with _ledger(settings) as connection:
        of_path = sa.select(versions).where(versions.c.path == file.path).order_by(versions.c.sequence.desc())
        newest = connection.execute(of_path.limit(1)).first()
        # Bytes that were rejected are judged again when they are sent again: the contract may have been corrected.
        if newest is not None and newest.sha256 == sha256 and newest.reason == reason:
            connection.execute(
                versions.update()
                .where(versions.c.sequence == newest.sequence)
                .values(mtime_ns=file.mtime_ns, size=file.size)
            )
            return None
        values = {
            "feed": contract.feed,
            "ds": file.day,
            "path": file.path,
            "sha256": sha256,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "state": REJECTED if reason else ACCEPTED,
            "reason": reason,
            "arrived_at": now,
        }
        sequence = connection.execute(versions.insert().values(**values).returning(versions.c.sequence)).scalar_one()
        return _version(connection.execute(sa.select(versions).where(versions.c.sequence == sequence)).one())


def _fault(file: Path, path: str, contract: Contract) -> str | None:
    """Why a file cannot be read as its contract says, or None. Reads it once, in pieces; keeps none of it."""
    compressed = path.endswith(".gz")
    head = b""
    total = 0
    try:
        with gzip.open(file, "rb") if compressed else file.open("rb") as reader:
            while chunk := reader.read(CHUNK):
                total += len(chunk)
                if len(head) < HEADER_BYTES:
                    head += chunk
                if compressed and total > max(file.stat().st_size, 4096) * MAX_EXPANSION:
                    return f"unpacks to more than {MAX_EXPANSION} times its size"
                if not compressed and len(head) >= HEADER_BYTES:
                    break
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"damaged gzip: {error}"
    if not head:
        return "empty file"
    try:
        header = head.splitlines()[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"header is not UTF-8: {error.reason} at byte {error.start}"
    try:
        names = next(csv.reader([header]), [])
    except csv.Error as error:
        return f"header is no CSV: {error}"
    expected = [column.name for column in contract.received]
    if names == expected:
        return None
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    detail = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(extra)[:200]}"] * bool(extra)
    return f"header {' and '.join(detail) or 'has its columns in another order'}"
