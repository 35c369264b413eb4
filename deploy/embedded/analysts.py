"""Who builds schemas of their own on the embedded Trino: the users that its rules name.

Belongs here: the lists of analysts and of branches of a home, and the rules file made of them. Does not belong here: the
rules themselves (deploy/grants).
"""

import json
from collections.abc import Callable
from pathlib import Path

from deploy.embedded.files import write_private
from deploy.grants import trino_rules
from foundation.lock import writer_lock
from foundation.names import schema_prefix
from foundation.settings import Settings


def trino_user(environment: str) -> str:
    """The name under which an analyst's dbt comes to the embedded Trino: that of the environment, `dev_ana`."""
    return schema_prefix(environment).removesuffix("__")


def admit(settings: Settings, environment: str) -> None:
    """Lets the analyst of an environment write in its schemas; Trino reads the rules again within a second."""
    user = trino_user(environment)
    with writer_lock(settings, "analysts", wait_seconds=10):
        known = _known(settings)
        if user in known:
            return
        _folder(settings).mkdir(parents=True, exist_ok=True)
        write_private(_folder(settings) / "analysts.json", json.dumps(sorted({*known, user})))
        write_rules(settings)


def admit_branch(base: Settings, branch: Settings) -> None:
    """Lets a branch's user write in its catalog."""
    _set_branches(base, lambda known: known | {branch.trino_user: branch.catalog})


def dismiss_branch(base: Settings, branch: Settings) -> None:
    """Takes that back: whoever comes by this name is a stranger, who only reads."""
    _set_branches(base, lambda known: {user: catalog for user, catalog in known.items() if user != branch.trino_user})


def is_analyst(settings: Settings, environment: str) -> bool:
    """Whether somebody builds under this name in this home."""
    return trino_user(environment) in _known(settings)


def _set_branches(base: Settings, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with writer_lock(base, "analysts", wait_seconds=10):
        _folder(base).mkdir(parents=True, exist_ok=True)
        write_private(_folder(base) / "branches.json", json.dumps(change(_branches(base)), sort_keys=True))
        write_rules(base)


def _branches(settings: Settings) -> dict[str, str]:
    file = _folder(settings) / "branches.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write_rules(settings: Settings) -> Path:
    """The rules file of this home: the platform's user, the analysts and the branches so far."""
    file = _folder(settings) / "rules.json"
    rules = trino_rules([settings.trino_user], {user: f"{user}__" for user in _known(settings)}, _branches(settings))
    text = json.dumps(rules, indent=1)
    if not file.exists() or file.read_text() != text:
        write_private(file, text)
    return file


def _known(settings: Settings) -> list[str]:
    file = _folder(settings) / "analysts.json"
    return json.loads(file.read_text()) if file.exists() else []


def _folder(settings: Settings) -> Path:
    return settings.services_dir / "trino"
