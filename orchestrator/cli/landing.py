"""`./assay land`: which days and feeds were meant, and what was sent.

Belongs here: the command's arguments. Does not belong here: what is in the files (intake/vendor.py).
"""

from datetime import date, timedelta
from pathlib import Path

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.settings import Settings
from intake.delivery import deliver
from intake.vendor import FEEDS, days_of, land

EVERYTHING = "everything"


def land_feed(settings: Settings, feed: str, first: date | None, last: date | None, way: str | None) -> None:
    """Sends a feed's first day through its last, or everything, and prints where the files are.

    Raises:
        AssayError: the vendor does not send that; nothing was sent.
    """
    if feed == EVERYTHING:
        if first or way:
            raise AssayError(
                "everything is the whole year, and takes neither a day nor --as",
                "type ./assay land everything, or name a feed: ./assay land flights 2013-01-15",
            )
        for contract in [find_contract(name) for name in FEEDS]:
            sent = land(settings, contract, days_of(contract.feed))
            print(f"{contract.feed}: {len(sent)} file{'s' * (len(sent) != 1)} in {settings.landing / contract.feed}")
        return
    if first and last and last < first:
        raise AssayError(f"{last} is before {first}", f"type ./assay land {feed} {last} {first}")
    days = [first + timedelta(days=number) for number in range(((last or first) - first).days + 1)] if first else []
    for file in land(settings, find_contract(feed), days, way):
        print(file)


def land_file(settings: Settings, feed: str, day: date | None, file: Path) -> None:
    """Lands a person's own file, and prints where its parts are.

    Raises:
        AssayError: see `intake.delivery.deliver`.
    """
    for landed in deliver(settings, find_contract(feed), file, day):
        print(landed)
