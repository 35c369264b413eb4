"""The archive: nothing received is lost, every version counts once, and what cannot be read is kept with its reason."""

import gzip
import hashlib
import os
import select
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from foundation.contract import Contract, load_contract
from foundation.errors import AssayError
from foundation.settings import Settings, load
from intake import archive
from intake.archive import (
    Version,
    archive_arrivals,
    listing,
    mark_in_bronze,
    mark_judged,
    newest_of_paths,
    rejected_files,
    rejudge,
    unfinished_versions,
    unknown_to_ledger,
    versions,
    versions_of,
)
from tests.unit.feeds import FEED, FIRST, HEADER, csv_bytes, day_number, forked, full_document, put, written

A, B = csv_bytes("a"), csv_bytes("b")
RULES, OTHER_RULES = "rules of today", "rules of tomorrow"


def of_first_day(settings: Settings) -> list[Version]:
    """Every version of the first day's files in the ledger."""
    return versions_of(settings, FEED, [FIRST])


def unfinished(settings: Settings, after: int = 0) -> list[Version]:
    """What is owed a run, under the rules of today."""
    return unfinished_versions(settings, FEED, after, RULES)


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
    assert (version.state, version.reason, version.header) == ("accepted", None, tuple(HEADER.split(",")))
    assert (version.bronze_snapshot, version.silver_snapshot, version.judged_by) == (None, None, None)
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


def test_what_cannot_be_read_is_kept_with_its_reason_and_judged_once(settings: Settings, contract: Contract) -> None:
    content = gzip.compress(A, mtime=0)[:-4]
    put(settings, A, name="x.csv.gz").write_bytes(content)
    (version,) = archive_arrivals(settings, contract)
    assert version.state == "rejected"
    assert "damaged gzip" in (version.reason or "")
    assert archived_bytes(settings, version) == content
    assert rejected_files(settings, FEED) == [version]
    assert archive_arrivals(settings, contract) == []


def test_a_rejected_file_does_not_keep_the_others_back(settings: Settings, contract: Contract) -> None:
    put(settings, b"", name="a.csv")
    put(settings, A, name="b.csv")
    assert [version.state for version in archive_arrivals(settings, contract)] == ["rejected", "accepted"]


def test_a_corrected_file_is_accepted_after_a_rejected_one(settings: Settings, contract: Contract) -> None:
    for content in (b"", A):
        put(settings, content)
        archive_arrivals(settings, contract)
    assert [version.state for version in of_first_day(settings)] == ["rejected", "accepted"]


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.gz.csv", "events"])
def test_only_what_is_called_gz_is_archived_as_gz(settings: Settings, contract: Contract, name: str) -> None:
    put(settings, A, name=name)
    (version,) = archive_arrivals(settings, contract)
    assert (version.state, version.reason) == ("accepted", None)
    # Spark chooses by the suffix whether to unpack.
    assert version.archived(settings).name.endswith(".gz") == name.endswith(".gz")


@pytest.mark.parametrize(
    "name",
    [
        "two words.csv",
        "a..b..csv",
        "ds=2013-01-02",
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


class Oddity(NamedTuple):
    """Something in the feed's landing folder, and the words that name it."""

    place: str
    make: Callable[[Path], object]
    named: str


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(A)


ODDITIES = {
    "a folder named like a file": Oddity("ds=2013-01-01/folder.csv", Path.mkdir, "is no file"),
    "a file named like a day's folder": Oddity("ds=2013-01-03", a_file, "is no folder of a day, such as ds=2013-01-15"),
    "a file beside the days' folders": Oddity("lost.csv", a_file, "is no folder of a day"),
    "a month that no year has": Oddity("ds=2013-13-45/x.csv", a_file, "is no folder of a day"),
    "a day that the year does not have": Oddity("ds=2013-02-29/x.csv", a_file, "is no folder of a day"),
    "a day without noughts": Oddity("ds=2013-1-1/x.csv", a_file, "is no folder of a day"),
    "a folder of another kind": Oddity("today/x.csv", a_file, "is no folder of a day"),
    "a folder whose name is no UTF-8": Oddity(os.fsdecode(b"ds=caf\xe9/x.csv"), a_file, "is no folder of a day"),
    "a link to nowhere": Oddity(
        "ds=2013-01-01/gone.csv", lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"
    ),
    "a link to itself": Oddity(
        "ds=2013-01-01/loop.csv", lambda path: path.symlink_to(path), "cannot be read: Too many"
    ),
    "a day's folder that links to nowhere": Oddity(
        "ds=2013-01-03", lambda path: path.symlink_to("nowhere"), "is no folder of a day"
    ),
    "a pipe, which would never end": Oddity("ds=2013-01-01/pipe.csv", os.mkfifo, "is no file"),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_what_is_no_file_of_a_day_is_named_and_its_neighbours_are_archived(
    settings: Settings, contract: Contract, name: str
) -> None:
    put(settings, A)
    put(settings, csv_bytes("b", day=day_number(1)), day_number(1))
    oddity = ODDITIES[name]
    oddity.make(settings.landing / FEED / oddity.place)
    (named,) = listing(settings, contract).misplaced
    first_part = "/".join(part for part in oddity.place.split("/") if "x.csv" not in part)
    assert named.startswith(f"{FEED}/{first_part} ".replace(os.fsdecode(b"\xe9"), "\\xe9"))
    assert oddity.named in named
    assert named.encode(), "it can be printed, and stored in a database"
    assert [version.day for version in archive_arrivals(settings, contract)] == [FIRST, day_number(1)]


@pytest.mark.parametrize("name", [".hidden.csv", "_SUCCESS", "events.csv.tmp"])
def test_what_a_vendor_has_not_finished_is_neither_listed_nor_named(
    settings: Settings, contract: Contract, name: str
) -> None:
    put(settings, A, name=name)
    found = listing(settings, contract)
    assert (found.files, found.misplaced) == ([], [])


@pytest.mark.parametrize("make", [a_file, lambda path: path.symlink_to("nowhere")], ids=["a file", "a link to nowhere"])
def test_a_feeds_folder_that_cannot_be_listed_is_named(
    settings: Settings, contract: Contract, make: Callable[[Path], object]
) -> None:
    settings.landing.mkdir(parents=True, exist_ok=True)
    make(settings.landing / FEED)
    (named,) = listing(settings, contract).misplaced
    assert named.startswith(f"{FEED} cannot be read: ")
    assert archive_arrivals(settings, contract) == []


def test_a_feed_that_never_sent_anything_has_no_files(settings: Settings, contract: Contract) -> None:
    found = listing(settings, contract)
    assert (found.files, found.misplaced) == ([], [])
    assert archive_arrivals(settings, contract) == []


def test_a_full_feeds_files_lie_in_its_own_folder_and_are_of_the_day_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_NOW", "2013-06-07T08:00:00Z")
    settings, contract = load(), load_contract(written(tmp_path, full_document()))
    a_file(settings.landing / FEED / "whole.csv")
    a_file(settings.landing / FEED / "ds=2013-01-01" / "x.csv")
    (version,) = archive_arrivals(settings, contract)
    assert (version.path, version.day) == (f"{FEED}/whole.csv", date(2013, 6, 7))
    assert listing(settings, contract).misplaced == [f"{FEED}/ds=2013-01-01 is no file"]


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
    put(settings, B, name="next.csv")
    (beside,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, beside) == B
    assert archived_files(settings) == [beside.sha256]
    (version,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, version) == A + b"2013-01-01,more,1\n"


def test_a_file_that_is_taken_back_before_it_is_copied_harms_no_neighbour(
    settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, A, name="a.csv")
    put(settings, B, name="b.csv")
    look = archive.listing

    def look_and_lose(*arguments: Any) -> Any:
        found = look(*arguments)
        found.files[0].source.unlink()
        return found

    monkeypatch.setattr(archive, "listing", look_and_lose)
    (version,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, version) == B


def test_a_nearly_full_disk_is_told_and_the_next_call_goes_on_where_it_ended(
    settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, A)
    usage = shutil.disk_usage(settings.landing)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=archive.DISK_RESERVE + len(A) - 1))
        with pytest.raises(AssayError) as told:
            archive_arrivals(settings, contract)
    assert f"landing/{FEED}/ds=2013-01-01/events.csv" in told.value.what
    assert str(settings.archive) in told.value.what
    assert "make room" in told.value.next_action
    assert of_first_day(settings) == []
    assert archived_files(settings) == []
    assert len(archive_arrivals(settings, contract)) == 1


def test_what_was_archived_before_the_disk_was_full_is_recorded_and_not_copied_again(
    settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, A, name="a.csv")
    put(settings, B, name="b.csv")
    usage = shutil.disk_usage(settings.landing)
    free = iter([usage, usage._replace(free=0)])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: next(free))
        with pytest.raises(AssayError):
            archive_arrivals(settings, contract)
    assert [archived_bytes(settings, version) for version in of_first_day(settings)] == [A]
    assert [archived_bytes(settings, version) for version in archive_arrivals(settings, contract)] == [B]


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
        pytest.param("disk_usage", shutil, True, id="before copying"),
        pytest.param("fsync", os, False, id="while copying"),
        pytest.param("fsync", os, True, id="after copying"),
        pytest.param("inspect", archive, True, id="between inspection and rename"),
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
    assert len(of_first_day(settings)) == (name == "_record" and after)
    archive_arrivals(settings, contract)
    (version,) = of_first_day(settings)
    assert archived_bytes(settings, version) == A
    assert archived_files(settings) == [version.sha256], "what the killed one left is gone"
    assert archive_arrivals(settings, contract) == []


def test_archivers_at_once_give_every_file_one_version(settings: Settings, contract: Contract) -> None:
    for number in range(12):
        put(settings, csv_bytes("a", day=day_number(number)), day_number(number))
    workers = [forked(lambda: archive_arrivals(settings, contract)) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers] == [0] * 4
    found = versions_of(settings, FEED, None)
    assert Counter(version.day for version in found) == Counter(day_number(number) for number in range(12))


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
    return [version.sequence for version in unfinished(settings)]


def test_thousands_of_versions_are_owed_a_run_and_marked_at_once(settings: Settings) -> None:
    sequences = many(settings, 2_345)
    assert len(sequences) == 2_345
    mark_in_bronze(settings, sequences[1:], 41)
    mark_judged(settings, sequences[2:], RULES, 42)
    assert [(version.sequence, version.bronze_snapshot) for version in unfinished(settings)] == [
        (sequences[0], None),
        (sequences[1], 41),
    ]
    found = Counter((v.bronze_snapshot, v.silver_snapshot, v.judged_by) for v in versions_of(settings, FEED, None))
    assert found == {(None, None, None): 1, (41, None, None): 1, (41, 42, RULES): 2_343}


def test_what_is_owed_a_run_comes_oldest_first_and_only_for_its_feed(settings: Settings) -> None:
    sequences = many(settings, 20)
    assert sequences == sorted(sequences)
    assert unfinished_versions(settings, "another", 0, RULES) == []


def test_an_accepted_version_is_owed_a_run_however_far_the_sensor_got(settings: Settings) -> None:
    sequences = many(settings, 3)
    assert [version.sequence for version in unfinished(settings, after=sequences[-1])] == sequences


def test_a_rejected_version_is_owed_a_run_until_the_sensor_got_there(settings: Settings, contract: Contract) -> None:
    put(settings, b"")
    (version,) = archive_arrivals(settings, contract)
    assert unfinished(settings, after=version.sequence - 1) == [version]
    assert unfinished(settings, after=version.sequence) == []


def test_what_silver_refused_is_owed_a_run_under_other_rules_only(settings: Settings) -> None:
    (sequence,) = many(settings, 1)
    mark_judged(settings, [sequence], RULES, None)
    assert unfinished(settings) == []
    (version,) = unfinished_versions(settings, FEED, 0, OTHER_RULES)
    assert (version.judged_by, version.silver_snapshot) == (RULES, None)
    mark_judged(settings, [sequence], OTHER_RULES, 7)
    assert unfinished_versions(settings, FEED, 0, RULES) == [], "Silver holds it, whatever the rules became"


def test_marking_none_changes_nothing(settings: Settings) -> None:
    many(settings, 3)
    before = versions_of(settings, FEED, None)
    mark_in_bronze(settings, [], 42)
    mark_judged(settings, [], RULES, 42)
    assert versions_of(settings, FEED, None) == before


def test_only_the_versions_of_the_days_asked_for_are_given(settings: Settings, contract: Contract) -> None:
    for number in range(3):
        put(settings, csv_bytes("a", day=day_number(number)), day_number(number))
    archive_arrivals(settings, contract)
    asked = [day_number(2), FIRST, FIRST + timedelta(days=50)]
    assert [version.day for version in versions_of(settings, FEED, asked)] == [FIRST, day_number(2)]
    assert versions_of(settings, FEED, []) == []
    assert versions_of(settings, "another", None) == []


def test_the_newest_version_of_each_file_is_known(settings: Settings, contract: Contract) -> None:
    put(settings, A, name="a.csv")
    put(settings, A, name="b.csv")
    archive_arrivals(settings, contract)
    put(settings, b"", name="a.csv")
    archive_arrivals(settings, contract)
    newest = [(Path(version.path).name, version.state) for version in newest_of_paths(settings, FEED)]
    assert newest == [("b.csv", "accepted"), ("a.csv", "rejected")]
    assert [Path(version.path).name for version in rejected_files(settings, FEED)] == ["a.csv"]


def test_a_name_that_is_no_utf8_does_not_keep_the_others_back(settings: Settings, contract: Contract) -> None:
    put(settings, A, name=os.fsdecode(b"caf\xe9.csv"))
    put(settings, B, name="z.csv")
    found = archive_arrivals(settings, contract)
    assert [Path(version.path).name for version in found] == [r"caf\xe9.csv", "z.csv"]
    assert [archived_bytes(settings, version) for version in found] == [A, B]
    assert archive_arrivals(settings, contract) == []


WIDER = csv_bytes("a").replace(b"amount", b"amount,note").replace(b",1\n", b",1,x\n")


def with_note(contract: Contract) -> Contract:
    """The contract after it gained a column."""
    note = replace(contract.columns[2], name="note", spark_type="string")
    return replace(contract, columns=(*contract.received, note))


def test_a_file_that_a_corrected_contract_can_read_is_accepted_when_it_is_sent_again(
    settings: Settings, contract: Contract
) -> None:
    put(settings, WIDER)
    assert [version.state for version in archive_arrivals(settings, contract)] == ["rejected"]
    put(settings, WIDER)
    archive_arrivals(settings, with_note(contract))
    assert of_first_day(settings)[-1].state == "accepted"


def test_a_rejected_file_becomes_a_new_version_once_the_contract_knows_its_columns(
    settings: Settings, contract: Contract
) -> None:
    put(settings, WIDER)
    (rejected,) = archive_arrivals(settings, contract)
    assert "has unknown note" in (rejected.reason or "")
    assert rejudge(settings, contract) == []
    (accepted,) = rejudge(settings, with_note(contract))
    assert (accepted.state, accepted.reason) == ("accepted", None)
    assert accepted.header == ("day", "code", "amount", "note")
    assert (accepted.path, accepted.sha256, accepted.day) == (rejected.path, rejected.sha256, rejected.day)
    assert accepted.sequence > rejected.sequence
    assert of_first_day(settings) == [rejected, accepted], "what was said of it before stays"
    assert unfinished(settings, after=accepted.sequence) == [accepted]
    assert rejudge(settings, with_note(contract)) == []
    assert archive_arrivals(settings, with_note(contract)) == [], "the file in landing is known"


def test_a_rejected_file_that_was_replaced_is_not_judged_again(settings: Settings, contract: Contract) -> None:
    for content in (WIDER, A):
        put(settings, content)
        archive_arrivals(settings, contract)
    assert rejudge(settings, with_note(contract)) == []


def test_an_archiver_and_a_second_look_at_rejected_files_do_not_work_at_once(
    settings: Settings, contract: Contract
) -> None:
    put(settings, WIDER)
    archive_arrivals(settings, contract)
    workers = [forked(lambda: rejudge(settings, with_note(contract))) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers] == [0] * 3
    assert [version.state for version in of_first_day(settings)] == ["rejected", "accepted"]


def test_two_first_users_of_a_ledger_do_not_disturb_each_other(settings: Settings) -> None:
    look = SQLiteDialect.has_table
    others: list[int] = []

    def look_and_be_overtaken(*arguments: Any, **named: Any) -> bool:
        seen = look(*arguments, **named)
        if not others:
            reader, writer = os.pipe()
            patch.undo()
            others.append(forked(lambda: (versions_of(settings, FEED, None), os.write(writer, b"done"))))
            select.select([reader], [], [], 1)  # no longer, as it may rightly wait for us
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteDialect, "has_table", look_and_be_overtaken)
        try:
            assert versions_of(settings, FEED, None) == []
        finally:
            codes = [os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) for other in others]
    assert codes == [0]


# As the platform's first version made it.
OLD_LEDGER = """
create table file_versions (
    sequence integer not null primary key autoincrement, feed varchar not null, ds date not null, path varchar not null,
    sha256 varchar not null, size bigint not null, mtime_ns bigint not null, state varchar not null, reason varchar,
    arrived_at datetime not null, bronze_snapshot bigint
)
"""


def make_old(settings: Settings) -> None:
    """Turns a home's ledger into one of the platform's first version."""
    kept = "sequence, feed, ds, path, sha256, size, mtime_ns, state, reason, arrived_at, bronze_snapshot"
    archive._engine(settings.ledger_url).dispose()
    archive._engine.cache_clear()
    engine = sa.create_engine(settings.ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table file_versions rename to newer"))
        connection.execute(sa.text("drop index file_versions_of_day"))
        connection.execute(sa.text(OLD_LEDGER))
        connection.execute(sa.text(f"insert into file_versions ({kept}) select {kept} from newer"))
        connection.execute(sa.text("drop table newer"))
    engine.dispose()


def test_an_older_ledger_gains_what_it_lacks_and_loses_nothing(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    put(settings, b"", name="empty.csv")
    archive_arrivals(settings, contract)
    before = of_first_day(settings)
    make_old(settings)
    assert of_first_day(settings) == [replace(version, header=None) for version in before]
    mark_judged(settings, [before[0].sequence], RULES, 9)
    assert [version.silver_snapshot for version in of_first_day(settings)] == [9, None]
    put(settings, B)
    (version,) = archive_arrivals(settings, contract)
    assert version.sequence > before[-1].sequence


def test_files_of_an_older_ledger_have_their_header_before_bronze_reads_them_again(
    settings: Settings, contract: Contract
) -> None:
    put(settings, A)
    put(settings, b"", name="empty.csv")
    archive_arrivals(settings, contract)
    before = of_first_day(settings)
    make_old(settings)
    assert archive_arrivals(settings, with_note(contract)) == [], "no new version: the file did not change"
    assert of_first_day(settings) == before


def test_two_first_users_of_an_older_ledger_do_not_disturb_each_other(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    archive_arrivals(settings, contract)
    make_old(settings)
    look = SQLiteDialect.get_columns

    def look_and_be_overtaken(*arguments: Any, **named: Any) -> Any:
        seen = look(*arguments, **named)
        patch.undo()
        assert os.waitstatus_to_exitcode(os.waitpid(forked(lambda: of_first_day(settings)), 0)[1]) == 0
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteDialect, "get_columns", look_and_be_overtaken)
        assert len(of_first_day(settings)) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that cannot be read by root")
def test_a_file_that_its_disk_does_not_give_keeps_no_neighbour_back(settings: Settings, contract: Contract) -> None:
    put(settings, A)
    # A process's memory cannot be read from its beginning: an input/output error, as of a broken disk.
    (settings.landing / FEED / "ds=2013-01-01" / "broken.csv").symlink_to("/proc/self/mem")
    (version,) = archive_arrivals(settings, contract)
    assert archived_bytes(settings, version) == A
    assert archived_files(settings) == [version.sha256]
