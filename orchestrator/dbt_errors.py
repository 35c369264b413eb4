"""Where in a person's own file the mistake is that an engine or dbt complains about.

Belongs here: from a message to file and line. Does not belong here: the message itself, which dbt prints whole. Engines
count the lines of the statement that dbt made of a model; a person edits the model.
"""

import re
from pathlib import Path

from orchestrator.manifests import DBT_PROJECT

# Trino's `line 12:5`, ClickHouse's `(line 12, col 5)`
ENGINES_LINE = re.compile(r"\bline (\d+)(?::|, col )\d+")
QUOTED = re.compile(r"[`'\"]([\w.]+)[`'\"]")
PATH = re.compile(r"\b(?:models|seeds|snapshots|tests|macros)/[\w/.-]+\.\w+")


def place(path: str, message: str, statement: str = "") -> str:
    """`models/gold/x.sql:12`, or the path alone if the line is not known.

    Args:
        path: of the file within dbt_project.
        statement: what was sent to the engine.
    """
    file = DBT_PROJECT / path
    found = _line(file.read_text(), message, statement) if file.is_file() else None
    return f"dbt_project/{path}:{found}" if found else f"dbt_project/{path}"


def places(message: str) -> list[str]:
    """The files that a message of dbt itself names, with their lines where they are known."""
    paths = list(dict.fromkeys(PATH.findall(message)))
    # A macro that refuses a model is not what is wrong.
    models = [path for path in paths if not path.startswith("macros/")]
    return [place(path, message) for path in models or paths]


def summary(message: str) -> str:
    """What is wrong, in a line, of an engine's message."""
    inner = re.search(r'message="(.*?)", query_id', message) or re.search(
        r"DB::Exception: (.*?)(?: \(for url|$)", message, re.M
    )
    lines = [line.strip() for line in (inner[1] if inner else message).splitlines() if line.strip()]
    # dbt's first line says which node, which is said already.
    kept = [line for line in lines if not re.match(r"\w+ Error in ", line)]
    return " ".join(kept[:2])[:300]


def _line(source: str, message: str, statement: str) -> int | None:
    lines = source.splitlines()
    if (match := ENGINES_LINE.search(message)) and statement:
        # dbt sends a line of its own before the statement.
        sent = dict(enumerate(statement.splitlines())).get(int(match[1]) - 2, "").strip()
        if sent and (here := _only([number for number, line in enumerate(lines, 1) if line.strip() == sent])):
            return here
    if match := re.search(r"^\s*line (\d+)\s*$", message, re.MULTILINE):  # Jinja's, of the file itself
        return int(match[1])
    for name in QUOTED.findall(message):
        word = re.compile(rf"(?<![\w.]){re.escape(name.rsplit('.', 1)[-1])}(?!\w)")
        if here := next((number for number, line in enumerate(lines, 1) if word.search(line)), None):
            return here
    return None


def _only(found: list[int]) -> int | None:
    return found[0] if len(found) == 1 else None


def sent_statement(target_path: Path, path: str) -> str:
    """The statement that dbt made of a model; empty if it made none."""
    file = target_path / "run" / "assay" / path
    return file.read_text() if file.is_file() else ""
