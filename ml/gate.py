"""What a challenger must beat to become the champion.

Belongs here: the baselines, and the rule. Does not belong here: scoring (metrics.py), or who is champion (promotion.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CHALLENGER, CHAMPION, BASE_RATE, CARRIER_HOUR = "challenger", "champion", "base_rate", "carrier_hour"
# A carrier and hour with few flights says little: as many rows of the base rate stand beside its own.
SMOOTHING_ROWS = 20
# Weather of the gate's two weeks moves everybody's rate, and nobody knew it: a model is not refused for being off by as
# much as a table of shares is. Below 0.05 nobody is called badly calibrated.
CALIBRATED = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger passed, and why, for a person."""

    passed: bool
    why: str


def baselines(before: "pd.DataFrame", asked: "pd.DataFrame", label: str) -> "pd.DataFrame":
    """What somebody without a model would say.

    Args:
        before: labelled flights that were known: `carrier`, `sched_dep_time` and the label.
        asked: the flights to say it of; the same columns but the label.

    Returns:
        `base_rate`, the share of late flights before, and `carrier_hour`, that of the same carrier and hour of scheduled
        departure, smoothed with `SMOOTHING_ROWS` rows of the base rate; a row per row of `asked`.
    """
    rate = float(before[label].astype("float64").mean())
    of_group = before[label].astype("float64").groupby(_carrier_hour(before))
    late, flights = of_group.sum().to_dict(), of_group.count().to_dict()
    shares = {one: (late[one] + SMOOTHING_ROWS * rate) / (flights[one] + SMOOTHING_ROWS) for one in late}
    said = [shares.get(one, rate) for one in _carrier_hour(asked)]
    return asked.filter(items=[]).assign(**{BASE_RATE: rate, CARRIER_HOUR: said})


def _carrier_hour(flights: "pd.DataFrame") -> "pd.Series":
    return flights["carrier"].astype("str") + (flights["sched_dep_time"] // 100).astype("str")


def judge(scores: Mapping[str, Mapping[str, float]]) -> Verdict:
    """The gate: better than each rival on the same rows, and calibrated.

    Args:
        scores: `ml.metrics.probability_metrics` of the challenger, of the two baselines and, if there is one, of the
            champion.
    """
    ours = scores[CHALLENGER]["brier"]
    lost = [
        f"no better than the {name.replace('_', ' ')} (Brier {ours:.4f} against {scores[name]['brier']:.4f})"
        for name in (CHAMPION, BASE_RATE, CARRIER_HOUR)
        if name in scores and not ours < scores[name]["brier"]
    ]
    off, allowed = scores[CHALLENGER]["ece"], max(CALIBRATED, scores[CARRIER_HOUR]["ece"])
    if not off <= allowed:
        lost.append(f"not calibrated (off by {off:.4f}, allowed {allowed:.4f})")
    if lost:
        return Verdict(False, "; ".join(lost))
    rivals = [
        f"{name.replace('_', ' ')} {scores[name]['brier']:.4f}"
        for name in (CHAMPION, BASE_RATE, CARRIER_HOUR)
        if name in scores
    ]
    return Verdict(True, f"Brier {ours:.4f}, better than {', '.join(rivals)}; calibrated within {off:.4f}")
