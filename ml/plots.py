"""The pictures of a model's run: ROC, precision and recall, reliability.

Belongs here: drawing. Does not belong here: numbers (metrics.py), or where pictures are kept.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml.gate import BASE_RATE
from ml.metrics import calibration_bins

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(labels: Sequence[bool], said: "pd.DataFrame") -> "dict[str, Figure]":
    """Everybody who was scored, in one picture each.

    Args:
        labels: what happened; both late and on time occur.
        said: the probabilities, a column for each who was scored.

    Returns:
        `roc`, `precision_recall` and `reliability`.
    """
    import numpy as np
    from sklearn.metrics import precision_recall_curve, roc_curve

    happened = np.asarray(labels, dtype="float64")
    roc, axes = _figure("False alarms, share of flights on time", "Found, share of late flights")
    recall, recall_axes = _figure("Found, share of late flights", "Right, share of flights called late")
    reliability, reliability_axes = _figure("Said, mean probability", "Happened, share of late flights")
    for who in said.columns:
        probabilities = said[who].to_numpy(dtype="float64")
        name = str(who).replace("_", " ")
        false, found, _ = roc_curve(happened, probabilities)
        axes.plot(false, found, label=name)
        precision, share, _ = precision_recall_curve(happened, probabilities)
        if who != BASE_RATE:  # one point, and a line to it that means nothing
            recall_axes.step(share, precision, where="post", label=name)
        bins = calibration_bins(happened, probabilities)
        reliability_axes.plot([one[0] for one in bins], [one[1] for one in bins], marker="o", label=name)
    recall_axes.axhline(float(happened.mean()), linestyle=":", color="grey", label="base rate")
    reliability_axes.axline((0, 0), slope=1, linestyle=":", color="grey")
    for one in (axes, recall_axes, reliability_axes):
        one.legend()
    return {"roc": roc, "precision_recall": recall, "reliability": reliability}


def _figure(x: str, y: str) -> "tuple[Figure, Axes]":
    # Not pyplot: that keeps every figure, and looks for a screen.
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes
