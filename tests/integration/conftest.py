"""Tests here land files and refine them step by step: the landing sensors of the stack must leave that to them."""

from collections.abc import Iterator

import pytest

from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.sensors import COMMAND_LOCK
from tests.integration.own_feeds import OwnFeeds


@pytest.fixture(scope="session")
def sensors_wait(stack: Settings) -> Iterator[None]:
    """Holds the lock that a landing command holds, so that no sensor requests runs of these tests' files."""
    with writer_lock(stack, COMMAND_LOCK):
        yield


@pytest.fixture(scope="module")
def feeds(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnFeeds]:
    """Feeds of a test module's own, taken out of the home after its last test."""
    made = OwnFeeds(stack, tmp_path_factory.mktemp("contracts"))
    yield made
    made.take_away()
