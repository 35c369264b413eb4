"""The year 2013 in an environment of its own, for what is asked of all of it."""

import pytest

from foundation.settings import Settings
from tests.conftest import Assay
from tests.integration.whole_year.year import DAYS, ENVIRONMENT, Year, load, load_year


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
