"""Sending messages to the addresses of ASSAY_ALERTS, by Apprise.

Belongs here: reading the addresses, sending, trying again. Does not belong here: what is said (alerts). No address is ever
printed or logged but for its scheme and host: the rest of it may be a password or a token.
https://appriseit.com/getting-started/configuration/
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import AssayError
from foundation.settings import Settings, alert_entries
from orchestrator.alerts import EVERYBODY, Memory

# A sensor's tick is killed after 60 s: the last message begins before 40 and ends within 10 more.
SEND_SECONDS = 10
TICK_SECONDS = 40
# Then each hour, until the message is a day old.
RETRY_AFTER_SECONDS = (120, 600, 3_600)
KEPT_SECONDS = 86_400
MENDED = "correct it in the environment or the home's settings.env, then ./assay alerts --test"


@dataclass(frozen=True)
class Address:
    """Where an owner is told. `name` may be shown; `sign` tells it from others; `service` is Apprise's."""

    owners: tuple[str, ...]
    name: str
    sign: str
    service: Any


def addresses(settings: Settings) -> list[Address]:
    """The addresses, none if ASSAY_ALERTS is not set.

    Raises:
        AssayError: an entry or the file cannot be read.
    """
    if settings.alerts is None:
        return []
    import apprise

    # Nothing of a message is kept on disk.
    asset = apprise.AppriseAsset(storage_mode=apprise.PersistentStoreMode.MEMORY)
    value = settings.alerts.get_secret_value()
    entries = alert_entries(value)
    if entries is None:
        file = Path(value).expanduser()
        if not file.is_file():
            raise AssayError(f"ASSAY_ALERTS names the file {file}, which is not there", MENDED)
        config = apprise.AppriseConfig(asset=asset)
        config.add(str(file))
        found = [_address(tuple(str(tag) for tag in service.tags), service) for service in config.services()]
        if not found:
            raise AssayError(f"{file} of ASSAY_ALERTS has no address that Apprise understands", MENDED)
        return found
    services = [(owner, apprise.Apprise.instantiate(url, asset=asset)) for owner, url in entries]
    wrong = [f"{owner} (number {number})" for number, (owner, service) in enumerate(services, 1) if service is None]
    if wrong:
        raise AssayError(f"ASSAY_ALERTS: Apprise understands no address of {', '.join(wrong)}", MENDED)
    return [_address((owner,), service) for owner, service in services]


def _address(owners: tuple[str, ...], service: Any) -> Address:
    shown = urlsplit(service.url(privacy=True))
    name = f"{shown.scheme}://{shown.netloc.rpartition('@')[2]}"
    sign = hashlib.sha256(service.url().encode()).hexdigest()[:12]
    # In a file an address without a tag is for everybody who has none.
    return Address(owners or (EVERYBODY,), name, sign, service)


def of_owner(book: Sequence[Address], owner: str) -> list[Address]:
    """The addresses of an owner; of one who has none, those of `*`."""
    return [one for one in book if owner in one.owners] or [one for one in book if EVERYBODY in one.owners]


def send(address: Address, title: str, body: str, kind: str = "info") -> str:
    """Sends a message; returns why it was not taken, nothing if it was.

    Args:
        kind: `info`, `warning` or `success`, which services show by a colour or a sign.
    """
    import apprise

    # Plain text, which Apprise turns into what a service wants: names have underscores and errors have stars and angle
    # brackets, so as Markdown they would have to be escaped, and could not be copied.
    sender = apprise.Apprise(asset=address.service.asset)
    sender.add(address.service)
    began = time.monotonic()
    result = sender.notify(
        body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT, timeout=SEND_SECONDS
    )
    return "" if result else f"{result.status.name.lower()} after {time.monotonic() - began:.1f} s"


def deliver(
    memory: Memory,
    book: Sequence[Address],
    now: float,
    began: float,
    save: Callable[[], None],
    warn: Callable[[str], None],
) -> None:
    """Sends the letters that are due. One that an address does not take stays for it and is tried again.

    Args:
        now: in seconds since 1970.
        began: when the tick began, of `time.monotonic`.
        save: keeps the memory; called after each message, so that a tick that is killed repeats one at most.
        warn: says what failed.
    """
    for letter in [letter for letter in memory.letters if letter.due <= now]:
        refused: list[str] = []
        targets = of_owner(book, letter.owner)
        for address in [one for one in targets if one.sign not in letter.done]:
            if time.monotonic() - began > TICK_SECONDS:
                return
            why = send(address, letter.title, letter.body, "warning" if letter.keys else "success")
            if why:
                refused.append(f"{address.name}: {why}")
                continue
            letter.done.append(address.sign)
            for told in (memory.open[key] for key in letter.keys if key in memory.open):
                told.to = [*told.to, address.name] if address.name not in told.to else told.to
            save()
        if refused and now - letter.written < KEPT_SECONDS:
            wait = RETRY_AFTER_SECONDS[min(letter.attempts, len(RETRY_AFTER_SECONDS) - 1)]
            letter.attempts, letter.due, letter.refused = letter.attempts + 1, now + wait, "; ".join(refused)
            warn(f"{letter.owner} was not told. {letter.refused}. Tried again in {wait // 60} minutes")
        else:
            memory.letters.remove(letter)
            if refused:
                warn(f"{letter.owner} was not told in a day, and will not be. {'; '.join(refused)}")
            elif not targets:
                warn(f"{letter.owner} has no address in ASSAY_ALERTS, nor has *")
        save()
