"""One step of `./assay ci` while it runs.

Belongs here: running a command line where people see it, and finding in its output why it failed. Does not belong here: which
steps there are (ci.py).
"""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
from rich.console import Console
from rich.markup import escape

from foundation.settings import PROJECT

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# The last line of a Python error: its type, then what it says.
RAISED = re.compile(r"^(?:E\s+)?[\w.]*(?:Error|Exception|Failure|Warning as error)\b:? ?.*")
REASON_LINES = 14


class Red(Exception):
    """A command failed.

    Args:
        command: as a person would type it.
        reason: the lines of its output that say why.
        logs: the whole of it.
    """

    def __init__(self, command: str, reason: Sequence[str], logs: Sequence[Path]) -> None:
        super().__init__(command)
        self.command, self.reason, self.logs = command, list(reason), list(logs)


@dataclass
class Step:
    """One step while it runs: it prints and runs commands, and keeps what they write.

    Args:
        logs: the folder for what commands write.
        patience: how many seconds a command may take; None of those that end their own waiting, as pytest does.
    """

    name: str
    console: Console
    logs: Path
    patience: float | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0
    red: Red | None = None
    _commands: int = 0

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        explain: Callable[[str], list[str]] | None = None,
        folder: Path = PROJECT,
    ) -> str:
        """Prints a command line, runs it, and returns what it wrote to standard output.

        Args:
            words: `./assay` is this very command line; others are found on the environment's path.
            explain: says why it failed, if the lines of its output do not.
            folder: where it runs.

        Raises:
            Red: its exit code is not 0, or it did not end.
        """
        shown = shlex.join(words)
        self.say(f"$ {shown}")
        command = [sys.executable, "-m", "orchestrator.cli", *words[1:]] if words[0] == "./assay" else list(words)
        self._commands += 1
        slug = re.sub(r"[^a-z0-9]+", "-", shown.lower())[:40].strip("-")
        logs = [self.logs / f"{self.name}-{self._commands:02}-{slug}.{kind}" for kind in ("out", "err")]
        with logs[0].open("w") as out, logs[1].open("w") as err:
            code = self._code_of(command, environment, folder, out, err)
        output, errors = [COLOURS.sub("", log.read_text(errors="replace")) for log in logs]
        if code is None:
            said = f"It did not end in {(self.patience or 0) / 60:g} minutes, and was ended. It stood in:"
            then = "Next: mend what it waits for, or give it longer: ./assay ci data --patience <minutes>"
            raise Red(shown, [said, *stood_in(errors), then], [log for log in logs if log.stat().st_size])
        if code:
            reason = (explain and explain(output)) or reason_of(f"{output}\n{errors}")
            raise Red(shown, reason, [log for log in logs if log.stat().st_size])
        return output

    def _code_of(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, out: IO[str], err: IO[str]
    ) -> int | None:
        """The exit code, or None of what did not end in time: then its Python processes have said where they stood."""
        spoken = {**environment, "PYTHONFAULTHANDLER": "1"}  # at SIGABRT, Python writes the stack of each thread
        with subprocess.Popen(command, cwd=folder, env=spoken, stdout=out, stderr=err) as process:
            try:
                return process.wait(self.patience)
            except subprocess.TimeoutExpired:
                # One after the other, the command first: they may write to one file, and its stack is the one that is shown.
                for member in [it := psutil.Process(process.pid), *it.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                        member.send_signal(signal.SIGABRT)
                        if psutil.wait_procs([member], timeout=10)[1]:
                            member.kill()
                return None
            except BaseException:  # as `subprocess.run` has it: nothing is left behind by who interrupts
                process.kill()
                raise

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{self.name:<12}[/]{escape(text)}", soft_wrap=True)

    def note(self, markdown: str) -> None:
        """Adds to the page of the pull request."""
        self.notes.append(markdown)


def stood_in(errors: str) -> list[str]:
    """The last line that a command wrote before it was ended, and the innermost frames of its main thread."""
    said, _, stack = errors.partition("Fatal Python error: Aborted")
    frames = re.search(r"^Current thread .*\n((?:  .*\n?)+)", stack, re.MULTILINE)
    inner = [line.strip() for line in frames[1].splitlines()] if frames else []
    return [*[line for line in said.splitlines() if line.strip()][-1:], *inner[: REASON_LINES - 2]]


def reason_of(output: str) -> list[str]:
    """The lines of a failed command's output that say why: a message of ours, a test's, a Python error, or the last ones."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    ours = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if ours:
        return lines[ours[-1] :][:REASON_LINES]
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if failed:
        said = [line for line in lines if re.match(r"E  +\S", line)]
        return [*said[: REASON_LINES - min(len(failed), 5)], *failed[:5]]
    raised = [number for number, line in enumerate(lines) if RAISED.match(line)]
    if raised:
        frames = [line.strip() for line in lines[: raised[-1]] if f'File "{PROJECT}' in line and ".venv" not in line]
        return [*frames[-1:], *lines[raised[-1] :][:8]]
    return lines[-REASON_LINES:]
