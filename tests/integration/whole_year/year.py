"""The whole year in an environment of its own: tables, landing, archive and ledger that no other test's files get into.

Belongs here: making it, once for all tests that need it (the fixtures stand in conftest.py). Does not belong here: tests.
It goes with the stack's home, and stays in one that is kept.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from foundation.contract import find_contract
from foundation.settings import Settings
from intake import vendor
from spark_assets.bronze import ingest
from spark_assets.publish import SilverWrite, refine

ENVIRONMENT = "totals"
DAYS = [date(2013, 1, 1) + timedelta(days=number) for number in range(365)]
FEEDS = ("airlines", "airports", "planes", "weather", "flights")


class Elsewhere(Settings):
    """The stack's engines and catalog; names, landing, archive and ledger of its own."""

    @property
    def folder(self) -> Path:
        return self.home / ENVIRONMENT

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"


@dataclass(frozen=True)
class Year:
    """Settings whose tables hold the year, and what became of each feed."""

    settings: Settings
    written: dict[str, SilverWrite]


def settings_of_year(stack: Settings) -> Settings:
    """The stack's settings, of the year's environment."""
    settings = Elsewhere(home=stack.home, ASSAY_ENV=ENVIRONMENT)  # pyright: ignore[reportCallIssue]
    settings.folder.mkdir(exist_ok=True)
    return settings


def load_year(stack: Settings) -> Year:
    """The vendor's files of all feeds but the schedule, through Bronze to Silver."""
    settings = settings_of_year(stack)
    return Year(settings, {feed: load(settings, feed, DAYS) for feed in FEEDS})


def load(settings: Settings, feed: str, days: list[date]) -> SilverWrite:
    """One feed's files through Bronze to Silver; whole, if it is sent whole."""
    contract = find_contract(feed)
    chosen = days if contract.days else None
    vendor.land(settings, contract, sorted(set(days) & set(vendor.days_of(feed))) if chosen else ())
    assert not [part.error for part in ingest(settings, contract, chosen, {}).parts.values() if part.error]
    return refine(settings, contract, chosen, {})
