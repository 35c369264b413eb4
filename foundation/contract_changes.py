"""What differs between two versions of a contract, and which version number each difference asks for.

Belongs here: the rules, on plain facts, as the other version may be of another commit whose code read it. Does not belong
here: what is made of the columns (orchestrator/impact), the tables (spark_assets).

The number is `version` of the contract, MAJOR.MINOR.PATCH. A difference is *major* if a file or a query that was right can be
wrong after it, *minor* if both go on, and *patch* if it is about neither rows nor times.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.contract import DECIMAL, Contract, Moment

PATCH, MINOR, MAJOR = 0, 1, 2
LEVELS = ("patch", "minor", "major")
GONE, NEW = "gone", "new"
# The rules of a whole feed, and what another value asks for; days are judged by whether they become fewer.
OF_FEED = {
    **dict.fromkeys(("load", "format", "day"), MAJOR),
    **dict.fromkeys(("starts", "ends", "due", "available", "row_available", "max_quarantined"), MINOR),
    **dict.fromkeys(("refs", "owner"), PATCH),
}
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# What Iceberg can widen without touching a file. https://iceberg.apache.org/spec/#schema-evolution
WIDER = {("int", "bigint"), ("float", "double")}


@dataclass(frozen=True)
class Change:
    """One difference; `column` is None where it is of the whole feed, `rule` is what of the contract is another (`gone` and
    `new` if all of it), `old` and `new` are as people write them."""

    column: str | None
    rule: str
    what: str
    old: str
    new: str
    level: int

    def __str__(self) -> str:
        where = f"column {self.column} " if self.column else ""
        values = f" ({self.old or 'none'} → {self.new or 'none'})" if self.old or self.new else ""
        return f"{where}{self.what}{values}"


@dataclass(frozen=True)
class Judgement:
    """What the differences of a contract ask for: `refused` is why they may not land, `warning` what should be written."""

    changes: Sequence[Change]
    refused: str = ""
    warning: str = ""
    write: str = ""


def facts(contract: Contract) -> dict[str, Any]:
    """A contract as JSON can hold it, without what is only text for people."""
    days = contract.days
    return {
        "file": f"contracts/{contract.file.name}",
        "version": contract.version,
        "load": contract.load,
        "format": contract.format,
        "day": days.column if days else None,
        "starts": str(days.starts) if days else None,
        "ends": str(days.ends) if days and days.ends else None,
        "due": _moment(days.due if days else contract.next_due),
        "available": _moment(days.available) if days else None,
        "row_available": (
            f"{days.row_available.column} + {days.row_available.minutes} minutes"
            if days and days.row_available
            else None
        ),
        "refs": sorted(contract.refs),
        "max_quarantined": contract.max_quarantined,
        "owner": contract.owner,
        "columns": {
            one.name: {
                "type": one.spark_type,
                "required": one.required,
                "key": one.key,
                "derived": one.derived,
                "classification": one.classification,
                "allowed": sorted(one.allowed),
                "minimum": one.minimum,
                "maximum": one.maximum,
                "pattern": one.pattern,
                "zone": one.zone,
                "since": str(one.since) if one.since else None,
                "made_of": sorted(one.made_of),
            }
            for one in contract.columns
        },
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The differences between two versions of a feed, as `facts` gives them, the gravest first."""
    found = [*_of_feed(old, new)]
    was, now = old["columns"], new["columns"]
    lost, gained = [name for name in was if name not in now], [name for name in now if name not in was]
    for name in lost:
        twins = [one for one in gained if _same_but_name(was[name], now[one])]
        what = f"is gone; was it renamed to {twins[0]}?" if len(twins) == 1 else "is gone"
        found.append(Change(name, GONE, what, was[name]["type"], "", MAJOR))
    for name in gained:
        column = now[name]
        asked = column["required"] and not column["derived"] and not column["since"]
        what = "is new, and required of files that never had it" if asked else "is new"
        found.append(Change(name, NEW, what, "", column["type"], MAJOR if asked else MINOR))
    for name in was:
        if name in now:
            found += _of_column(name, was[name], now[name])
    return sorted(found, key=lambda one: -one.level)


def judge(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Judgement:
    """Whether a contract may change so; None is one that is not there."""
    if old is None or new is None:
        if old is None:
            return Judgement([Change(None, NEW, "is a new contract", "", "", MINOR)])
        return Judgement(
            [Change(None, GONE, "is gone", "", "", MAJOR)],
            f"{old['file']} is gone, and with it the feed",
            write="put it back; a feed that ends has `ends`, and keeps its contract",
        )
    found = changes(old, new)
    level = max((one.level for one in found), default=PATCH)
    before, now = VERSION.fullmatch(old["version"]), VERSION.fullmatch(new["version"])
    lowest = _raised(before, level)
    if now is not None and before is not None and _numbers(now) < _numbers(before):
        return Judgement(
            found, f"{new['file']}: version goes back ({old['version']} → {new['version']})", write=f"version: {lowest}"
        )
    raised = now is not None and _numbers(now)[: 3 - level] >= _numbers(VERSION.fullmatch(lowest))[: 3 - level]
    if level == PATCH or raised:
        return Judgement(found)
    which = [str(one) for one in found if one.level == level]
    said = f"{new['file']}: {'; '.join(which)}; version is {new['version'] or 'missing'}"
    if level == MAJOR:
        return Judgement(found, said, write=f"version: {lowest}, or take the change back")
    return Judgement(found, warning=said, write=f"version: {lowest}")


def widens(old: str, new: str) -> bool:
    """Whether every value of a type is one of another, and Iceberg can make the one the other."""
    decimals = [DECIMAL.fullmatch(kind) for kind in (old, new)]
    if decimals[0] and decimals[1]:
        (precision, scale), (wider, same) = (match.groups() for match in decimals if match)
        return int(wider) >= int(precision) and scale == same
    return (old, new) in WIDER


def _of_feed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    keys = [sorted(name for name, column in one["columns"].items() if column["key"]) for one in (old, new)]
    if keys[0] != keys[1]:
        yield Change(None, "key", "the key is another", _text(keys[0]), _text(keys[1]), MAJOR)
    for rule, level in OF_FEED.items():
        if old[rule] == new[rule]:
            continue
        if rule in ("starts", "ends"):
            stricter = _above if rule == "starts" else _below
            level = MAJOR if old["load"] == new["load"] and stricter(old[rule], new[rule]) else MINOR
        yield Change(None, rule, f"{rule} is another", _text(old[rule]), _text(new[rule]), level)


def _of_column(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for rule in old:
        if old[rule] == new[rule] or rule == "key":  # which is of the whole feed
            continue
        what, level = _rule(rule, old, new)
        yield Change(name, rule, what, _text(old[rule]), _text(new[rule]), level)


def _rule(rule: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, int]:
    """What a rule of a column that is another means, and its level."""
    was, now = old[rule], new[rule]
    if rule == "type":
        return ("is wider", MINOR) if widens(was, now) else ("has another type", MAJOR)
    if rule == "derived":
        return ("is derived, and no longer in the file" if now else "is in the file, and no longer derived"), MAJOR
    if rule == "required" and now:
        return "is required", MINOR if new["since"] or new["derived"] else MAJOR
    if rule == "required":
        return "may be empty", MINOR
    if rule == "allowed":
        # No list is a list of everything.
        less = bool(now) and (not was or not set(was) <= set(now))
        return ("allows less", MAJOR) if less else ("allows more", MINOR)
    if rule in ("minimum", "maximum"):
        stricter = _above if rule == "minimum" else _below
        return f"has another {rule}", MAJOR if stricter(was, now) else MINOR
    if rule in ("pattern", "zone"):
        # Whether one pattern allows what another does, nobody can tell; another zone makes the same text another moment.
        return f"has another {rule}", MINOR if rule == "pattern" and not now else MAJOR
    if rule == "since":
        # No day is the first day of all.
        return "has another first day, since", MAJOR if (now or "") < (was or "") else MINOR
    return f"has another {rule}", MINOR if rule == "classification" else PATCH


def _same_but_name(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(old[rule] == new[rule] for rule in ("type", "key", "required", "derived"))


def _above(old: Any, new: Any) -> bool:
    """Whether a lower bound became stricter; None is no bound."""
    return new is not None and (old is None or new > old)


def _below(old: Any, new: Any) -> bool:
    """Whether an upper bound became stricter."""
    return new is not None and (old is None or new < old)


def _raised(version: re.Match[str] | None, level: int) -> str:
    """The lowest version above one that a level asks for."""
    major, minor, patch = _numbers(version) if version else (1, 0, 0)
    if level == MAJOR:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if level == MINOR else f"{major}.{minor}.{patch}"


def _numbers(version: re.Match[str] | None) -> tuple[int, int, int]:
    assert version is not None
    major, minor, patch = version.groups()
    return int(major), int(minor), int(patch)


def _moment(moment: Moment | None) -> str | None:
    return f"D{moment.days:+d} {moment.at:%H:%M} {moment.zone}" if moment else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
