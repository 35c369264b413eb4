"""Which days a model learns from, how it is scored, and what it must beat."""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import AssayError
from ml.gate import baselines, judge
from ml.metrics import calibration_error, probability_metrics
from ml.training import split_days
from ml.training_set import first_prediction_of

DAYS = [date(2013, 1, 1) + timedelta(days=number) for number in range(400)]
CHANCES = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60)


@given(st.sets(st.sampled_from(DAYS), min_size=10), st.randoms(use_true_random=False))
def test_the_parts_hold_each_day_once_in_time_order(days: set[date], random: st.DataObject) -> None:
    shuffled = sorted(days)
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    parts = split_days(shuffled)
    assert [*parts.fit, *parts.calibrate, *parts.gate] == sorted(days)
    assert parts.fit and parts.calibrate and parts.gate


@pytest.mark.parametrize(
    ("days", "sizes"),
    [(10, (6, 2, 2)), (30, (18, 6, 6)), (83, (50, 16, 17)), (84, (56, 14, 14)), (333, (305, 14, 14))],
)
def test_twelve_weeks_leave_two_and_two_weeks_and_less_is_split_60_20_20(
    days: int, sizes: tuple[int, int, int]
) -> None:
    parts = split_days(DAYS[:days])
    assert (len(parts.fit), len(parts.calibrate), len(parts.gate)) == sizes


def test_nine_days_are_too_few_and_the_error_says_what_to_do() -> None:
    with pytest.raises(AssayError, match="9 days to learn from, and a model needs 10") as caught:
        split_days(DAYS[:9])
    assert "train for a later month" in caught.value.next_action


def test_a_month_begins_two_hours_before_its_midnight_in_new_york() -> None:
    """In winter 05:00 UTC, in summer 04:00 UTC."""
    begins = [first_prediction_of(date(2013, month, 9)).astimezone().timestamp() for month in (2, 7)]
    assert begins == [pd.Timestamp(one).timestamp() for one in ("2013-02-01T03:00Z", "2013-07-01T02:00Z")]


@given(CHANCES)
def test_brier_and_log_loss_are_what_their_definitions_say(rows: list[tuple[bool, float]]) -> None:
    labels, said = [one[0] for one in rows], [one[1] for one in rows]
    found = probability_metrics(labels, said)
    assert found["brier"] == pytest.approx(sum((p - y) ** 2 for y, p in rows) / len(rows))
    clipped = [min(max(p, 1e-6), 1 - 1e-6) for p in said]
    assert found["log_loss"] == pytest.approx(
        -sum(np.log(p if y else 1 - p) for y, p in zip(labels, clipped, strict=True)) / len(rows)
    )
    assert ("roc_auc" in found) == (len(set(labels)) == 2) == ("pr_auc" in found)


@given(CHANCES)
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, float]]) -> None:
    late, on_time = ([p for y, p in rows if y is which] for which in (True, False))
    found = probability_metrics([y for y, _ in rows], [p for _, p in rows])
    if late and on_time:
        right = sum((a > b) + 0.5 * (a == b) for a in late for b in on_time)
        assert found["roc_auc"] == pytest.approx(right / len(late) / len(on_time))


def test_ece_of_ten_bins_by_hand() -> None:
    """Ten bins of two rows; in the k-th it was said k/10 + 0.05 and happened to the second."""
    said = np.repeat(np.arange(10) / 10 + 0.05, 2)
    happened = np.tile([0.0, 1.0], 10)
    assert calibration_error(happened, said) == pytest.approx(np.mean(np.abs(np.arange(10) / 10 + 0.05 - 0.5)))
    assert calibration_error(np.array([1.0, 0.0, 0.0]), np.full(3, 0.25)) == pytest.approx(1 / 3 - 0.25)


def test_baselines_by_hand() -> None:
    """UA at eight: 3 of 4 late, with twenty rows of the base rate beside them; a carrier and hour nobody knew gets the rate."""
    before = pd.DataFrame(
        {
            "carrier": ["UA"] * 4 + ["AA"] * 4,
            "sched_dep_time": [800, 815, 830, 859, 800, 900, 900, 900],
            "is_delayed": [True, True, True, False, False, False, False, True],
        }
    )
    asked = pd.DataFrame({"carrier": ["UA", "UA", "AA"], "sched_dep_time": [845, 900, 905]}, index=[5, 3, 4])
    said = baselines(before, asked, "is_delayed")
    assert said.index.tolist() == [5, 3, 4]
    assert said["base_rate"].tolist() == [0.5] * 3
    assert said["carrier_hour"].tolist() == pytest.approx([(3 + 10) / 24, 0.5, (1 + 10) / 23])


def scores(
    challenger: float, champion: float | None, ece: float = 0.02, theirs: float = 0.01
) -> dict[str, dict[str, float]]:
    found = {
        "challenger": {"brier": challenger, "ece": ece},
        "base_rate": {"brier": 0.19, "ece": theirs},
        "carrier_hour": {"brier": 0.18, "ece": theirs},
    }
    return found if champion is None else {**found, "champion": {"brier": champion, "ece": theirs}}


@pytest.mark.parametrize(
    ("given_scores", "passed", "said"),
    [
        (scores(0.17, None), True, "better than base rate 0.1900, carrier hour 0.1800"),
        (scores(0.17, 0.171), True, "better than champion 0.1710"),
        (scores(0.17, 0.17), False, "no better than the champion"),
        (scores(0.17, 0.16), False, "no better than the champion (Brier 0.1700 against 0.1600)"),
        (scores(0.185, None), False, "no better than the carrier hour"),
        (scores(0.2, None), False, "no better than the base rate"),
        (scores(0.17, None, ece=0.05), True, "calibrated within 0.0500"),
        (scores(0.17, None, ece=0.06), False, "not calibrated (off by 0.0600, allowed 0.0500)"),
        (scores(0.17, None, ece=0.06, theirs=0.07), True, "calibrated within 0.0600"),
        (scores(float("nan"), None), False, "no better than the base rate"),
    ],
)
def test_only_better_than_all_and_calibrated_passes(
    given_scores: dict[str, dict[str, float]], passed: bool, said: str
) -> None:
    verdict = judge(given_scores)
    assert verdict.passed is passed
    assert said in verdict.why
