"""Which contract changes break, held against an oracle that tries every value: what was right must stay right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.contract import Contract, load_contracts
from foundation.contract_changes import MAJOR, MINOR, PATCH, changes, facts, judge
from tests.unit.feeds import events

# What a cell may hold; None is an empty one. Bounds and lists below are drawn from the small ones.
VALUES = [None, -1, 0, 1, 2, 3, 4, 2**40]
COLUMN = {
    "type": "int",
    "required": False,
    "key": False,
    "derived": False,
    "classification": None,
    "allowed": [],
    "minimum": None,
    "maximum": None,
    "pattern": None,
    "zone": None,
    "since": None,
    "made_of": [],
}
FEED = {
    "file": "contracts/orders.odcs.yaml",
    "version": "1.0.0",
    "load": "full",
    "format": "csv",
    "day": None,
    "starts": None,
    "ends": None,
    "due": None,
    "available": None,
    "row_available": None,
    "refs": [],
    "max_quarantined": 0.05,
    "owner": "team:data",
}
bounds = st.none() | st.integers(0, 4)
DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["int", "bigint"]),
    "required": st.booleans(),
    "key": st.booleans(),
    "allowed": st.lists(st.sampled_from("01234"), unique=True).map(sorted),
    "minimum": bounds,
    "maximum": bounds,
    "classification": st.sampled_from([None, "pii"]),
}


def whole(drawn: dict[str, Any]) -> dict[str, Any]:
    """A column; a key is required."""
    return {**COLUMN, **drawn, "required": drawn["required"] or drawn["key"]}


columns = st.fixed_dictionaries(DRAWN).map(whole)
feeds = st.dictionaries(st.sampled_from("abc"), columns).map(lambda named: {**FEED, "columns": named})


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A feed, and what it is after up to two edits: of two that are drawn apart, almost all break."""
    old = draw(feeds)
    named = dict(old["columns"])
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from("abc"))
        edit = draw(st.sampled_from(["drop", "new", *DRAWN, *DRAWN]))
        if edit == "drop":
            named.pop(name, None)
        elif name not in named or edit == "new":
            named.setdefault(name, draw(columns))
        else:
            named[name] = whole({**named[name], edit: draw(DRAWN[edit])})
    return old, {**old, "columns": named}


def rules(column: dict[str, Any], value: int | None) -> list[bool]:
    """Whether each rule of a column lets a value pass, one by one."""
    return [
        value is not None or not column["required"],
        value is None or column["type"] == "bigint" or abs(value) < 2**31,
        value is None or not column["allowed"] or str(value) in column["allowed"],
        value is None or column["minimum"] is None or value >= column["minimum"],
        value is None or column["maximum"] is None or value <= column["maximum"],
    ]


def breaks(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether anything that was right is wrong: a name, a key, a value that one rule let pass."""
    was, now = old["columns"], new["columns"]
    if any(name not in now for name in was):
        return True
    if {name for name in was if was[name]["key"]} != {name for name in now if now[name]["key"]}:
        return True
    if any(now[name]["required"] for name in now if name not in was):
        return True
    return any(
        before and not after
        for name in was
        for value in VALUES
        for before, after in zip(rules(was[name], value), rules(now[name], value), strict=True)
    )


@settings(max_examples=300)
@given(pairs())
def test_a_change_is_major_exactly_if_something_that_was_right_is_wrong(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    old, new = pair
    found = changes(old, new)
    assert (max((one.level for one in found), default=PATCH) == MAJOR) == breaks(old, new)
    assert bool(found) == (old != new)


@settings(max_examples=300)
@given(pairs(), st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(0, 3)] * 3))
def test_only_a_higher_major_lets_a_break_land(
    pair: tuple[dict[str, Any], dict[str, Any]], before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    old, new = pair
    old, new = {**old, "version": "{}.{}.{}".format(*before)}, {**new, "version": "{}.{}.{}".format(*after)}
    said = judge(old, new)
    assert bool(said.refused) == (after < before or (breaks(old, new) and after[0] <= before[0]))
    additive = any(one.level == MINOR for one in said.changes) and not breaks(old, new)
    assert bool(said.warning) == (not said.refused and additive and after[:2] <= before[:2])


@given(pairs())
def test_who_writes_what_it_says_is_not_refused_again(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    old, new = pair
    said = judge(old, new)
    if said.write:
        version = said.write.removeprefix("version: ").partition(",")[0]
        again = judge(old, {**new, "version": version})
        assert not again.refused
        assert not again.warning


@given(feeds)
def test_what_did_not_change_is_no_change(feed: dict[str, Any]) -> None:
    assert judge(feed, feed).changes == []


@pytest.mark.parametrize(
    ("name", "old", "new", "level"),
    [
        ("a decimal with more digits is wider", {"type": "decimal(10,2)"}, {"type": "decimal(12,2)"}, MINOR),
        ("with more behind the point it is another", {"type": "decimal(10,2)"}, {"type": "decimal(12,3)"}, MAJOR),
        ("a bigint is no int", {"type": "bigint"}, {"type": "int"}, MAJOR),
        ("required from a day on harms no file of before", {}, {"required": True, "since": "2013-02-01"}, MINOR),
        ("a derived one is no longer in the file", {}, {"derived": True}, MAJOR),
        ("another pattern may refuse", {"pattern": "[a-z]"}, {"pattern": "[a-y]"}, MAJOR),
        ("no pattern allows all", {"pattern": "[a-z]"}, {}, MINOR),
        ("another zone is another moment", {"zone": "UTC"}, {"zone": "America/New_York"}, MAJOR),
        ("files of before lack it after all", {}, {"since": "2013-02-01"}, MINOR),
        ("files that lacked it are now wrong", {"since": "2013-02-01"}, {"since": "2013-01-01"}, MAJOR),
        ("another class", {}, {"classification": "pii"}, MINOR),
    ],
)
def test_rules_of_a_column(name: str, old: dict[str, Any], new: dict[str, Any], level: int) -> None:
    feeds = [{**FEED, "columns": {"a": {**COLUMN, **column}}} for column in (old, new)]
    assert {one.level for one in changes(*feeds)} == {level}, name


def test_the_message_names_contract_column_old_new_and_what_to_write(contract: Contract) -> None:
    columns = tuple(replace(one, name="total") if one.name == "amount" else one for one in contract.columns)
    said = judge(facts(contract), facts(replace(contract, columns=columns)))
    assert said.refused.startswith("contracts/events.odcs.yaml: column amount is gone; was it renamed to total? (")
    assert said.refused.endswith("version is 1.0.0")
    assert said.write == "version: 2.0.0, or take the change back"


def test_every_contract_here_has_a_version_that_can_be_raised() -> None:
    for contract in load_contracts().values():
        raised = replace(contract, version="", columns=contract.columns[:-1])
        assert "version is missing" in judge(facts(contract), facts(raised)).refused


def test_a_contract_that_is_gone_is_refused_and_a_new_one_is_not(tmp_path: Path) -> None:
    known = facts(events(tmp_path))
    assert judge(known, None).refused
    assert not judge(None, known).refused
