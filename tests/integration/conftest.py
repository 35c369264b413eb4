"""Tests here land files and refine them step by step: the landing sensors of the stack must leave that to them."""

from collections.abc import Iterator

import pytest

from foundation.lock import writer_lock
from foundation.settings import Settings
from orchestrator.sensors import COMMAND_LOCK
from tests.conftest import Assay
from tests.integration.own_feeds import OwnFeeds
from tests.integration.year import DAYS, ENVIRONMENT, Year, load, load_year


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


@pytest.fixture(scope="session")
def year(stack: Settings) -> Year:
    """The whole year in Silver, in an environment of its own."""
    return load_year(stack)


@pytest.fixture(scope="session")
def gold_of_year(year: Year, assay: Assay) -> Settings:
    """Gold and the warehouse of the year, in the same environment."""
    # Only which flights were planned depends on the schedule, and nothing asks that of the year.
    load(year.settings, "schedule", DAYS[:3])
    made = ("--resource-type", "seed", "--resource-type", "model")
    done = assay("dbt", "build", *made, env={"ASSAY_ENV": ENVIRONMENT})
    assert done.returncode == 0, done.stdout + done.stderr
    return year.settings
