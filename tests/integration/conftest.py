"""Tests here land files and refine them step by step: the landing sensors of the stack must leave that to them."""

from collections.abc import Iterator

import pytest

from foundation.contract import find_contract
from foundation.lock import writer_lock
from foundation.settings import Settings
from intake import vendor
from orchestrator.sensors import COMMAND_LOCK
from spark_assets.bronze import ingest
from spark_assets.publish import refine


@pytest.fixture(scope="session")
def sensors_wait(stack: Settings) -> Iterator[None]:
    """Holds the lock that a landing command holds, so that no sensor requests runs of these tests' files."""
    with writer_lock(stack, COMMAND_LOCK):
        yield


@pytest.fixture(scope="session")
def airports_in_silver(stack: Settings, sensors_wait: None) -> None:
    """Silver of flights and schedule reads the destinations' zones there."""
    airports = find_contract("airports")
    vendor.land(stack, airports)
    ingest(stack, airports, None, {})
    refine(stack, airports, None, {})
