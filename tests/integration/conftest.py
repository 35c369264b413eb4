"""Tests here land files and refine them step by step: the landing sensors of the stack must leave that to them."""

from collections.abc import Iterator

import pytest

from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.sensors import COMMAND_LOCK


@pytest.fixture(scope="session")
def sensors_wait(stack: Settings) -> Iterator[None]:
    """Holds the lock that a landing command holds, so that no sensor requests runs of these tests' files."""
    with writer_lock(stack, COMMAND_LOCK):
        yield
