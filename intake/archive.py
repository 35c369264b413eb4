"""Landing to archive: every version of every file is kept, by hash, and the ledger says what arrived.

Belongs here: scanning `landing/<feed>/ds=<day>/` (of a full feed `landing/<feed>/`), copying to
`archive/<feed>/<sha256>`, the ledger table. Does not belong here: whether a file can be read (inspection) and what its
rows mean, which Bronze and Silver judge.

A file's identity is its path, its version is (path, sequence): A→B→A is three versions of one file and two archived
files. The order is copy, rename, ledger row: a process killed between any two leaves at most a temporary file or an
archived file without a row, and the next scan does the rest again.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from foundation import clock
from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake.inspection import inspect

log = logging.getLogger(__name__)
CHUNK = 1 << 20
# A copy leaves this much of the disk free: engines that run out of it damage more than one feed.
DISK_RESERVE = 1 << 30
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
    sa.Column("silver_snapshot", sa.BigInteger),
    sa.Column("judged_by", sa.String),
    sa.Column("header", sa.Text),
    sa.Index("file_versions_of_day", "feed", "ds"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class Landed:
    """A file in the landing folder. `path` is its identity: relative, and with bytes that are no UTF-8 escaped, as the
    ledger holds text; `day` is that of its folder, of a full feed the day it arrived; `mtime_ns` is in nanoseconds."""

    source: Path
    path: str
    day: date
    size: int
    mtime_ns: int


@dataclass
class Listing:
    """What stands in a feed's landing folder: files, and what is no file of any partition, each with the reason."""

    files: list[Landed] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Version:
    """A row of the ledger. `reason` says why a rejected version does not reach Bronze; `bronze_snapshot` and
    `silver_snapshot` are the commits that brought an accepted one there, None if none did yet; `judged_by` is the sign of
    the rules under which Silver last took or refused its rows; `header` has the columns of the file in its own order, None
    where each row names its own (JSON)."""

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
    silver_snapshot: int | None
    judged_by: str | None
    header: tuple[str, ...] | None
    arrived_at: datetime

    def archived(self, settings: Settings) -> Path:
        """Where its bytes are. The suffix stays, as Spark picks the codec by it."""
        return archived_file(settings, self.feed, self.sha256, self.path)


def archived_file(settings: Settings, feed: str, sha256: str, path: str) -> Path:
    """Where bytes are kept. Only a name that ends in .gz is taken for gzip, here and by whoever reads it."""
    return settings.archive / feed / (sha256 + (".gz" if path.endswith(".gz") else ""))


@cache
def _engine(url: str) -> sa.Engine:
    if url.startswith("sqlite:///"):
        if "mode=ro" not in url:
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # 60 s: a scan of a whole year holds no lock, but a slow disk may hold the writer before us.
        engine = sa.create_engine(url, connect_args={"timeout": 60})
    else:
        engine = sa.create_engine(url)
    try:
        metadata.create_all(engine)
    except DBAPIError:
        metadata.create_all(engine)  # somebody else made the table between our look and our create; now it is there
    _add_missing_columns(engine)
    return engine


def _add_missing_columns(engine: sa.Engine) -> None:
    """A ledger of an earlier version lacks columns; all that were ever added may be null."""
    there = {column["name"] for column in sa.inspect(engine).get_columns(versions.name)}
    for column in versions.columns:
        if column.name in there:
            continue
        kind = column.type.compile(engine.dialect)
        try:
            with engine.begin() as connection:
                connection.execute(sa.text(f"alter table {versions.name} add column {column.name} {kind}"))
        except DBAPIError:
            # somebody else added it between our look and our change, or it cannot be added
            if column.name not in {one["name"] for one in sa.inspect(engine).get_columns(versions.name)}:
                raise


@contextmanager
def _ledger(settings: Settings) -> Iterator[sa.Connection]:
    with _engine(settings.ledger_url).begin() as connection:
        yield connection


def listing(settings: Settings, contract: Contract) -> Listing:
    """The files of a feed's landing folder, by path. Hidden or temporary files (`.x`, `_x`, `x.tmp`, which vendors write
    before a rename) are not listed. What cannot be read or placed is named in `misplaced`, and harms no neighbour."""
    found = Listing()
    root = settings.landing / contract.feed
    if not os.path.lexists(root):
        return found
    if contract.days is None:
        today = clock.now(settings).date()
        for entry in _entries(settings, root, found):
            _place(settings, entry, today, found)
        return found
    for folder in _entries(settings, root, found):
        match = re.fullmatch(r"ds=(\d{4}-\d{2}-\d{2})", folder.name)
        day = _day(match.group(1)) if match else None
        if day is None or not folder.is_dir():
            found.misplaced.append(f"{_text_path(settings, folder)} is no folder of a day, such as ds=2013-01-15")
            continue
        for entry in _entries(settings, folder, found):
            _place(settings, entry, day, found)
    return found


def _entries(settings: Settings, folder: Path, found: Listing) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        found.misplaced.append(f"{_text_path(settings, folder)} cannot be read: {error.strerror}")
        return []
    return [entry for entry in entries if not is_unfinished(entry.name)]


def is_unfinished(name: str) -> bool:
    """Whether a file of landing is hidden or temporary by its name, and so nobody's."""
    return name.startswith((".", "_")) or name.endswith(".tmp")


def _place(settings: Settings, entry: Path, day: date, found: Listing) -> None:
    path = _text_path(settings, entry)
    try:
        stat = entry.stat()
    except OSError as error:  # a broken link, or gone since it was listed
        found.misplaced.append(f"{path} cannot be read: {error.strerror}")
        return
    if entry.is_file():
        found.files.append(Landed(entry, path, day, stat.st_size, stat.st_mtime_ns))
    else:
        found.misplaced.append(f"{path} is no file")


def _text_path(settings: Settings, path: Path) -> str:
    """A path below landing as text: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path.relative_to(settings.landing)).decode("utf-8", "backslashreplace")


def unknown_to_ledger(settings: Settings, contract: Contract) -> list[Landed]:
    """The landed files whose size or time differs from their newest version in the ledger. Reads no file."""
    files = listing(settings, contract).files
    if not files:
        return []
    # Of each file no more than is compared: a sensor asks twice a minute, and a year of hours is 9,000 files.
    query = sa.select(versions.c.path, versions.c.size, versions.c.mtime_ns)
    with _ledger(settings) as connection:
        rows = connection.execute(query.where(versions.c.sequence.in_(_newest_sequences(contract.feed))))
        known = {path: (size, mtime_ns) for path, size, mtime_ns in rows}
    return [file for file in files if known.get(file.path) != (file.size, file.mtime_ns)]


def archive_arrivals(
    settings: Settings, contract: Contract, days: Collection[date] | None = None, wait_seconds: float = 900
) -> list[Version]:
    """Copies what is new in landing to the archive and writes the ledger.

    Args:
        days: only these days' files; None is every day.
        wait_seconds: how long to wait for another archiver of the feed.

    Returns:
        The new versions, in the order they were given their sequence.

    Raises:
        AssayError: the disk is nearly full.

    A file that changes while it is copied, or cannot be read, is left for the next call: its writer is not done.
    """
    new: list[Version] = []
    # One archiver a feed: two would both give the same new file a sequence.
    with writer_lock(settings, f"archive.{contract.feed}", wait_seconds):
        _add_missing_headers(settings, contract)
        for file in unknown_to_ledger(settings, contract):
            if days is not None and file.day not in days:
                continue
            version = _archive_one(settings, contract, file)
            if version is not None:
                new.append(version)
    return new


def rejudge(settings: Settings, contract: Contract, day: date | None = None) -> list[Version]:
    """Looks again at the files (of a day) whose newest version was rejected, as the contract is now. Those that it can
    read become new versions of the same bytes, which are returned."""
    again: list[Version] = []
    with writer_lock(settings, f"archive.{contract.feed}"):
        for version in rejected_files(settings, contract.feed):
            if day not in (None, version.day):
                continue
            reason, header = inspect(version.archived(settings), version.path, contract, version.day)
            if reason is None:
                file = Landed(version.archived(settings), version.path, version.day, version.size, version.mtime_ns)
                accepted = _record(settings, contract, file, version.sha256, reason, header)
                again += [accepted] if accepted else []
    return again


def versions_of(settings: Settings, feed: str, days: Collection[date] | None) -> list[Version]:
    """Every version of a feed's files, oldest first; of some days, or all (None)."""
    query = sa.select(versions).where(versions.c.feed == feed).order_by(versions.c.sequence)
    if days is not None:
        if not days:
            return []
        query = query.where(versions.c.ds >= min(days), versions.c.ds <= max(days))
    chosen = None if days is None else set(days)
    with _ledger(settings) as connection:
        return [_version(row) for row in connection.execute(query) if chosen is None or row.ds in chosen]


def unfinished_versions(settings: Settings, feed: str, after: int, rules: str) -> list[Version]:
    """What a run is still owed for, oldest first: accepted versions that Silver neither holds nor refused under the rules of
    today, and rejected ones with a higher sequence than `after`, whose run is to say so.

    Args:
        rules: the sign of the rules of today.
    """
    refused = versions.c.judged_by == rules
    accepted = sa.and_(versions.c.state == ACCEPTED, versions.c.silver_snapshot.is_(None), refused.is_not(True))
    rejected = sa.and_(versions.c.state == REJECTED, versions.c.sequence > after)
    query = sa.select(versions).where(versions.c.feed == feed, sa.or_(accepted, rejected))
    with _ledger(settings) as connection:
        return [_version(row) for row in connection.execute(query.order_by(versions.c.sequence))]


def mark_in_bronze(settings: Settings, sequences: Collection[int], snapshot_id: int) -> None:
    """Notes that a commit to Bronze holds these versions. Not noting it (a kill in between) costs one more run."""
    _mark(settings, sequences, {"bronze_snapshot": snapshot_id})


def mark_judged(settings: Settings, sequences: Collection[int], rules: str, snapshot_id: int | None) -> None:
    """Notes that Silver was published from these versions, or (None) refused them, under rules of this sign."""
    _mark(settings, sequences, {"judged_by": rules} | ({"silver_snapshot": snapshot_id} if snapshot_id else {}))


def _mark(settings: Settings, sequences: Collection[int], values: dict[str, int | str]) -> None:
    listed = sorted(sequences)
    with _ledger(settings) as connection:
        # 500 a statement: SQLite binds no more than 999 values.
        for start in range(0, len(listed), 500):
            chosen = versions.c.sequence.in_(listed[start : start + 500])
            connection.execute(versions.update().where(chosen).values(**values))


def rejected_files(settings: Settings, feed: str) -> list[Version]:
    """The files whose newest version was rejected, in the order they arrived."""
    return [version for version in newest_of_paths(settings, feed) if version.state == REJECTED]


def newest_of_paths(settings: Settings, feed: str) -> list[Version]:
    """The newest version of each file, in the order they arrived."""
    query = sa.select(versions).where(versions.c.sequence.in_(_newest_sequences(feed))).order_by(versions.c.sequence)
    with _ledger(settings) as connection:
        return [_version(row) for row in connection.execute(query)]


def _newest_sequences(feed: str) -> sa.Select:
    return sa.select(sa.func.max(versions.c.sequence)).where(versions.c.feed == feed).group_by(versions.c.path)


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
        row.silver_snapshot,
        row.judged_by,
        _columns(row.header) if row.header else None,
        row.arrived_at.replace(tzinfo=row.arrived_at.tzinfo or UTC),  # SQLite keeps no zone; it was UTC
    )


# A feed's files have few headers, and the ledger one a file.
@lru_cache(maxsize=64)
def _columns(header: str) -> tuple[str, ...]:
    return tuple(json.loads(header))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _archive_one(settings: Settings, contract: Contract, file: Landed) -> Version | None:
    source = file.source
    folder = settings.archive / contract.feed
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".part"  # one name, as a feed has one archiver: what a killed one left is overwritten
    digest = hashlib.sha256()
    free = shutil.disk_usage(folder).free
    if free < file.size + DISK_RESERVE:
        raise AssayError(
            f"landing/{file.path} has {file.size >> 20} MB and the disk of {settings.archive} has {free >> 20} MB free, of "
            f"which {DISK_RESERVE >> 20} MB are kept for the engines",
            "make room on that disk; nothing is lost, the next look at landing goes on from here",
        )
    try:
        with part.open("wb") as writer:
            for chunk in _chunks(source):
                digest.update(chunk)
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        after = source.stat()
        if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
            return None
        reason, header = inspect(part, file.path, contract, file.day)
        part.replace(archived_file(settings, contract.feed, digest.hexdigest(), file.path))
    except FileNotFoundError:
        return None  # taken back by its sender between the listing and the copy
    except _Unreadable as error:
        log.warning("landing/%s cannot be read, its neighbours go on: %s", file.path, error)
        return None
    finally:
        part.unlink(missing_ok=True)
    return _record(settings, contract, file, digest.hexdigest(), reason, header)


class _Unreadable(Exception):
    pass


def _chunks(source: Path) -> Iterator[bytes]:
    """A landed file's bytes. Its errors are told from those of the disk that it is copied to, which end everything."""
    try:
        with source.open("rb") as reader:
            while chunk := reader.read(CHUNK):
                yield chunk
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _Unreadable(error.strerror) from error


def _add_missing_headers(settings: Settings, contract: Contract) -> None:
    """An earlier version of the platform did not note the header, and Bronze reads each file by its own."""
    if contract.format == "json":
        return
    lacking = sa.select(versions).where(
        versions.c.feed == contract.feed, versions.c.state == ACCEPTED, versions.c.header.is_(None)
    )
    with _ledger(settings) as connection:
        found = [_version(row) for row in connection.execute(lacking)]
    for version in found:
        if not version.archived(settings).exists():
            continue  # the earliest homes named archived files otherwise
        _, header = inspect(version.archived(settings), version.path, contract, version.day)
        if header:
            _mark(settings, [version.sequence], {"header": json.dumps(list(header))})


def _record(
    settings: Settings,
    contract: Contract,
    file: Landed,
    sha256: str,
    reason: str | None,
    header: Sequence[str] | None,
) -> Version | None:
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
            "header": json.dumps(list(header)) if header else None,
        }
        sequence = connection.execute(versions.insert().values(**values).returning(versions.c.sequence)).scalar_one()
        return _version(connection.execute(sa.select(versions).where(versions.c.sequence == sequence)).one())
