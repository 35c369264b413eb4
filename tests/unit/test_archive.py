"""The archive: nothing received is lost, every version counts once, and what cannot be read is kept with its reason."""

import gzip
import hashlib
import os
import select
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from foundation.contract import Contract
from foundation.settings import Settings, load
from intake import archive
from intake.archive import (
    Version,
    archive_arrivals,
    known_days,
    listing,
    mark_in_bronze,
    newest_versions,
    unknown_to_ledger,
    versions,
    waiting_versions,
)
from tests.unit.feeds import FEED, FIRST, HEADER, csv_bytes, day_number, forked, put

A, B = csv_bytes("a"), csv_bytes("b")


def of_first_day(settings: Settings) -> list[Version]:
    """Every version of the first day's files in the ledger."""
    return newest_versions(settings, FEED, [FIRST])[FIRST]


def archived_bytes(settings: Settings, version: Version) -> bytes:
    """The bytes of a version, which are those that its hash says."""
    content = version.archived(settings).read_bytes()
    assert hashlib.sha256(content).hexdigest() == version.sha256
    return content


def archived_files(settings: Settings) -> list[str]:
    return sorted(file.name for file in (settings.archive / FEED).iterdir())


def test_a_file_is_copied_with_its_bytes_day_and_size(settings: Settings, contract: Contract) -> None:
    source = put(settings, A)
    (version,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, version) == A == source.read_bytes()
    assert (version.path, version.day, version.size) == (f"{FEED}/ds=2013-01-01/events.csv", FIRST, len(A))
    assert (version.state, version.reason, version.bronze_snapshot) == ("accepted", None, None)
    assert of_first_day(settings) == [version]


def test_an_arrival_is_noted_at_the_platforms_time(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_NOW", "2013-01-02T07:00:00-05:00")
    settings = load()
    put(settings, A)
    archive_arrivals(settings, contract)
    with archive._ledger(settings) as connection:
        arrived = connection.execute(versions.select()).one().arrived_at
    assert arrived.replace(tzinfo=UTC) == datetime(2013, 1, 2, 12, tzinfo=UTC)


def test_a_file_that_returns_to_old_bytes_is_a_third_version(settings: Settings, contract: Contract) -> None:
    for content in (A, B, A):
        put(settings, content)
        assert len(archive_arrivals(settings, contract)) == 1
    found = of_first_day(settings)
    assert [archived_bytes(settings, version) for version in found] == [A, B, A]
    assert [version.sequence for version in found] == sorted({version.sequence for version in found})
    assert len(archived_files(settings)) == 2


def test_nothing_new_makes_no_version(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    assert len(archive_arrivals(settings, contract)) == 1
    assert unknown_to_ledger(settings, contract) == []
    assert archive_arrivals(settings, contract) == []


def test_touching_a_file_makes_no_version_and_is_read_once(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    archive_arrivals(settings, contract)
    put(settings, A)
    assert len(unknown_to_ledger(settings, contract)) == 1
    assert archive_arrivals(settings, contract) == []
    assert unknown_to_ledger(settings, contract) == [], "its new time was noted"
    assert len(of_first_day(settings)) == 1


def test_the_same_bytes_under_two_paths_are_two_versions_of_one_archived_file(
    settings: Settings, contract: Contract
) -> None:
    put(settings, A, name="one.csv")
    put(settings, A, name="two.csv")
    put(settings, A, day_number(1), name="one.csv")
    assert len(archive_arrivals(settings, contract)) == 3
    assert len(archived_files(settings)) == 1


def test_a_file_that_its_sender_takes_back_stays_in_the_archive(settings: Settings, contract: Contract) -> None:
    source = put(settings, A)
    archive_arrivals(settings, contract)
    source.unlink()
    assert archive_arrivals(settings, contract) == []
    assert [archived_bytes(settings, version) for version in of_first_day(settings)] == [A]


def test_only_the_days_asked_for_are_archived(settings: Settings, contract: Contract) -> None:
    for number in range(3):
        put(settings, csv_bytes("a", day=day_number(number)), day_number(number))
    assert [version.day for version in archive_arrivals(settings, contract, [day_number(1)])] == [day_number(1)]
    assert [version.day for version in archive_arrivals(settings, contract)] == [FIRST, day_number(2)]


PACKED = gzip.compress(csv_bytes(*(f"code{number}" for number in range(1000))), mtime=0)
REJECTED: dict[str, tuple[str, bytes, str]] = {
    "truncated gzip": ("x.csv.gz", PACKED[:-20], "damaged gzip"),
    "gzip with a flipped bit": ("x.csv.gz", PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:], "damaged gzip"),
    "gzip with a broken middle": ("x.csv.gz", PACKED[:200] + b"\xff" * 50 + PACKED[250:], "damaged gzip"),
    "no gzip at all": ("x.csv.gz", A, "damaged gzip"),
    "empty": ("x.csv", b"", "empty file"),
    "empty gzip": ("x.csv.gz", gzip.compress(b"", mtime=0), "empty file"),
    "no bytes of gzip": ("x.csv.gz", b"", "empty file"),
    "missing column": ("x.csv", b"day,code\n2013-01-01,a\n", "lacks amount"),
    "extra column": ("x.csv", b"day,code,amount,more\n2013-01-01,a,1,2\n", "has unknown more"),
    "renamed column": ("x.csv", b"day,code,sum\n2013-01-01,a,1\n", "lacks amount and has unknown sum"),
    "reordered columns": ("x.csv", b"code,day,amount\na,2013-01-01,1\n", "another order"),
    "column twice": ("x.csv", b"day,code,amount,amount\n2013-01-01,a,1,1\n", "header"),
    "no header": ("x.csv", b"2013-01-01,a,1\n", "lacks day, code, amount"),
    "only a line break": ("x.csv", b"\n", "lacks day, code, amount"),
    "derived column sent": ("x.csv", f"{HEADER},double_amount\n".encode(), "has unknown double_amount"),
    "not UTF-8": ("x.csv", "day,code,amount\xe9\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("x.csv", A.decode().encode("utf-16"), "not UTF-8"),
    "gzip bomb": ("x.csv.gz", gzip.compress(A + b"0" * 30_000_000, mtime=0), "unpacks to more than"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_read_is_rejected_with_a_reason_and_kept(
    settings: Settings, contract: Contract, name: str
) -> None:
    file, content, reason = REJECTED[name]
    (settings.landing / FEED / "ds=2013-01-01").mkdir(parents=True)
    (settings.landing / FEED / "ds=2013-01-01" / file).write_bytes(content)
    (version,) = archive_arrivals(settings, contract)
    assert version.state == "rejected"
    assert reason in (version.reason or "")
    assert archived_bytes(settings, version) == content
    assert waiting_versions(settings, FEED, 0) == []
    assert archive_arrivals(settings, contract) == [], "it is judged once"


def test_a_rejected_file_does_not_keep_the_others_back(settings: Settings, contract: Contract) -> None:
    put(settings, b"", name="a.csv")
    put(settings, A, name="b.csv")
    assert [version.state for version in archive_arrivals(settings, contract)] == ["rejected", "accepted"]


def test_a_corrected_file_is_accepted_after_a_rejected_one(settings: Settings, contract: Contract) -> None:
    for content in (b"", A):
        put(settings, content)
        archive_arrivals(settings, contract)
    assert [version.state for version in of_first_day(settings)] == ["rejected", "accepted"]


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "byte order mark": ("x.csv", b"\xef\xbb\xbf" + A),
        "Windows line ends": ("x.csv", A.replace(b"\n", b"\r\n")),
        "quoted header": ("x.csv", A.replace(b"day,code", b'"day","code"')),
        "header only": ("x.csv", f"{HEADER}\n".encode()),
        "header without a line end": ("x.csv", HEADER.encode()),
        "no UTF-8 below the header": ("x.csv", A + b"2013-01-01,\xe9,1\n"),
        "gzip in two parts": ("x.csv.gz", gzip.compress(A, mtime=0) + gzip.compress(b"2013-01-01,z,1\n", mtime=0)),
        "well packed, no bomb": ("x.csv.gz", gzip.compress(csv_bytes(*["a" * 50] * 10_000), mtime=0)),
    }.values(),
)
def test_what_can_be_read_is_accepted(settings: Settings, contract: Contract, name: str, content: bytes) -> None:
    (settings.landing / FEED / "ds=2013-01-01").mkdir(parents=True)
    (settings.landing / FEED / "ds=2013-01-01" / name).write_bytes(content)
    (version,) = archive_arrivals(settings, contract)
    assert (version.state, version.reason) == ("accepted", None)
    # Spark chooses by the suffix whether to unpack.
    assert version.archived(settings).name.endswith(name.removeprefix("x"))


@pytest.mark.parametrize(
    "name",
    [
        "two words.csv",
        "it's.csv",
        'so-called "events".csv',
        "100%.csv",
        "%s%d{}.csv",
        "✈️🛫.csv",
        "a\nb.csv",
        "ümlaut.csv",
    ],
)
def test_a_file_may_have_any_name(settings: Settings, contract: Contract, name: str) -> None:
    put(settings, A, name=name)
    (version,) = archive_arrivals(settings, contract)
    assert version.path == f"{FEED}/ds=2013-01-01/{name}"
    assert archived_bytes(settings, version) == A
    assert archive_arrivals(settings, contract) == []


def test_what_is_no_file_of_a_day_is_not_listed(settings: Settings, contract: Contract) -> None:
    put(settings, A, "2013-99-99")
    put(settings, A, "2013-02-29")
    put(settings, A, "2013-1-1")
    put(settings, A, "today")
    put(settings, A, name=".hidden.csv")
    put(settings, A, name="_SUCCESS")
    put(settings, A, name="events.csv.tmp")
    (settings.landing / FEED / "ds=2013-01-01" / "folder.csv").mkdir()
    (settings.landing / FEED / "ds=2013-01-01" / "gone.csv").symlink_to("nowhere")
    (settings.landing / FEED / "lost.csv").write_bytes(A)
    (settings.landing / FEED / "ds=2013-01-02").write_bytes(A)
    assert listing(settings, contract) == []
    assert archive_arrivals(settings, contract) == []


def test_a_feed_that_never_sent_anything_has_no_files(settings: Settings, contract: Contract) -> None:
    assert listing(settings, contract) == []
    assert archive_arrivals(settings, contract) == []


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_call(
    settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(settings, A)
    synchronise = os.fsync

    def write_on(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", synchronise)
        with source.open("ab") as file:
            file.write(b"2013-01-01,more,1\n")

    monkeypatch.setattr(os, "fsync", write_on)
    assert archive_arrivals(settings, contract) == []
    assert archived_files(settings) == []
    (version,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, version) == A + b"2013-01-01,more,1\n"


def killed_in(name: str, owner: object, after: bool) -> Callable[[], None]:
    """Makes a function kill its process, before or after it did its work."""
    original = getattr(owner, name)

    def kill(*arguments: object, **named: object) -> None:
        if after:
            original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return lambda: setattr(owner, name, kill)


@pytest.mark.parametrize(
    ("name", "owner", "after"),
    [
        pytest.param("fsync", os, False, id="while copying"),
        pytest.param("_fault", archive, True, id="between copy and rename"),
        pytest.param("replace", Path, True, id="between rename and ledger"),
        pytest.param("_record", archive, False, id="before the ledger"),
        pytest.param("_record", archive, True, id="after the ledger"),
    ],
)
def test_an_archiver_that_is_killed_leaves_one_version_to_the_next(
    settings: Settings, contract: Contract, name: str, owner: object, after: bool
) -> None:
    put(settings, A)

    def work() -> None:
        killed_in(name, owner, after)()
        archive_arrivals(settings, contract)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == -signal.SIGKILL
    archive_arrivals(settings, contract)
    (version,) = of_first_day(settings)
    assert archived_bytes(settings, version) == A
    assert archive_arrivals(settings, contract) == []


def test_archivers_at_once_give_every_file_one_version(settings: Settings, contract: Contract) -> None:
    for number in range(12):
        put(settings, csv_bytes("a", day=day_number(number)), day_number(number))
    workers = [forked(lambda: archive_arrivals(settings, contract)) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers] == [0] * 4
    found = newest_versions(settings, FEED, [day_number(number) for number in range(12)])
    assert [len(of_day) for of_day in found.values()] == [1] * 12


def many(settings: Settings, count: int) -> list[int]:
    """Writes so many accepted versions into the ledger and returns their sequences."""
    with archive._ledger(settings) as connection:
        connection.execute(
            versions.insert(),
            [
                {
                    "feed": FEED,
                    "ds": day_number(number % 365),
                    "path": f"{FEED}/{number}.csv",
                    "sha256": f"{number:064}",
                    "size": 1,
                    "mtime_ns": 1,
                    "state": "accepted",
                    "arrived_at": datetime(2013, 1, 1, tzinfo=UTC),
                }
                for number in range(count)
            ],
        )
    return [version.sequence for version in waiting_versions(settings, FEED, 0)]


def test_thousands_of_versions_wait_and_are_marked_at_once(settings: Settings) -> None:
    sequences = many(settings, 2_345)
    assert len(sequences) == 2_345
    mark_in_bronze(settings, sequences[:-1], 42)
    (left,) = waiting_versions(settings, FEED, 0)
    assert left.sequence == sequences[-1]
    marked = [
        version for of_day in newest_versions(settings, FEED, known_days(settings, FEED)).values() for version in of_day
    ]
    assert sum(version.bronze_snapshot == 42 for version in marked) == 2_344


def test_waiting_versions_come_oldest_first_and_after_the_given_one(settings: Settings) -> None:
    sequences = many(settings, 20)
    assert sequences == sorted(sequences)
    assert [version.sequence for version in waiting_versions(settings, FEED, sequences[14])] == sequences[15:]
    assert waiting_versions(settings, "another", 0) == []


def test_marking_none_changes_nothing(settings: Settings) -> None:
    many(settings, 3)
    mark_in_bronze(settings, [], 42)
    assert len(waiting_versions(settings, FEED, 0)) == 3


def test_a_day_without_a_file_has_an_empty_list(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    archive_arrivals(settings, contract)
    found = newest_versions(settings, FEED, [FIRST, FIRST + timedelta(days=5)])
    assert [len(of_day) for of_day in found.values()] == [1, 0]
    assert newest_versions(settings, FEED, []) == {}


def test_known_days_are_those_with_an_accepted_file(settings: Settings, contract: Contract) -> None:
    put(settings, b"", day_number(0))
    put(settings, csv_bytes("a", day=day_number(2)), day_number(2))
    put(settings, csv_bytes("a", day=day_number(1)), day_number(1))
    archive_arrivals(settings, contract)
    assert known_days(settings, FEED) == [day_number(1), day_number(2)]


def test_one_header_of_a_megabyte_is_rejected_and_the_next_file_accepted(
    settings: Settings, contract: Contract
) -> None:
    put(settings, b"x" * 1_000_000, name="a.csv")
    put(settings, A, name="b.csv")
    assert [version.state for version in archive_arrivals(settings, contract)] == ["rejected", "accepted"]


def test_a_name_that_is_no_utf8_does_not_keep_the_others_back(settings: Settings, contract: Contract) -> None:
    put(settings, A, name=os.fsdecode(b"caf\xe9.csv"))
    put(settings, A, name="z.csv")
    assert "z.csv" in [version.path.rpartition("/")[2] for version in archive_arrivals(settings, contract)]


def test_a_file_is_archived_under_the_last_suffix_of_its_name(settings: Settings, contract: Contract) -> None:
    put(settings, A, name="events.gz.csv")
    (version,) = archive_arrivals(settings, contract)
    assert version.state == "accepted"
    assert not version.archived(settings).name.endswith(".gz"), "Spark would unpack what is not packed"


def test_a_file_that_a_corrected_contract_can_read_is_accepted_when_it_is_sent_again(
    settings: Settings, contract: Contract
) -> None:
    wider = csv_bytes("a").replace(b"amount", b"amount,note").replace(b",1\n", b",1,x\n")
    put(settings, wider)
    assert [version.state for version in archive_arrivals(settings, contract)] == ["rejected"]
    note = replace(contract.columns[2], name="note", spark_type="string")
    corrected = replace(contract, columns=(*contract.received, note))
    put(settings, wider)
    archive_arrivals(settings, corrected)
    assert of_first_day(settings)[-1].state == "accepted"


def test_two_first_users_of_a_ledger_do_not_disturb_each_other(settings: Settings) -> None:
    look = SQLiteDialect.has_table
    others: list[int] = []

    def look_and_be_overtaken(*arguments: Any, **named: Any) -> bool:
        seen = look(*arguments, **named)
        if not others:
            reader, writer = os.pipe()
            patch.undo()
            others.append(forked(lambda: (known_days(settings, FEED), os.write(writer, b"done"))))
            select.select([reader], [], [], 1)  # no longer, as it may rightly wait for us
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteDialect, "has_table", look_and_be_overtaken)
        try:
            assert known_days(settings, FEED) == []
        finally:
            codes = [os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) for other in others]
    assert codes == [0]
