"""Who may ask the embedded ClickHouse engine, and what: its owner everything, a branch's user only its own databases.

Belongs here: users, and which statements a confined one may send. Does not belong here: HTTP, and what nobody may ask
(clickhouse_engine).

The engine itself has no users. So a confined user's statement is read before the engine sees it: what only reads passes,
and a write passes if it is of a known form and every table or database that it changes has the user's prefix. Whatever
is not known is refused.
"""

from __future__ import annotations

import hmac
import json
import re
from pathlib import Path

from deploy.embedded.clickhouse_engine import ClickHouseError, Statement

READS = frozenset(("SELECT", "WITH", "FROM", "VALUES", "SHOW", "DESC", "DESCRIBE", "EXISTS", "EXPLAIN", "CHECK"))
SESSION = frozenset(("SET", "USE"))
NAME = r"(?:(?P<{0}database>\w+)\s*\.\s*)?(?P<{0}table>\w+)"
OF_TABLE = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?:(?P<database>\w+)\s*\.\s*)?(?P<table>\w+)"
OF_DATABASE = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<database>\w+)"
# The forms of a write, each to its end or to where the rest changes nothing else.
FORMS = tuple(
    re.compile(rf"\A\s*{form}", re.IGNORECASE)
    for form in (
        rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW)\s+{OF_TABLE}\b(?!\s*\.)",
        rf"CREATE\s+DATABASE\s+{OF_DATABASE}\b(?!\s*\.)",
        rf"REPLACE\s+TABLE\s+{OF_TABLE}\b(?!\s*\.)",
        rf"(?:DROP|DETACH|TRUNCATE)\s+(?:TABLE\s+|VIEW\s+)?(?!DATABASE\b|ALL\b|TEMPORARY\b){OF_TABLE}"
        r"(?:\s+(?:SYNC|NO\s+DELAY))?\s*;?\s*\Z",
        rf"DROP\s+DATABASE\s+{OF_DATABASE}(?:\s+SYNC)?\s*;?\s*\Z",
        rf"(?:ALTER|OPTIMIZE)\s+TABLE\s+{OF_TABLE}\b(?!\s*\.)",
        rf"DELETE\s+FROM\s+{OF_TABLE}\b(?!\s*\.)",
        rf"UPDATE\s+{OF_TABLE}\s+SET\b",
        rf"INSERT\s+(?:INTO\s+)?(?:TABLE\s+)?(?!FUNCTION\b){OF_TABLE}\b(?!\s*\.)",
    )
)
BOTH = re.compile(
    r"\A\s*(?:RENAME\s+TABLE|EXCHANGE\s+TABLES)\s+" + NAME.format("a_") + r"\s+(?:TO|AND)\s+" + NAME.format("b_")
    + r"\s*;?\s*\Z",
    re.IGNORECASE,
)  # fmt: skip
TEMPORARY = re.compile(r"\A\s*(?:CREATE|DROP)\s+TEMPORARY\s+TABLE\b", re.IGNORECASE)
# ALTER TABLE … MOVE PARTITION … TO TABLE: the other table that it changes; WITH … INSERT: the one behind.
OTHERS = re.compile(r"\b(?:TO\s+TABLE|INSERT\s+INTO)\s+" + NAME.format(""), re.IGNORECASE)
# The others hand rows on to tables that they name as text, or to elsewhere.
ENGINE = re.compile(r"\bENGINE(?:\s*=\s*|\s+)(?!(?:\w*MergeTree|Memory|Log|Atomic)\b)(\w+)", re.IGNORECASE)


class Users:
    """The owner, who may do everything, and those that a file names; it is read again at each of their logins."""

    def __init__(self, owner: str, password: str, others: Path | None = None) -> None:
        self._owner, self._password, self._others = owner, password, others

    def prefix_of(self, user: str, password: str) -> str:
        """What all a user may change begins with; empty for the owner.

        Raises:
            ClickHouseError: there is no such user, or the password is another.
        """
        expected, prefix = self._password, ""
        if not hmac.compare_digest(user.encode(), self._owner.encode()):
            known = json.loads(self._others.read_text()) if self._others and self._others.exists() else {}
            # Without a user there is still a comparison.
            expected, prefix = known.get(user) or ("", "-")
        if not (expected and hmac.compare_digest(password.encode(), expected.encode())):
            why = "Authentication failed: password is incorrect, or there is no user with such name."
            raise ClickHouseError(516, f"{user}: {why} (AUTHENTICATION_FAILED)")
        return prefix


def confine(statement: Statement, prefix: str, database: str | None) -> None:
    """Refuses what would change anything outside of a user's databases.

    Args:
        prefix: what the names of those begin with.
        database: the request's own, where a name without one is.

    Raises:
        ClickHouseError: it would, or it is not known that it would not.
    """
    code = statement.code[: statement.end].decode(errors="replace")
    changed = _changed(statement.verb, code, database or "")
    if changed is None:
        raise _denied(f"a statement of this form ({statement.verb or 'none'}) is its owner's", prefix)
    for name in changed:
        if not name.startswith(prefix):
            raise _denied(f"{name or 'a table without its database'} is only read here", prefix)


def _changed(verb: str, code: str, database: str) -> list[str] | None:
    """The databases that a statement changes; None if that is not known."""
    if verb in READS | SESSION or TEMPORARY.match(code):
        return []
    if verb == "KILL":
        return [] if re.match(r"\s*KILL\s+QUERY\b", code, re.IGNORECASE) else None
    if ENGINE.search(code):
        return None
    if found := BOTH.match(code):
        return [found["a_database"] or database, found["b_database"] or database]
    others = [found["database"] or database for found in OTHERS.finditer(code)]
    if re.match(r"\s*WITH\b", code, re.IGNORECASE) and others:
        return others
    found = next((found for form in FORMS if (found := form.match(code))), None)
    return None if found is None else [found["database"] or database, *others]


def _denied(why: str, prefix: str) -> ClickHouseError:
    return ClickHouseError(
        497, f"Not enough privileges: {why}; this user writes databases that begin with {prefix}. (ACCESS_DENIED)"
    )
