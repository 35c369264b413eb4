"""Who builds schemas of their own on the embedded Trino: the users that its rules name.

Belongs here: the list of analysts of a home, and the rules file made of it. Does not belong here: the rules themselves
(deploy/grants).
"""

import json
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


def write_rules(settings: Settings) -> Path:
    """The rules file of this home: the platform's user, and the analysts so far."""
    file = _folder(settings) / "rules.json"
    rules = trino_rules([settings.trino_user], {user: f"{user}__" for user in _known(settings)})
    text = json.dumps(rules, indent=1)
    if not file.exists() or file.read_text() != text:
        write_private(file, text)
    return file


def _known(settings: Settings) -> list[str]:
    file = _folder(settings) / "analysts.json"
    return json.loads(file.read_text()) if file.exists() else []


def _folder(settings: Settings) -> Path:
    return settings.services_dir / "trino"
