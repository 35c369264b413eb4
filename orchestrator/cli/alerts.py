"""`./assay alerts`: what is open and who was told, and a message to try the addresses.

Belongs here: how it reads. Does not belong here: finding problems and sending (orchestrator/alert_*.py).
"""

from datetime import UTC, datetime

from rich.console import Console

from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.alert_delivery import addresses, of_owner, send
from orchestrator.alert_sensor import recall
from orchestrator.alerts import headline
from orchestrator.cli.printing import print_table

NOT_SET = "ASSAY_ALERTS is not set: problems stand in the log of the sensor `alerts` only (docs/operator.md, Alerts)"


def print_alerts(settings: Settings, console: Console) -> None:
    """A line an open problem, and what waits to be sent."""
    import dagster as dg

    if not settings.dagster_home.exists():
        raise AssayError(
            f"The services of {settings.home} were never started, so nothing was looked at", "run ./assay up"
        )
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        memory = recall(instance)
    if settings.alerts is None:
        console.print(f"{NOT_SET}.", markup=False, soft_wrap=True)
    if memory is None:
        console.print("The sensor `alerts` has not looked yet. Next: ./assay up, or ./assay resume")
        return
    lines = [("since", "owner", "told", "at", "problem", "next")]
    for told in sorted(memory.open.values(), key=lambda one: one.problem.since):
        problem = told.problem
        took = ", ".join(told.to) or "nobody yet"
        lines.append(
            (_when(problem.since), ", ".join(problem.owners), took, _when(told.at), headline(problem), problem.next)
        )
    if len(lines) > 1:
        print_table(console, lines)
    count = len(memory.open)
    console.print(f"{count} problem{' is' if count == 1 else 's are'} open.")
    for letter in memory.letters:
        why = f"{letter.refused}; tried again at {_when(letter.due)}" if letter.refused else "not sent yet"
        console.print(f"Waits for {letter.owner}: {letter.title}. {why}", markup=False, soft_wrap=True)


def send_test(settings: Settings, console: Console) -> bool:
    """Sends a message to every address; True if all took it.

    Raises:
        AssayError: there is no address.
    """
    book = addresses(settings)
    if not book:
        raise AssayError("ASSAY_ALERTS is not set", "set it as docs/operator.md says under Alerts")
    lines, good = [("owner", "address", "answer")], True
    for address in book:
        owners = ", ".join(address.owners)
        why = send(address, "Assay: a test", f"This address is told of the problems of {owners}. Nothing is wrong.")
        good = good and not why
        lines.append((owners, address.name, why or "took it"))
    print_table(console, lines)
    return good


def finding(settings: Settings) -> tuple[bool, str]:
    """What `./assay doctor` says: whether it is all right, and how it is."""
    try:
        book = addresses(settings)
    except AssayError as error:
        return False, str(error)
    if not book:
        return True, NOT_SET
    owners = sorted({owner for address in book for owner in address.owners})
    everybody = "" if of_owner(book, "*") else "; owners without an address are not told, as * has none"
    return True, f"{len(book)} addresses, of {', '.join(owners)}{everybody}"


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
