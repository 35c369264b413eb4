"""What tests of flights and schedule need first: their transforms read the destinations' zones in Silver's airports."""

import pytest

from foundation.contract import find_contract
from foundation.settings import Settings
from intake import vendor
from spark_assets.bronze import ingest
from spark_assets.publish import refine


@pytest.fixture(scope="module")
def airports_in_silver(stack: Settings, sensors_wait: None) -> None:
    """A delivery of airports, refined."""
    airports = find_contract("airports")
    vendor.land(stack, airports)
    ingest(stack, airports, None, {})
    refine(stack, airports, None, {})
