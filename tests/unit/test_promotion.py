"""The promotion log: who is champion when, read from decisions alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ml.promotion import Action, Decision, month_before, timeline, valid_in

MONTHS = [f"2013-{month:02}" for month in range(1, 13)]
ACTIONS: list[Action] = ["promote", "refuse", "roll back"]


def entry(number: int, action: Action, version: int, since: str) -> Decision:
    return Decision(number, "2013-12-01T00:00:00+00:00", action, version, since, None, "because", "a test")


@st.composite
def logs(draw: st.DrawFn, actions: list[Action] = ACTIONS) -> list[Decision]:
    rows = draw(st.lists(st.tuples(st.sampled_from(actions), st.integers(1, 9), st.sampled_from(MONTHS)), max_size=12))
    return [entry(number, *row) for number, row in enumerate(rows, start=1)]


def read_by_hand(log: list[Decision], month: str) -> int | None:
    """Of the entries from this month or before that no later roll back took out: the one of the latest month, of equal
    ones the one decided last."""
    standing = [
        one
        for one in log
        if one.action != "refuse"
        and one.valid_from <= month
        and not any(
            later.action == "roll back" and later.number > one.number and later.valid_from <= one.valid_from
            for later in log
        )
    ]
    return max(standing, key=lambda one: (one.valid_from, one.number)).version if standing else None


@given(logs(), st.sampled_from(MONTHS))
def test_the_champion_of_a_month_is_who_a_reader_of_the_log_would_name(log: list[Decision], month: str) -> None:
    assert valid_in(log, month) == read_by_hand(log, month)


@given(logs(), st.randoms(use_true_random=False))
def test_the_log_says_the_same_in_whatever_order_its_tags_come(log: list[Decision], random: st.DataObject) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert timeline(shuffled) == timeline(log)


@given(logs(["promote", "refuse"]), st.sampled_from(MONTHS))
def test_a_promotion_never_moves_the_newest_entry_to_an_earlier_month(log: list[Decision], month: str) -> None:
    newest = list(timeline(log))[-1:]
    after = timeline([*log, entry(len(log) + 1, "promote", 10, month)])
    assert list(after)[-1:] >= newest


@given(logs(), st.sampled_from(MONTHS))
def test_what_is_decided_about_a_month_changes_no_earlier_one(log: list[Decision], month: str) -> None:
    for action in ACTIONS:
        after = [*log, entry(len(log) + 1, action, 10, month)]
        earlier = [one for one in MONTHS if one < month]
        assert [valid_in(after, one) for one in earlier] == [valid_in(log, one) for one in earlier]


@given(logs(), st.sampled_from(MONTHS))
def test_after_a_roll_back_that_version_is_valid_for_ever(log: list[Decision], month: str) -> None:
    after = [*log, entry(len(log) + 1, "roll back", 10, month)]
    assert {valid_in(after, one) for one in MONTHS if one >= month} == {10}


@given(logs(), st.sampled_from(MONTHS))
def test_a_refusal_changes_nothing(log: list[Decision], month: str) -> None:
    assert timeline([*log, entry(len(log) + 1, "refuse", 10, month)]) == timeline(log)


def test_april_made_again_is_judged_by_march_and_not_by_december() -> None:
    log = [entry(number, "promote", number, month) for number, month in enumerate(MONTHS, start=1)]
    assert valid_in(log, month_before("2013-04")) == 3
    again = [*log, entry(13, "promote", 13, "2013-04")]
    assert (valid_in(again, "2013-04"), valid_in(again, "2013-05"), valid_in(again, "2013-12")) == (13, 5, 12)


def test_the_month_before_january_is_december() -> None:
    assert [month_before(month) for month in ("2013-01", "2013-02", "2013-12")] == ["2012-12", "2013-01", "2013-11"]


def test_a_rolled_back_month_may_be_decided_about_again() -> None:
    log = [entry(1, "promote", 1, "2013-02"), entry(2, "promote", 2, "2013-03"), entry(3, "roll back", 1, "2013-03")]
    assert valid_in(log, "2013-04") == 1
    again = [*log, replace(log[1], number=4, version=3)]
    assert valid_in(again, "2013-03") == 3
