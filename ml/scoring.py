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
from ml.metrics import probability_metrics
from ml.predicting import PREDICTIONS
from ml.training import LABEL

if TYPE_CHECKING:
    import pandas as pd


def score(settings: Settings, days: Sequence[date]) -> dict[str, float]:
    """Scores the predictions of some days against what happened.

    Args:
        settings: the environment.
        days: the days to score, at least one.

    Returns:
        What `ml.metrics.probability_metrics` returns, against the share of late flights on all days before the first of
        `days` (what one could have said without a model), and `predicted`: flights predicted, whether or not they
        arrived.

    Raises:
        AssayError: none of these days has both predictions and known arrivals, or Gold knows no day before them.
    """
    facts_name, predictions_name = settings.table("gold", "flight_facts"), settings.table(*PREDICTIONS)
    chosen = on_days(days)
    facts = load_table(settings, "gold", "flight_facts")
    happened: pd.DataFrame = facts.scan(row_filter=chosen, selected_fields=(*KEY, LABEL)).to_arrow().to_pandas()
    earlier = facts.scan(row_filter=before_day(min(days)), selected_fields=(LABEL,))
    labels_before = earlier.to_arrow().to_pandas()[LABEL].dropna()
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
    if labels_before.empty:
        raise AssayError(
            f"{facts_name} has no flight with a known arrival delay before {min(days)}, so there is no base rate",
            f"materialize gold/flight_facts for days before {min(days)}",
        )
    metrics = probability_metrics(
        both[LABEL].astype("bool").tolist(),
        both["delay_probability"].tolist(),
        float(labels_before.astype("float64").mean()),
    )
    return {**metrics, "predicted": float(len(said))}
