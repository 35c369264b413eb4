"""A hand-written expectation as contracts, dbt's YAML and the domain's modules declare it.

Belongs here: its shape, and refusing what is none. Does not belong here: judging (quality). Whether Great Expectations has
such a type is only known there: importing it takes seconds, and the graph must load without.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from foundation.errors import AssayError

# An error keeps the day from being published, and what is made of it waits; a warning is only told.
ERROR, WARN = "error", "warn"
# What is judged: the rows as they are, or the profile, which has one row a day (quality/profile.py).
ROWS, PROFILE = "rows", "profile"
KEYS = ("type", "kwargs", "severity", "of")


@dataclass(frozen=True)
class Expectation:
    """An expectation of Great Expectations: `type` and `kwargs` are its own words."""

    type: str
    kwargs: Mapping[str, Any] = field(hash=False)
    severity: Literal["error", "warn"] = ERROR
    of: Literal["rows", "profile"] = ROWS


def read_expectation(file: Path, where: str, value: object) -> Expectation:
    """What a person wrote: {type, kwargs, severity, of}.

    Args:
        where: the place in the file, for the message.

    Raises:
        AssayError: it is no expectation.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        raise _refused(
            file, where, f"{value!r} has no type; write {{type: expect_column_values_to_be_between, kwargs: …}}"
        )
    if unknown := set(value) - set(KEYS):
        raise _refused(
            file, where, f"{', '.join(sorted(map(str, unknown)))} would not be looked at; use {', '.join(KEYS)}"
        )
    kwargs = value.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise _refused(file, where, f"kwargs {kwargs!r} is no mapping; write {{column: …}}")
    severity, of = value.get("severity", ERROR), value.get("of", ROWS)
    if severity not in (ERROR, WARN):
        raise _refused(file, where, f"severity {severity!r}: write {ERROR} or {WARN}")
    if of not in (ROWS, PROFILE):
        raise _refused(file, where, f"of {of!r}: write {ROWS} or {PROFILE}")
    return Expectation(value["type"], dict(kwargs), severity, of)


def _refused(file: Path, where: str, why: str) -> AssayError:
    return AssayError(f"{file.name}: {where}: {why}", f"correct {where} in {file.name}")
