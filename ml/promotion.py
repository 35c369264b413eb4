"""Which version is valid in which month: a log of decisions, and what follows from it.

Belongs here: writing and reading that log. Does not belong here: whether a version is good enough (gate.py).

The log is the truth; MLflow keeps it as tags of the registered model, one a decision, and no tag is ever changed. The
alias `champion` and a version's tag `gate` only show it: they are set again from the log at each write, so that a command
that was killed in between is completed by the next one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from foundation.errors import AssayError
from foundation.lock import writer_lock, writer_of
from foundation.settings import Settings, base_settings
from ml.registry import GATE, MODEL, RegisteredModel, answering, connect, model_name, model_versions

TAG = "decision."
ALIAS = "champion"
# A person waits, or a run that would rather fail than stand in the pool: a decision takes seconds.
WAIT_SECONDS = 60
Action = Literal["promote", "refuse", "roll back"]


@dataclass(frozen=True)
class Decision:
    """An entry of the log.

    Args:
        number: from 1, without gaps.
        at: when it was made, UTC, in ISO format; by the real clock, also in a home that lives in 2013.
        version: of the model; what the action was done to.
        valid_from: `YYYY-MM`, the first month that it is about.
        against: the version that was champion of the month before; None if there was none.
        why: for a person.
        by: a Dagster run, or who typed the command.
    """

    number: int
    at: str
    action: Action
    version: int
    valid_from: str
    against: int | None
    why: str
    by: str


def month_of(month: date) -> str:
    """`YYYY-MM` of a day."""
    return f"{month:%Y-%m}"


def month_before(month: str) -> str:
    """`YYYY-MM` of the month before."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year - 1}-12" if number == 1 else f"{year}-{number - 1:02}"


def timeline(log: Sequence[Decision]) -> dict[str, int]:
    """From which month on which version is valid.

    A promotion is valid from its month until the next month that has an entry; a roll back is valid for ever, so that it
    takes out what was promoted for later months. A refusal changes nothing.
    """
    valid: dict[str, int] = {}
    for decision in sorted(log, key=lambda one: one.number):
        if decision.action == "refuse":
            continue
        if decision.action == "roll back":
            valid = {month: version for month, version in valid.items() if month < decision.valid_from}
        valid[decision.valid_from] = decision.version
    return dict(sorted(valid.items()))


def valid_in(log: Sequence[Decision], month: str) -> int | None:
    """The version that is champion in a month (`YYYY-MM`)."""
    versions = [version for since, version in timeline(log).items() if since <= month]
    return versions[-1] if versions else None


def decisions(settings: Settings) -> list[Decision]:
    """The log, the oldest first; empty if no model was ever registered.

    Raises:
        RegistryDown: MLflow does not answer.
    """
    name = model_name(settings)
    with answering(f"reading the promotion log of {name}"):
        found = list(connect(settings).MlflowClient().search_registered_models(f"name = '{name}'"))
    tags: Mapping[str, str] = found[0].tags if found else {}
    log = [Decision(**json.loads(value)) for tag, value in tags.items() if tag.startswith(TAG)]
    return sorted(log, key=lambda decision: decision.number)


def champion(settings: Settings, month: date) -> RegisteredModel | None:
    """The version that is valid in a month, by its log; None if there is none. A branch that has none of its own uses its
    base's, which it never changes.

    Args:
        month: any day of it.

    Raises:
        AssayError: the log names a version that MLflow has no more.
        RegistryDown: MLflow does not answer.
    """
    version = valid_in(decisions(settings), month_of(month))
    if version is None and settings.base:
        return champion(base_settings(settings), month)
    return None if version is None else _version(settings, version)


def decision_of(settings: Settings, version: int) -> Decision | None:
    """What the gate decided about a version; None if it was not judged yet."""
    judged = [one for one in decisions(settings) if one.version == version and one.action != "roll back"]
    return judged[-1] if judged else None


def record(
    settings: Settings, model: RegisteredModel, passed: bool, against: int | None, why: str, by: str
) -> Decision:
    """Writes down what the gate decided about a version, once: a version that was judged keeps its decision.

    Args:
        model: the challenger; the decision is valid from its month on.
        passed: whether it becomes the champion.

    Raises:
        AssayError: another writer holds the log for longer than a minute.
        RegistryDown: MLflow does not answer.
    """
    with writer_lock(settings, writer_of("models", MODEL), WAIT_SECONDS):
        decision = decision_of(settings, model.version)
        if decision is None:
            action: Action = "promote" if passed else "refuse"
            decision = _append(settings, action, model.version, model.month, against, why, by)
        _show(settings)
        return decision


def repair(settings: Settings) -> None:
    """Sets the alias and the versions' tags as the log has them.

    Raises:
        AssayError: another writer holds the log for longer than a minute.
        RegistryDown: MLflow does not answer.
    """
    with writer_lock(settings, writer_of("models", MODEL), WAIT_SECONDS):
        _show(settings)


def roll_back(settings: Settings, version: int, since: str, why: str, by: str) -> Decision:
    """Makes a former champion valid again from a month on, for ever: what was promoted for later months goes.

    The same once more changes nothing: the decision that is there is returned.

    Args:
        since: `YYYY-MM`.
        why: for who reads the log.

    Raises:
        AssayError: it makes no sense: an unknown version, one that was never champion, one that learnt from that month or
            later, or no change at all.
        RegistryDown: MLflow does not answer.
    """
    if not why.strip():
        raise AssayError("A roll back without a reason helps nobody who reads the log", "say it: --why 'late since …'")
    _check_month(since)
    with writer_lock(settings, writer_of("models", MODEL), WAIT_SECONDS):
        log = decisions(settings)
        last = log[-1] if log else None
        if last and (last.action, last.version, last.valid_from) == ("roll back", version, since):
            _show(settings)
            return last
        _check_sense(settings, log, version, since)
        decision = _append(settings, "roll back", version, since, valid_in(log, since), why, by)
        _show(settings)
        return decision


def _check_month(month: str) -> None:
    try:
        good = month_of(date.fromisoformat(f"{month}-01")) == month
    except ValueError:
        good = False
    if not good:
        raise AssayError(f"{month!r} is no month", "write it as 2013-05")


def _check_sense(settings: Settings, log: Sequence[Decision], version: int, since: str) -> None:
    name = model_name(settings)
    model = _version(settings, version)
    promoted = sorted({one.version for one in log if one.action == "promote"})
    if version not in promoted:
        known = f"roll back to one that was: {', '.join(map(str, promoted))}" if promoted else "there is none yet"
        raise AssayError(f"{name} version {version} never was champion", known)
    if since < model.month:
        raise AssayError(
            f"{name} version {version} learnt from days through {model.trained_through}, so it knows what it would predict "
            f"from {since} on",
            f"roll back from {model.month} or later, or to an older version: ./assay models",
        )
    valid = timeline(log)
    if valid_in(log, since) == version and not any(month > since for month in valid):
        raise AssayError(
            f"{name} version {version} is champion from {since} on already, and no later month has another",
            "see ./assay models",
        )


def _version(settings: Settings, version: int) -> RegisteredModel:
    for model in model_versions(settings):
        if model.version == version:
            return model
    raise AssayError(
        f"{model_name(settings)} has no version {version} in MLflow that the platform made",
        "see ./assay models for those there are, and roll back to one of them if the log names one that is gone",
    )


def _append(
    settings: Settings, action: Action, version: int, since: str, against: int | None, why: str, by: str
) -> Decision:
    """Within the lock: the numbers have no gaps."""
    number = len(decisions(settings)) + 1
    at = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(number, at, action, version, since, against, why, by)
    with answering(f"writing decision {number} about {model_name(settings)} version {version}"):
        connect(settings).MlflowClient().set_registered_model_tag(
            model_name(settings), f"{TAG}{number:06}", json.dumps(asdict(decision))
        )
    return decision


def _show(settings: Settings) -> None:
    """Sets what only shows the log: the alias, which is the newest month's entry, and each version's tag."""
    log = decisions(settings)
    name = model_name(settings)
    client: Any = connect(settings).MlflowClient()
    with answering(f"showing who is champion of {name}"):
        judged = {one.version: one.action for one in log if one.action != "roll back"}
        for version in client.search_model_versions(f"name = '{name}'"):
            action = judged.get(int(version.version))
            if action is not None and version.tags.get(GATE) != action:
                client.set_model_version_tag(name, version.version, GATE, action)
        newest = list(timeline(log).values())[-1:]
        shown = client.get_registered_model(name).aliases.get(ALIAS)
        if newest and str(shown) != str(newest[0]):
            client.set_registered_model_alias(name, ALIAS, str(newest[0]))
