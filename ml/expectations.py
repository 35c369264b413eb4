"""What is expected of the training set, month by month, before a model learns from it.

Belongs here: that. Does not belong here: leaks, which `refuse_leaks` of training_set.py refuses before anything is written.
"""

from foundation.expectation import ERROR, PROFILE, WARN, Expectation
from ml.features import NUMERIC
from quality.profile import Subject

BETWEEN = "expect_column_values_to_be_between"


def _of_month(column: str, least: float | None, most: float | None, severity: str = ERROR) -> Expectation:
    bounds = {name: value for name, value in (("min_value", least), ("max_value", most)) if value is not None}
    return Expectation(BETWEEN, {"column": column, **bounds}, ERROR if severity == ERROR else WARN, PROFILE)


TRAINING_SET = Subject(
    "models",
    "arrival_delay_training_set",
    "month",
    "month",
    expectations=(
        # 18 to 31 % of the arrivals of a month of 2013 were late: outside of these bounds the label means something else.
        _of_month("mean_is_delayed", 0.05, 0.6),
        # A feature that is empty was not joined. Gusts are known of the fewest flights.
        *(_of_month(f"null_share_{name}", None, 0.99) for name in NUMERIC),
    ),
    generated=False,
    declared_in="ml/expectations.py",
)
