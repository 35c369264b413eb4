"""How good predictions were, once the flights have landed.

Belongs here: predictions joined with facts, and the score. Does not belong here: predicting, or drift over time.
"""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.settings import Settings
from ml.features import KEY, before_day, on_days
from ml.gate import baselines
from ml.metrics import probability_metrics
from ml.predicting import PREDICTIONS
from ml.training_set import LABEL

if TYPE_CHECKING:
    import pandas as pd


def score(settings: Settings, days: Sequence[date]) -> dict[str, dict[str, float]]:
    """Scores the predictions of some days against what happened.

    Args:
        settings: the environment.
        days: the days to score, at least one.

    Returns:
        `ml.metrics.probability_metrics` of the `model` and, on the same rows, of the two baselines `base_rate` and
        `carrier_hour`, which know what happened on all days before the first of `days`; and under `flights` how many were
        `predicted`, how many of these `arrived`, and how many of those `late`.

    Raises:
        AssayError: none of these days has both predictions and known arrivals, or Gold knows no day before them.
    """
    facts_name, predictions_name = settings.table("gold", "flight_facts"), settings.table(*PREDICTIONS)
    chosen = on_days(days)
    facts = load_table(settings, "gold", "flight_facts")
    happened: pd.DataFrame = facts.scan(row_filter=chosen, selected_fields=(*KEY, LABEL)).to_arrow().to_pandas()
    earlier = facts.scan(
        row_filter=f"{before_day(min(days))} and {LABEL} is not null",
        selected_fields=("carrier", "sched_dep_time", LABEL),
    )
    before: pd.DataFrame = earlier.to_arrow().to_pandas()
    predictions = load_table(settings, *PREDICTIONS)
    said: pd.DataFrame = (
        predictions.scan(row_filter=chosen, selected_fields=(*KEY, "delay_probability")).to_arrow().to_pandas()
    )
    both = said.merge(happened, on=KEY, how="inner", validate="one_to_one").dropna(subset=[LABEL])
    if both.empty:
        raise AssayError(
            f"{predictions_name} and {facts_name} share no flight with a known arrival, {min(days)} to {max(days)}",
            "materialize predictions/arrival_delay and gold/flight_facts for these days",
        )
    if before.empty:
        raise AssayError(
            f"{facts_name} has no flight with a known arrival delay before {min(days)}, so there is no base rate",
            f"materialize gold/flight_facts for days before {min(days)}",
        )
    labels = both[LABEL].astype("bool").tolist()
    guesses = baselines(before, both, LABEL).assign(model=both["delay_probability"])
    return {
        **{str(who): probability_metrics(labels, guesses[who].tolist()) for who in guesses.columns},
        "flights": {"predicted": float(len(said)), "arrived": float(len(both)), "late": float(sum(labels))},
    }
