"""What is told to whom: problems, what of them is new, and the message that says so.

Belongs here: pure decisions, without Dagster, network or clock. Does not belong here: finding problems (alert_sensor),
sending (alert_delivery), or a word of the domain: a check says in its spec's metadata what kind of alert it is.

A problem is told once; again when it became another one, at most once an hour, as a backfill fails for hours; again after a
day, as people forget; and once more when it is over. An owner gets one message a tick, however much happened.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

# In the metadata of a check's spec: the kind of alert that it is.
KIND = "assay/alert"
FAILED, FAILED_RUN, FAILED_CHECK = "failed", "failed run", "failed check"
LATE, SPIKE, DRIFT, REFUSED = "late", "quarantine spike", "drift", "refused promotion"
# The standing checks of what is due.
LATE_CHECKS = ("due_days_are_there", "next_delivery_is_not_overdue", "partitions_are_there")
NEW, CHANGED, STILL, OVER = "new", "changed", "still so", "over"
CHANGE_AFTER_SECONDS = 3_600
REMIND_AFTER_SECONDS = 86_400
# The whole memory stays below 200 kB: a problem is some 700 bytes, a letter with all its lines 15 kB.
MOST_OPEN, MOST_LETTERS = 100, 8
NAMED_PROBLEMS, NAMED_RANGES, NAMED_SUBJECTS, TEXT_CHARACTERS = 20, 10, 3, 400
EVERYBODY = "*"


@dataclass(frozen=True)
class Problem:
    """Something that somebody should mend.

    Args:
        subject: the asset, `layer/table`; of a run without assets, `run <id>`.
        owners: as the asset declares them.
        what: what happened, a few lines at most.
        next: what to type or do next.
        since: when it began, in seconds since 1970.
        check: the check's name, if it is one's.
        partitions: ranges of partitions, as people read them; empty for the whole asset.
        count: how many partitions these are.
        run: the id of the newest run that failed.
        at: when that run failed; what was made since is no problem.
    """

    kind: str
    subject: str
    owners: tuple[str, ...]
    what: str
    next: str
    since: float
    check: str = ""
    partitions: tuple[str, ...] = ()
    count: int = 0
    run: str = ""
    at: float = 0

    @property
    def key(self) -> str:
        """The same problem has the same, whatever becomes of it."""
        return f"{self.kind}:{self.subject}:{self.check}"

    @property
    def content(self) -> str:
        """What is told again if it changes."""
        return json.dumps([self.partitions, self.count] if self.kind == FAILED else [self.what, self.partitions])


@dataclass
class Told:
    """An open problem. `at` is when it was last told, `content` what was told then, `to` which owners' addresses took it."""

    problem: Problem
    at: float
    content: str
    to: list[str] = field(default_factory=list)


@dataclass
class Letter:
    """A message that an owner's addresses have not all taken. `done` names those that have, by their sign."""

    owner: str
    title: str
    body: str
    keys: list[str]
    written: float
    due: float
    attempts: int = 0
    done: list[str] = field(default_factory=list)
    refused: str = ""


@dataclass
class Memory:
    """What the sensor keeps from tick to tick. `after` is the last event of Dagster's log that was read."""

    after: int
    open: dict[str, Told] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """What is told of a problem: that it is new, changed, still so, or over."""

    word: str
    problem: Problem


def as_text(memory: Memory) -> str:
    """The memory as JSON."""
    return json.dumps(asdict(memory))


def from_text(text: str) -> Memory:
    """The memory that `as_text` wrote."""
    stored = json.loads(text)
    told = {key: Told(**{**one, "problem": _problem(one["problem"])}) for key, one in stored["open"].items()}
    return Memory(stored["after"], told, [Letter(**one) for one in stored["letters"]])


def _problem(stored: dict[str, object]) -> Problem:
    return Problem(**{name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()})  # pyright: ignore[reportArgumentType]


def compare(memory: Memory, found: Iterable[Problem], now: float) -> list[Change]:
    """What is to be told now; the memory is brought up to date.

    Args:
        found: every problem that there is now, those known included.
        now: in seconds since 1970.
    """
    changes: list[Change] = []
    there = {problem.key: problem for problem in found}
    for key in [key for key in memory.open if key not in there]:
        changes.append(Change(OVER, memory.open.pop(key).problem))
    for key, problem in there.items():
        told = memory.open.get(key)
        if told is None:
            if problem.kind == FAILED_RUN:  # a run does not get better: told, not kept
                changes.append(Change(NEW, problem))
            elif len(memory.open) < MOST_OPEN:
                memory.open[key] = Told(problem, now, problem.content)
                changes.append(Change(NEW, problem))
            continue
        told.problem = problem
        age = now - told.at
        changed = problem.content != told.content and age >= CHANGE_AFTER_SECONDS
        if changed or age >= REMIND_AFTER_SECONDS:
            changes.append(Change(CHANGED if changed else STILL, problem))
            told.at, told.content = now, problem.content
    return changes


def letters(changes: Sequence[Change], now: float, environment: str, link: str) -> list[Letter]:
    """One message for each owner who has something to be told.

    Args:
        environment: its name stands in the subject, unless it is `local`.
        link: the address of Dagster's pages, or nothing.
    """
    owners = sorted({owner for change in changes for owner in change.problem.owners})
    return [
        _letter(owner, [c for c in changes if owner in c.problem.owners], now, environment, link) for owner in owners
    ]


def _letter(owner: str, changes: Sequence[Change], now: float, environment: str, link: str) -> Letter:
    whose = "everybody" if owner == EVERYBODY else owner.removeprefix("team:")
    bad = [change for change in changes if change.word != OVER]
    over = [change for change in changes if change.word == OVER]
    count = f"{len(bad)} problem{'s' * (len(bad) != 1)}" if bad else f"{len(over)} over"
    subjects = list(dict.fromkeys(change.problem.subject for change in bad or over))
    named = ", ".join(subjects[:NAMED_SUBJECTS]) + (", …" if len(subjects) > NAMED_SUBJECTS else "")
    platform = "Assay" if environment == "local" else f"Assay {environment}"
    shown = [*bad, *over]
    parts = [_lines(change, link) for change in shown[:NAMED_PROBLEMS]]
    if len(shown) > NAMED_PROBLEMS:
        parts.append(f"… and {len(shown) - NAMED_PROBLEMS} more: ./assay alerts")
    return Letter(
        owner,
        f"{platform}: {count} of {whose} ({named})",
        "\n\n".join(parts),
        [change.problem.key for change in bad],
        written=now,
        due=now,
    )


def _lines(change: Change, link: str) -> str:
    problem = change.problem
    began = f"{datetime.fromtimestamp(problem.since, UTC):%Y-%m-%d %H:%M} UTC"
    if change.word == OVER:
        return f"OVER  {headline(problem)}, since {began}"
    lines = [f"{change.word.upper()}  {headline(problem)}", f"since {began}", problem.what, f"Next: {problem.next}"]
    if link:
        run = problem.kind == FAILED_RUN
        lines.append(f"{link}/runs/{problem.run}" if run else f"{link}/assets/{problem.subject}")
    return "\n    ".join(line for text in lines if text for line in text.splitlines())


def headline(problem: Problem) -> str:
    """A problem in one line: the asset, what it is, the partitions."""
    what = f"{problem.kind}, {problem.check}" if problem.check else problem.kind
    named = ", ".join(problem.partitions[:NAMED_RANGES]) + (", …" if len(problem.partitions) > NAMED_RANGES else "")
    count = f" ({problem.count} partitions)" if problem.count > 1 else ""
    return f"{problem.subject}: {what}{f': {named}{count}' if named else ''}"


def ranges(keys: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    """Partition keys as ranges, `first...last`, of those that follow each other in the order of all partitions."""
    position = {key: number for number, key in enumerate(order)}
    # a key that is no partition any more has no neighbours
    known = sorted((key for key in set(keys) if key in position), key=position.__getitem__)
    found: list[tuple[str, str]] = []
    for key in known:
        if found and position[found[-1][1]] + 1 == position[key]:
            found[-1] = (found[-1][0], key)
        else:
            found.append((key, key))
    gone = sorted(set(keys) - position.keys())
    return tuple([first if first == last else f"{first}...{last}" for first, last in found] + gone)


def short(text: str) -> str:
    """A message without its empty lines, as long as a message may show it."""
    kept = "\n".join(line.strip() for line in text.splitlines() if line.strip())
    return kept if len(kept) <= TEXT_CHARACTERS else f"{kept[:TEXT_CHARACTERS]}…"


def split_next(text: str) -> tuple[str, str]:
    """An error's text as what happened and what to do next, which errors of the platform say in a line of their own."""
    what, _, action = text.partition("\nNext: ")
    return short(what), action.partition("\n")[0].strip().removesuffix(".")
