"""How good probabilities are, always beside what the base rate alone would have scored.

Belongs here: the numbers. Does not belong here: where labels and probabilities come from.
"""

from collections.abc import Sequence


def probability_metrics(labels: Sequence[bool], probabilities: Sequence[float], base_rate: float) -> dict[str, float]:
    """Scores probabilities against what happened.

    Args:
        labels: what happened, at least one.
        probabilities: what was said before, 0 to 1.
        base_rate: the share that somebody without a model would have said for each row: known before, not the share of
            these labels.

    Returns:
        `rows`, `observed_rate`, `base_rate`, `log_loss` and `brier` (both: less is better), the same two for the base
        rate, the two skills (share of the base rate's loss that the model saves; at most 1, negative if worse), and
        `auc` unless all labels are alike.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    happened = np.asarray(labels, dtype="float64")
    # A probability of exactly 0 or 1 would cost infinitely much; 1e-6 is less than 300,000 labels can tell from 0.
    said = np.clip(np.asarray(probabilities, dtype="float64"), 1e-6, 1 - 1e-6)
    rate = np.clip(np.full_like(happened, base_rate), 1e-6, 1 - 1e-6)

    def log_loss(p: np.ndarray) -> float:
        return float(-np.mean(happened * np.log(p) + (1 - happened) * np.log(1 - p)))

    def brier(p: np.ndarray) -> float:
        return float(np.mean((p - happened) ** 2))

    metrics = {
        "rows": float(len(happened)),
        "observed_rate": float(happened.mean()),
        "base_rate": float(base_rate),
        "log_loss": log_loss(said),
        "log_loss_of_base_rate": log_loss(rate),
        "brier": brier(said),
        "brier_of_base_rate": brier(rate),
    }
    for loss in ("log_loss", "brier"):
        reference = metrics[f"{loss}_of_base_rate"]
        metrics[f"{loss}_skill"] = 1 - metrics[loss] / reference if reference > 0 else 0.0
    if 0 < happened.mean() < 1:
        metrics["auc"] = float(roc_auc_score(happened, said))
    return metrics
