"""What an analyst may do on each engine: read everything, write only schemas of their own prefix.

Belongs here: the rules as Trino's file-based access control reads them, and as statements for a ClickHouse server. Does
not belong here: who is an analyst. The embedded ClickHouse engine has no users; there only dbt's guard
(dbt_project/macros/guard.sql) stands between an analyst and the shared tables.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from foundation.names import CATALOG

READ = ["SELECT", "GRANT_SELECT"]  # the second lets others read a view that an analyst made
WRITE = [*READ, "INSERT", "UPDATE", "DELETE", "OWNERSHIP"]
# What dbt does in a database of the analyst's: tables, views, partitions, comments.
CLICKHOUSE_OWN = "create, drop, alter, insert, truncate, optimize, select, show"
SHARED_DATABASES = ("warehouse", "lake")


def trino_rules(
    platform: Sequence[str], analysts: Mapping[str, str], branches: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The rules of Trino's file-based system access control; the first that fits decides.
    https://trino.io/docs/current/security/file-system-access-control.html

    Args:
        platform: the users that may do everything.
        analysts: the users who write in schemas of their prefix (`dev_ana__`) only. Whoever is in neither only reads.
        branches: the users who write in a catalog of their own (`lake_pr_42`) only.
    """
    every = "|".join(re.escape(user) for user in platform)
    own = [
        {"user": re.escape(user), "catalog": CATALOG, "schema": f"{re.escape(prefix)}.*"}
        for user, prefix in analysts.items()
    ]
    in_own = [{"user": re.escape(user), "catalog": re.escape(catalog)} for user, catalog in (branches or {}).items()]
    own += in_own
    return {
        "catalogs": [
            {"user": every, "allow": "owner"},  # of a catalog: may make and drop it
            *[{**rule, "allow": "all"} for rule in in_own],
            *[{"user": rule["user"], "allow": "read-only"} for rule in in_own],
            {"allow": "all"},
        ],
        "schemas": [{"user": every, "owner": True}, *[{**rule, "owner": True} for rule in own], {"owner": False}],
        "tables": [
            {"user": every, "privileges": WRITE},
            *[{**rule, "privileges": WRITE} for rule in own],
            {"privileges": READ},
        ],
        "functions": [
            {"user": every, "privileges": ["EXECUTE", "GRANT_EXECUTE", "OWNERSHIP"]},
            {"privileges": ["EXECUTE"]},
        ],
        "procedures": [
            {"user": every, "privileges": ["EXECUTE", "GRANT_EXECUTE"]},
            *[{**rule, "privileges": ["EXECUTE"]} for rule in in_own],
            {"privileges": []},
        ],
    }


def clickhouse_grants(user: str, prefix: str) -> list[str]:
    """The statements that give a user of a ClickHouse server what an analyst needs; an administrator runs them."""
    name = f"`{user}`"
    return [
        f"create user if not exists {name}",  # how it proves who it is, is the administrator's choice
        *[f"grant select, show on {database}.* to {name}" for database in SHARED_DATABASES],
        *[f"grant {CLICKHOUSE_OWN} on `{prefix}{database}`.* to {name}" for database in SHARED_DATABASES],
        f"grant select on system.* to {name}",  # dbt asks there which tables and columns exist
        f"grant create temporary table, s3 on *.* to {name}",  # a view on the lake reads with its reader's rights
    ]
