"""`./assay grants`: what administrators of real servers give an analyst.

Belongs here: printing it for the person's name. Does not belong here: the grants themselves (deploy/grants).
"""

import json
from collections.abc import Iterator

from deploy.grants import clickhouse_grants, trino_rules
from foundation.errors import AssayError
from foundation.names import schema_prefix
from foundation.settings import Settings

ENGINES = ("clickhouse", "trino")


def grants_of(settings: Settings, user: str, engine: str = "") -> Iterator[str]:
    """The lines for one engine, or for both.

    Raises:
        AssayError: there is no such engine.
    """
    if engine not in ("", *ENGINES):
        raise AssayError(f"There are no grants for {engine!r}", f"use one of {', '.join(ENGINES)}")
    prefix = schema_prefix(settings.model_copy(update={"user": user}).analyst)
    if engine in ("", "clickhouse"):
        if not engine:
            yield "-- ClickHouse: run by an administrator"
        yield from (f"{statement};" for statement in clickhouse_grants(user, prefix))
    if engine in ("", "trino"):
        if not engine:
            yield "-- Trino: the file that security.config-file names; add analysts' rules above the last of each list"
        yield json.dumps(trino_rules([settings.trino_user], {user: prefix}), indent=1)
