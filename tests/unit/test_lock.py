"""The lock: one writer at a time, over processes, and none left behind by a killed one."""

import os
import re
import signal
import threading
import time

import pytest

from foundation.errors import AssayError
from foundation.lock import writer_lock
from foundation.settings import Settings
from tests.unit.feeds import forked


def holder(settings: Settings, seconds: float) -> int:
    """A process that holds the lock, for some seconds or until it is killed; returns once it does."""
    reader, writer = os.pipe()

    def hold() -> None:
        with writer_lock(settings, "table", wait_seconds=0):
            os.write(writer, b"held")
            time.sleep(seconds)

    pid = forked(hold)
    assert os.read(reader, 4) == b"held"
    os.close(reader)
    os.close(writer)
    return pid


def test_a_second_writer_is_told_which_process_holds_the_lock(settings: Settings) -> None:
    pid = holder(settings, 60)
    try:
        with pytest.raises(AssayError) as refused, writer_lock(settings, "table", wait_seconds=0):
            pass
        assert re.search(rf"process {pid}\b", refused.value.what)
        assert "table" in refused.value.what
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_second_writer_waits_for_the_first(settings: Settings) -> None:
    pid = holder(settings, 0.3)
    with writer_lock(settings, "table", wait_seconds=30):
        # The first one let go before this one came in, and it ends by itself.
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_killed_holder_leaves_no_lock(settings: Settings) -> None:
    pid = holder(settings, 60)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with writer_lock(settings, "table", wait_seconds=0):
        pass


def test_a_holder_that_fails_leaves_no_lock(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), writer_lock(settings, "table", wait_seconds=0):
        raise ZeroDivisionError
    with writer_lock(settings, "table", wait_seconds=0):
        pass


def test_threads_exclude_each_other_too(settings: Settings) -> None:
    refused: list[AssayError] = []

    def attempt() -> None:
        try:
            with writer_lock(settings, "table", wait_seconds=0):
                pass
        except AssayError as error:
            refused.append(error)

    with writer_lock(settings, "table", wait_seconds=0):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_two_tables_have_two_writers(settings: Settings) -> None:
    with writer_lock(settings, "table", wait_seconds=0), writer_lock(settings, "other", wait_seconds=0):
        pass
