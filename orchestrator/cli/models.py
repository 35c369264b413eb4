"""`./assay models`: the versions of the model, the decisions about them, and going back to an older one.

Belongs here: what a person is told, and the event by which Dagster's UI shows a roll back. Does not belong here: the log
itself (ml/promotion.py).
"""

import getpass
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from foundation.settings import Settings
from ml.gate import BASE_RATE, CARRIER_HOUR, CHALLENGER, CHAMPION
from ml.promotion import Decision, decisions, timeline
from ml.promotion import roll_back as record_roll_back
from ml.registry import RegisteredModel, answering, connect, model_name, model_versions
from ml.training import scores_of
from orchestrator.cli.printing import print_table

if TYPE_CHECKING:
    import dagster as dg


def print_versions(settings: Settings, console: Console) -> None:
    """Every version: its month, its Brier score beside those it was judged with, and since when it is champion."""
    versions, log = model_versions(settings), decisions(settings)
    if not versions:
        console.print(
            f"{model_name(settings)} has no version yet. Next: materialize models/arrival_delay, or ./assay demo"
        )
        return
    champions = _months_of(log)
    newest = list(timeline(log).values())[-1:]
    judged = {one.version: one for one in log if one.action != "roll back"}
    lines = [("version", "month", "learnt through", "brier", *_RIVALS.values(), "auc", "decision", "champion")]
    for model in versions:
        decision = judged.get(model.version)
        scores = _scores(settings, model)
        lines.append(
            (
                f"{model.version}",
                model.month,
                str(model.trained_through),
                _number(scores, CHALLENGER, "brier"),
                *(_number(scores, who, "brier") for who in _RIVALS),
                _number(scores, CHALLENGER, "roc_auc"),
                decision.action if decision else "not judged yet",
                champions.get(model.version, "") + (" (newest)" if [model.version] == newest else ""),
            )
        )
    print_table(console, lines)
    console.print(
        "Less of brier is better; all of a line are on the same flights. Why: ./assay models log", soft_wrap=True
    )


def print_log(settings: Settings, console: Console) -> None:
    """Every decision, the oldest first."""
    log = decisions(settings)
    if not log:
        console.print("Nothing was decided yet. Next: materialize models/arrival_delay, or ./assay demo")
        return
    lines = [("number", "at (UTC)", "decision", "version", "from", "against", "by", "why")]
    lines += [
        (
            f"{one.number}",
            one.at[:16].replace("T", " "),
            one.action,
            f"{one.version}",
            one.valid_from,
            "nobody" if one.against is None else f"version {one.against}",
            one.by,
            one.why,
        )
        for one in log
    ]
    print_table(console, lines)


def roll_back_to(settings: Settings, console: Console, version: int, since: str, why: str) -> None:
    """Writes the roll back down, and tells Dagster of it.

    Raises:
        AssayError: it makes no sense; see `ml.promotion.roll_back`.
    """
    decision = record_roll_back(settings, version, since, why, _person(settings))
    # After the log, which is the truth; the same command again writes an event that a killed one did not.
    _observe(settings, decision)
    console.print(
        f"{model_name(settings)} version {version} is champion from {since} on (decision {decision.number}); it was "
        f"{'nobody' if decision.against is None else f'version {decision.against}'} in {since}.",
        soft_wrap=True,
    )
    console.print(
        "Days that were predicted already keep their rows. Next: materialize predictions/arrival_delay for the days that "
        "shall follow; a month that is to have a model of its own again needs a new one: materialize models/arrival_delay "
        "when its rows have changed, or roll back to the version that it had",
        soft_wrap=True,
    )


_RIVALS = {CHAMPION: "champion's", BASE_RATE: "base rate's", CARRIER_HOUR: "carrier hour's"}


def _scores(settings: Settings, model: RegisteredModel) -> dict[str, dict[str, float]]:
    with answering(f"reading the scores of {model.name} version {model.version}"):
        return scores_of(connect(settings).MlflowClient().get_run(model.run_id).data.metrics)


def _number(scores: dict[str, dict[str, float]], who: str, what: str) -> str:
    value = scores.get(who, {}).get(what)
    return "" if value is None else f"{value:.4f}"


def _months_of(log: Sequence[Decision]) -> dict[int, str]:
    """Version to the months in which it is champion."""
    valid = list(timeline(log).items())
    spans: dict[int, list[str]] = {}
    for number, (since, version) in enumerate(valid):
        until = valid[number + 1][0] if number + 1 < len(valid) else None
        spans.setdefault(version, []).append(f"from {since}" + (f", until {until}" if until else ""))
    return {version: "; ".join(found) for version, found in spans.items()}


def _person(settings: Settings) -> str:
    try:
        return settings.user or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _observe(settings: Settings, decision: Decision) -> None:
    import dagster as dg

    key = dg.AssetKey(["models", "arrival_delay"])
    partition = f"{decision.valid_from}-01"
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        if decision.number in _observed(instance, key):
            return
        metadata = {
            "decision": f"{decision.action} (number {decision.number} of the log)",
            "decision_number": decision.number,
            "version": decision.version,
            "valid_from": decision.valid_from,
            "against": f"version {decision.against}" if decision.against else "nobody",
            "why": decision.why,
            "by": decision.by,
        }
        instance.report_runless_asset_event(
            dg.AssetObservation(key, description=f"rolled back: {decision.why}", partition=partition, metadata=metadata)
        )


def _observed(instance: "dg.DagsterInstance", key: "dg.AssetKey") -> list[object]:
    """The numbers of the newest decisions that Dagster was told of."""
    records = instance.fetch_observations(key, limit=20).records
    observations = [record.asset_observation for record in records]
    return [one.metadata["decision_number"].value for one in observations if one and "decision_number" in one.metadata]
