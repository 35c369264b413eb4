"""What a partition's status says of it: each state, which one holds, and what a failure does to what is made of it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

import orchestrator.status as status_module
from foundation.contract import Contract
from foundation.settings import Settings, load
from orchestrator.attempts import storage_of
from orchestrator.status import State, blocked, built_without, details
from tests.unit.status_world import (
    BRONZE,
    CHECK,
    DAYS,
    DIMS,
    FACTS,
    FEBRUARY,
    GUESSES,
    HISTORY,
    JANUARY,
    MODEL,
    SILVER,
    TOP,
    TRAINING,
    VIEW,
    WARNING,
    World,
    contract_of,
    due,
)

P, F, B, R, L, W = State.PRESENT, State.FAILED, State.BLOCKED, State.RUNNING, State.LATE, State.WAITING
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings, contract_of(tmp_path), instance)


# --- each state


def test_what_was_made_is_present_since_then_by_its_run(world: World) -> None:
    run_id = world.run({SILVER: DAYS})
    one = world.statuses()[SILVER][DAYS[0]]
    assert (one.state, one.run_id, one.since) == (P, run_id, one.made_at)
    assert one.made_at is not None


def test_only_days_that_the_feed_has_are_listed_and_months_that_have_one(world: World) -> None:
    found = world.statuses()
    assert list(found[SILVER]) == list(found[FACTS]) == list(found[HISTORY]) == DAYS
    assert list(found[TRAINING]) == [JANUARY, FEBRUARY]
    assert list(found[MODEL]) == [FEBRUARY, "2013-03-01"], (
        "of the month before the first there is nothing to learn from"
    )
    assert list(found[GUESSES]) == [FEBRUARY, DAYS[3]], "no model of January, no history of the day before the first"
    assert list(found[VIEW]) == [None]


def test_a_day_is_late_from_the_minute_that_its_contract_names_and_what_is_made_of_it_two_hours_later(
    world: World,
) -> None:
    minute = timedelta(minutes=1)
    for key, hours in ((BRONZE, 0), (SILVER, 0), (FACTS, 2), (HISTORY, 2), (TRAINING, 2)):
        part, day = (JANUARY, DAYS[1]) if key == TRAINING else (DAYS[1], DAYS[1])
        moment = due(day, hours)
        assert world.statuses(moment - minute)[key][part].state == W, key
        one = world.statuses(moment)[key][part]
        assert (one.state, one.since, one.due) == (L, moment, moment), key
        assert one.why == f"due {moment:%Y-%m-%d %H:%M} UTC"


def test_a_guess_is_due_after_all_that_it_needs_of_its_day_or_earlier(world: World) -> None:
    assert world.statuses()[GUESSES][DAYS[3]].due == due(DAYS[3], 2)
    assert world.statuses()[MODEL][FEBRUARY].due == due(DAYS[1], 2), "it learns from the days before its month"


def test_a_failed_run_fails_what_it_did_not_make_and_nothing_else(world: World) -> None:
    run_id = world.run({SILVER: DAYS}, {SILVER: DAYS[:2]}, FAILURE)
    found = world.statuses()[SILVER]
    assert [one.state for one in found.values()] == [P, P, F, F]
    assert (found[DAYS[2]].run_id, found[DAYS[2]].why) == (run_id, f"run {run_id[:8]} failed")
    assert found[DAYS[2]].since is not None


def test_a_cancelled_run_failed(world: World) -> None:
    world.run({SILVER: DAYS[:1]}, {}, CANCELED)
    one = world.statuses()[SILVER][DAYS[0]]
    assert one.state == F
    assert one.why.endswith("was cancelled")


def test_what_failed_after_it_was_made_is_failed_and_keeps_when_it_was_made(world: World) -> None:
    world.run({SILVER: DAYS[:1]})
    made_at = world.statuses()[SILVER][DAYS[0]].made_at
    world.run({SILVER: DAYS[:1]}, {}, FAILURE)
    one = world.statuses()[SILVER][DAYS[0]]
    assert (one.state, one.made_at) == (F, made_at)


def test_a_later_success_clears_a_failure(world: World) -> None:
    world.run({SILVER: DAYS}, {}, FAILURE)
    world.run({SILVER: DAYS[1:3]})
    assert list(world.states(SILVER).values()) == [F, P, P, F]


def test_a_run_that_ended_well_without_making_a_day_did_not_fail_it(world: World) -> None:
    world.run({SILVER: DAYS[:2]}, {SILVER: DAYS[:1]})
    assert list(world.states(SILVER).values()) == [P, L, L, L]


def test_a_day_is_running_until_its_run_ends(world: World) -> None:
    world.run({SILVER: DAYS[:1]})
    run_id = world.run({SILVER: DAYS[:2]}, {}, None)
    one = world.statuses()[SILVER][DAYS[0]]
    assert (one.state, one.run_id, one.quiet) == (R, run_id, False)
    assert list(world.states(SILVER).values()) == [R, R, L, L]


def test_a_run_that_has_said_nothing_for_long_is_quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run({SILVER: DAYS[:1]}, {}, None)
    monkeypatch.setattr(status_module, "QUIET", timedelta(seconds=-1))
    one = world.statuses()[SILVER][DAYS[0]]
    assert (one.state, one.quiet) == (R, True)


def test_a_failed_blocking_check_of_a_day_fails_that_day_until_it_passes(world: World) -> None:
    world.run({SILVER: DAYS})
    world.check(DAYS[1], passed=False)
    one = world.statuses()[SILVER][DAYS[1]]
    assert (one.state, one.failed_checks, one.why) == (F, (CHECK,), f"check {CHECK} failed")
    assert list(world.states(SILVER).values()) == [P, F, P, P]
    world.check(DAYS[1], passed=True)
    assert set(world.states(SILVER).values()) == {P}


@pytest.mark.parametrize(
    ("part", "name", "warn"),
    [
        pytest.param(None, CHECK, False, id="of the table"),
        pytest.param(DAYS[1], WARNING, False, id="that does not block"),
        pytest.param(DAYS[1], CHECK, True, id="that warns"),
        pytest.param(DAYS[1], "gone_from_the_code", False, id="that the code no longer has"),
    ],
)
def test_a_failed_check_says_nothing_of_a_day(world: World, part: str | None, name: str, warn: bool) -> None:
    world.run({SILVER: DAYS})
    world.check(part, False, name, warn)
    assert set(world.states(SILVER).values()) == {P}


# --- what a failure does to what is made of it


def test_a_failed_day_blocks_its_own_time_however_far_down_and_nothing_else(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)
    found = world.statuses()
    cause = (SILVER, DAYS[1])
    for key, part in ((FACTS, DAYS[1]), (HISTORY, DAYS[1]), (TRAINING, JANUARY)):
        one = found[key][part]
        assert (one.state, one.blocked_by) == (B, (cause,)), key
        assert one.why == f"blocked by silver/events {DAYS[1]}"
        assert one.since == found[SILVER][DAYS[1]].since
    others = [one for parts in found.values() for one in parts.values() if one.state not in (P, F)]
    assert {(one.asset, one.partition) for one in others} == {
        (FACTS, DAYS[1]),
        (HISTORY, DAYS[1]),
        (TRAINING, JANUARY),
    }, "a lookback, the day after, the model of the next month, and a view are built without it"


def test_an_asset_without_partitions_that_failed_blocks_all_that_is_made_of_it(world: World) -> None:
    world.everything()
    world.run({DIMS: [None]}, {}, FAILURE)
    assert set(world.states(FACTS).values()) == {B}
    assert world.states(TOP) == {None: B}
    assert world.states(VIEW) == {None: P}, "it is made of facts, whose days do not block it"
    assert world.statuses()[TRAINING][JANUARY].blocked_by == ((DIMS, None),)


def test_what_stood_behind_a_failed_step_in_the_same_run_was_not_tried(world: World) -> None:
    world.everything()
    plan = {SILVER: DAYS[:2], FACTS: DAYS[:2], VIEW: DAYS[:2]}
    world.run(plan, {SILVER: DAYS[:1]}, FAILURE)
    assert list(world.states(SILVER).values()) == [P, F, P, P]
    assert list(world.states(FACTS).values()) == [P, B, P, P]
    assert world.states(VIEW) == {None: P}


def test_what_was_refused_behind_a_failed_day_is_blocked_by_it_and_not_failed(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)
    world.run({FACTS: DAYS[1:2]}, {}, FAILURE)
    assert world.states(FACTS)[DAYS[1]] == B
    assert world.statuses()[HISTORY][DAYS[1]].blocked_by == ((SILVER, DAYS[1]),), (
        "the cause, and not what stands between"
    )
    world.check(DAYS[1], passed=True)
    assert world.states(FACTS)[DAYS[1]] == F, "it was asked for, and is not made"


def test_blocked_comes_before_running(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)
    world.run({FACTS: DAYS[1:2]}, {}, None)
    assert world.states(FACTS)[DAYS[1]] == B


def test_a_backfill_of_an_old_day_changes_that_day_only(world: World) -> None:
    world.run({SILVER: DAYS[2:]}, {}, FAILURE)
    world.run({SILVER: DAYS[:1]})
    assert list(world.states(SILVER).values()) == [P, L, F, F]


def test_a_failed_attempt_at_a_day_that_no_feed_has_is_nothing(world: World) -> None:
    world.everything()
    world.run({SILVER: ["2013-02-03"], FACTS: ["2013-02-03"]}, {}, FAILURE)
    found = world.statuses()
    assert {one.state for parts in found.values() for one in parts.values()} == {P}
    world.run({FACTS: ["2013-02-03"]})
    assert world.states(FACTS)["2013-02-03"] == P, "but what is there is there"


def test_a_step_asks_what_is_blocked_of_its_partitions(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)

    def ask(key: dg.AssetKey, *parts: str | None) -> Any:
        found = blocked(world.instance, world.graph, [key], parts, world.contracts)
        return {part: causes for (_, part), causes in found.items()}

    assert ask(FACTS, *DAYS) == {DAYS[1]: ((SILVER, DAYS[1]),)}
    assert ask(TRAINING, JANUARY, FEBRUARY) == {JANUARY: ((SILVER, DAYS[1]),)}
    assert ask(VIEW, None) == ask(HISTORY, DAYS[2]) == ask(SILVER, *DAYS) == {}
    world.run({FACTS: DAYS[1:2]}, {}, FAILURE)
    assert ask(FACTS, *DAYS) == {DAYS[1]: ((SILVER, DAYS[1]),)}, "also if it failed itself"


def test_what_is_built_without_a_failed_day_can_say_so(world: World) -> None:
    world.everything()
    world.check(DAYS[1], passed=False)

    def ask(key: dg.AssetKey, *parts: str | None) -> Any:
        return built_without(world.instance, world.graph, key, parts, world.contracts)

    assert ask(HISTORY, DAYS[2]) == ask(HISTORY, DAYS[3]) == [(FACTS, DAYS[1])]
    assert ask(HISTORY, DAYS[0]) == ask(HISTORY, DAYS[1]) == [], "before it, or blocked by it"
    assert ask(VIEW, None) == [(FACTS, DAYS[1])]
    assert ask(MODEL, FEBRUARY) == [(TRAINING, JANUARY)]
    assert ask(GUESSES, DAYS[2]) == [(HISTORY, DAYS[1])]


# --- what is known of one


def test_details_are_those_of_the_last_time_and_each_checks_newest_word_on_that_day(world: World) -> None:
    assert details(world.instance, SILVER, DAYS[0]) == {}
    schema = dg.TableSchema([dg.TableColumn("day", "date")])
    for rows in (1, 2):
        values = {"accepted": rows, "file_sequences": [7], "dagster/column_schema": schema}
        world.event(world.run({}), dg.AssetMaterialization(SILVER, partition=DAYS[0], metadata=values))
    world.event(world.run({}), dg.AssetMaterialization(SILVER, partition=DAYS[1], metadata={"accepted": 3}))
    world.check(DAYS[0], passed=False)
    world.check(None, passed=True)
    world.check(None, passed=True, name=WARNING)
    known = details(world.instance, SILVER, DAYS[0])
    assert known["metadata"] == {"accepted": 2, "file_sequences": [7]}
    outcomes = {name: (one["passed"], one["of_table"]) for name, one in known["checks"].items()}
    assert outcomes == {CHECK: (False, False), WARNING: (True, True)}


def test_the_number_of_queries_is_the_same_for_one_day_and_for_many(world: World) -> None:
    def queries() -> int:
        statements: list[str] = []
        with storage_of(world.instance).index_connection() as connection:
            engine = connection.engine

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        event.listen(engine, "before_cursor_execute", count)
        world.statuses()
        event.remove(engine, "before_cursor_execute", count)
        return len(statements)

    world.run(dict.fromkeys((BRONZE, SILVER, FACTS, HISTORY), DAYS[:1]))
    world.run({SILVER: DAYS[:1], FACTS: DAYS[:1]}, {}, FAILURE)
    world.check(DAYS[0], passed=False)
    few = queries()
    assert few > 0
    world.run(dict.fromkeys((BRONZE, SILVER, FACTS, HISTORY), DAYS))
    world.run({SILVER: DAYS, FACTS: DAYS}, {}, FAILURE)
    for day in DAYS:
        world.check(day, passed=False)
    assert queries() == few


# --- against brute force

KEYS = [BRONZE, SILVER, DIMS, FACTS, HISTORY, TRAINING, MODEL, GUESSES, VIEW, TOP]
PARENTS = {
    BRONZE: [],
    SILVER: [BRONZE],
    DIMS: [],
    FACTS: [SILVER, DIMS],
    HISTORY: [FACTS],
    TRAINING: [FACTS],
    MODEL: [TRAINING],
    GUESSES: [SILVER, HISTORY, MODEL],
    VIEW: [FACTS],
    TOP: [VIEW, DIMS],
}
# The edges along which a partition is blocked by one of the same time; the others read other days.
OF_OWN_TIME = {
    (SILVER, BRONZE),
    (FACTS, SILVER),
    (HISTORY, FACTS),
    (TRAINING, FACTS),
    (GUESSES, SILVER),
    (GUESSES, MODEL),
}
PARTS: dict[dg.AssetKey, list[str | None]] = {
    **{key: list(DAYS) for key in (BRONZE, SILVER, FACTS, HISTORY)},
    **{key: [None] for key in (DIMS, VIEW, TOP)},
    TRAINING: [JANUARY, FEBRUARY],
    MODEL: [FEBRUARY],
    GUESSES: [FEBRUARY, DAYS[3]],
}


class Oracle:
    """The same history, told one event after the other, and asked one partition at a time."""

    def __init__(self) -> None:
        self.made: set[Any] = set()
        self.attempt: dict[Any, tuple[int, Any]] = {}
        self.bad_checks: set[Any] = set()

    def failed_in(self, key: dg.AssetKey) -> set[int]:
        return {run for (other, _), (run, end) in self.attempt.items() if other == key and end in (FAILURE, CANCELED)}

    def failed(self, key: dg.AssetKey, part: str | None) -> bool:
        run, end = self.attempt.get((key, part), (0, None))
        behind = any(run in self.failed_in(parent) for parent in PARENTS[key])
        refused = behind or self.blocked(key, part)
        return (end in (FAILURE, CANCELED) and not refused) or (key, part) in self.bad_checks

    def blocked(self, key: dg.AssetKey, part: str | None) -> bool:
        for parent in PARENTS[key]:
            for other in PARTS[parent]:
                month = (key == TRAINING or parent == MODEL) and part and other and part[:7] == other[:7]
                same = other is None or month or ((key, parent) in OF_OWN_TIME and part == other)
                if same and (self.failed(parent, other) or self.blocked(parent, other)):
                    return True
        return False

    def state(self, key: dg.AssetKey, part: str | None) -> State:
        if self.failed(key, part):
            return F
        if self.blocked(key, part):
            return B
        if (key, part) in self.attempt and self.attempt[key, part][1] is None:
            return R
        return P if (key, part) in self.made else W if part is None else L


RUNS = st.tuples(
    st.sets(st.sampled_from(KEYS), min_size=1),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([dg.DagsterRunStatus.SUCCESS, FAILURE, CANCELED, None]),
    st.sets(st.sampled_from(KEYS), max_size=3),
)
CHECKED = st.tuples(st.sampled_from(DAYS), st.booleans())


@given(history=st.lists(st.one_of(RUNS, CHECKED), max_size=6))
@settings(max_examples=40)
def test_every_status_is_what_brute_force_says(tmp_path_factory: pytest.TempPathFactory, history: list[Any]) -> None:
    contract: Contract = contract_of(tmp_path_factory.mktemp("contract"))
    oracle = Oracle()
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(load(tmp_path_factory.getbasetemp()), contract, instance)
        for number, one in enumerate(history, 1):
            if len(one) == 2:
                day, passed = one
                world.check(day, passed)
                (oracle.bad_checks.discard if passed else oracle.bad_checks.add)((SILVER, day))
                continue
            keys, first, last, end, left_out = one
            days = DAYS[first : last + 1] or DAYS[:1]
            plan = {
                key: [part for part in PARTS[key] if part is None or part in days or part == f"{days[0][:7]}-01"]
                for key in KEYS
                if key in keys
            }
            # Of what is left out the first partition is made, as of a range with a bad day.
            made = {key: parts[:1] if key in left_out else parts for key, parts in plan.items()}
            world.run(plan, made, end)
            for key, parts in plan.items():
                for part in parts:
                    oracle.attempt.pop((key, part), None)
                    if part in made[key]:
                        oracle.made.add((key, part))
                    elif end != dg.DagsterRunStatus.SUCCESS:
                        oracle.attempt[key, part] = (number, end)
        found = world.statuses()
        told = {
            (key, part): one.state
            for key, parts in found.items()
            for part, one in parts.items()
            if part != "2013-03-01"
        }
        assert told == {(key, part): oracle.state(key, part) for key in KEYS for part in PARTS[key]}
        for key in (FACTS, TRAINING, GUESSES, TOP):
            asked = blocked(world.instance, world.graph, [key], PARTS[key], world.contracts)
            assert set(asked) == {(key, part) for part in PARTS[key] if oracle.blocked(key, part)}, key
