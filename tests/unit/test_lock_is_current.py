"""The lock holds what pyproject.toml asks for, so that nobody installs something else than was tested."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foundation.settings import PROJECT

LOCK = (PROJECT / "requirements.lock").read_text()
PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
ASKED = [*PROJECT_FILE["project"]["dependencies"], *PROJECT_FILE["dependency-groups"]["dev"]]


def pins() -> dict[str, str]:
    """Package to version, of every line that pins one."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", LOCK, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_for_is_pinned_in_a_version_that_fits(asked: str) -> None:
    requirement = Requirement(asked)
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned, f"{asked} is not in requirements.lock: lock again, as pyproject.toml says at its top"
    assert requirement.specifier.contains(pinned, prereleases=True), f"{asked}, but {pinned} is locked"


def test_every_pin_has_its_hashes() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    assert [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_address() -> None:
    assert "://" not in LOCK


def test_what_is_left_out_is_not_in_it() -> None:
    left_out = [
        line for line in (PROJECT / "excludes.txt").read_text().split("\n") if line and not line.startswith("#")
    ]
    assert not {canonicalize_name(name) for name in left_out} & set(pins())
