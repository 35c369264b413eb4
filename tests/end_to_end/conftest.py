"""What the end-to-end tests share: the demo, which takes minutes and is run once."""

import pytest

from tests.conftest import Assay


@pytest.fixture(scope="session")
def demo(assay: Assay) -> str:
    """What the demo of January printed."""
    done = assay("demo", "--days", "31")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
