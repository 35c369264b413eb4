"""docs/tutorial.md, as a stranger types it: its own code blocks, in order, in a platform that they make themselves.

Belongs here: that each block succeeds and prints what the page promises. Does not belong here: what the commands do
otherwise.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from foundation.settings import PROJECT, load
from tests.conftest import SHELL

PAGE = PROJECT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:```\n(.*?)^```)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """What is typed, and lines that it prints."""

    typed: str
    promised: list[str]


def blocks() -> list[Block]:
    """The page's commands, in its order."""
    return [Block(typed, promised.splitlines()) for typed, promised in BLOCK.findall(PAGE.read_text())]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The shell of somebody with a home of their own, whose platform uses this project's packages and runtimes."""
    shop = tmp_path / "shop"
    # Not yet there; once it is, its code comes before that of the project whose virtual environment it borrows.
    yield {**SHELL, "HOME": str(tmp_path), "PYTHONPATH": str(shop), "ASSAY_CACHE": str(load().cache), "COLUMNS": "200"}
    if (shop / ".assay").exists():
        environment = {**SHELL, "PYTHONPATH": str(shop), "ASSAY_CACHE": str(load().cache)}
        subprocess.run([shop / "assay", "down"], cwd=shop, env=environment, check=True, capture_output=True)


def test_every_block_of_the_tutorial_succeeds_and_prints_what_the_page_says(
    tmp_path: Path, stranger: dict[str, str]
) -> None:
    folder = PROJECT
    asked = blocks()
    assert len(asked) >= 8
    for block in asked:
        script = f"set -e\n{block.typed}\npwd > {tmp_path}/folder\n"
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=stranger, capture_output=True, text=True)
        assert done.returncode == 0, f"{block.typed}\n{done.stdout}{done.stderr}"
        printed = {line.strip() for line in done.stdout.splitlines()}
        missing = [line for line in block.promised if not any(line.strip() in one for one in printed)]
        assert missing == [], f"{block.typed}\n{done.stdout}"
        folder = Path((tmp_path / "folder").read_text().strip())
        # Its own would take a minute and 2.7 GB.
        if folder != PROJECT and not (folder / ".venv").exists():
            (folder / ".venv").symlink_to(PROJECT / ".venv")
    assert (tmp_path / "shop" / "chart.png").read_bytes().startswith(b"\x89PNG")
    lint = [PROJECT / ".venv/bin/sqlfluff", "lint", "dbt_project/models"]
    linted = subprocess.run(lint, cwd=tmp_path / "shop", env=stranger, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
