"""How good probabilities are.

Belongs here: the numbers. Does not belong here: where labels and probabilities come from, or what is good enough.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BINS = 10
# A probability of exactly 0 or 1 would cost infinitely much; 1e-6 is less than 300,000 labels can tell from 0.
SMALLEST = 1e-6


def probability_metrics(labels: Sequence[bool], probabilities: Sequence[float]) -> dict[str, float]:
    """Scores probabilities against what happened.

    Args:
        labels: what happened, at least one.
        probabilities: what was said before, 0 to 1, as many.

    Returns:
        `brier`, `log_loss` and `ece` (see `calibration_error`), of which less is better; `roc_auc` and `pr_auc`, of which
        more is; both are missing if all labels are alike.
    """
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score

    happened = np.asarray(labels, dtype="float64")
    said = np.asarray(probabilities, dtype="float64")
    sure = np.clip(said, SMALLEST, 1 - SMALLEST)
    metrics = {
        "brier": float(np.mean((said - happened) ** 2)),
        "log_loss": float(-np.mean(happened * np.log(sure) + (1 - happened) * np.log(1 - sure))),
        "ece": calibration_error(happened, said),
    }
    if 0 < happened.mean() < 1:
        metrics["roc_auc"] = float(roc_auc_score(happened, said))
        metrics["pr_auc"] = float(average_precision_score(happened, said))
    return metrics


def calibration_error(labels: "np.ndarray", probabilities: "np.ndarray", bins: int = BINS) -> float:
    """The expected calibration error: how far what was said is from what happened, on average over bins of equally many
    rows. Equal probabilities stay together, so there may be fewer bins."""
    return float(
        sum(abs(said - happened) * rows for said, happened, rows in calibration_bins(labels, probabilities, bins))
        / len(labels)
    )


def calibration_bins(
    labels: "np.ndarray", probabilities: "np.ndarray", bins: int = BINS
) -> list[tuple[float, float, int]]:
    """(mean probability, share that happened, rows) by quantile of the probability, in its order."""
    import numpy as np

    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1))
    place = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, bins - 1)
    members = [place == number for number in range(bins)]
    return [
        (float(probabilities[chosen].mean()), float(labels[chosen].mean()), int(chosen.sum()))
        for chosen in members
        if chosen.any()
    ]
