"""A contract for a feed that so far is a file: written for a person to edit, with what each guess rests on beside it.

Belongs here: the text of a first contract, and what is refused before one is written. Does not belong here: the guesses
themselves (guessing.py).
"""

import json
import re
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from foundation.contract import CONTRACTS, RESERVED, SUFFIX, Contract, load_contract, load_contracts
from foundation.errors import AssayError
from foundation.names import is_sql_word
from intake.guessing import DATE, INTEGER, NUMBER, Guess, Guessed, guess
from intake.inspection import inspect
from intake.sampling import Sample, piped, read_sample

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
OWNER = re.compile(r"team:[a-z0-9][a-z0-9_-]*")
LOGICAL = {"int": "integer", "bigint": "integer", "double": "number", "boolean": "boolean", "string": "string"}
WHOLE_FILE = 64 << 20
PERSONAL = "pii"


@dataclass(frozen=True)
class NewFeed:
    """A contract that was written, and what it was guessed from."""

    contract: Contract
    guess: Guess


def new_feed(
    name: str,
    file: Path,
    day: str | None = None,
    load: str | None = None,
    owner: str = "team:data",
    force: bool = False,
    folder: Path = CONTRACTS,
) -> NewFeed:
    """Writes `<folder>/<name>.odcs.yaml`, as the first rows of a file suggest it. The sample itself passes.

    Args:
        name: the feed.
        file: a sample: CSV, JSON lines or Parquet.
        day: the column that says of which day a row is, if it is known.
        load: `append_daily` or `full`, if it is known.
        owner: the team that answers for it, as `team:sales`.
        force: write over a contract that is there.

    Raises:
        AssayError: what is wrong with the name, the file or its header, and what to do; nothing was written.
    """
    target = folder / f"{name}{SUFFIX}"
    if not IDENTIFIER.fullmatch(name) or is_sql_word(name):
        raise AssayError(
            f"{name!r} cannot be a feed's name",
            f"use lower-case letters, digits and _, and no word of SQL: {identifier_for(name, 'feed')}",
        )
    if not OWNER.fullmatch(owner):
        raise AssayError(f"{owner!r} is no owner", "write a team, such as --owner team:sales")
    if target.exists() and not force:
        raise AssayError(f"contracts/{target.name} is there", "edit it, or write over it with --force")
    sample = read_sample(file)
    _check_names(sample, name)
    made = guess(sample, day, load)
    # Tried out of the way: what the platform would refuse is no contract, and the file must be one that it takes.
    with tempfile.TemporaryDirectory() as aside:
        draft = Path(aside) / target.name
        draft.write_text(contract_text(name, made, owner), encoding="utf-8")
        contract = load_contract(draft)
        if (sample.is_whole or sample.format == "parquet") and file.stat().st_size <= WHOLE_FILE:
            reason, _ = inspect(file, file.name, contract, made.days[0] if made.days else date.today())
            if reason:
                raise AssayError(f"{file.name} could not land: {reason}", "mend the file, then run this again")
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(draft.read_bytes())
    load_contracts.cache_clear()
    return NewFeed(load_contract(target), made)


def identifier_for(text: str, otherwise: str) -> str:
    """A name like it that can be a column or a table."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()).strip("_")
    plain = plain if plain[:1].isalpha() else f"{otherwise}_{plain}".rstrip("_")
    return f"{plain}_of_row" if plain in RESERVED or is_sql_word(plain) else plain


def _check_names(sample: Sample, feed: str) -> None:
    """Columns are found in files by name, so that a header that cannot be one is for the sender to change."""
    wrong = [name for name in sample.columns if not IDENTIFIER.fullmatch(name) or name in RESERVED or is_sql_word(name)]
    if not wrong:
        return
    better = [identifier_for(name, "column") if name in wrong else name for name in sample.columns]
    for place, name in enumerate(better):
        if name in better[:place]:
            better[place] = f"{name}_{place + 1}"
    said = ", ".join(json.dumps(name, ensure_ascii=False) for name in wrong[:8])
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    header = ",".join(better)
    write = f"let the sender write the header {header}"
    if sample.format == "csv" and not any("\n" in name for name in wrong):
        write += ", or here: " + piped(sample.file, f"sed '1s/.*/{header}/'", "mended.csv")
        if any(look.fullmatch(name) for name in wrong for look in (INTEGER, NUMBER, DATE)):
            write += "; if the first line is a row, above it: " + piped(sample.file, f"sed '1i {header}'", "mended.csv")
    raise AssayError(
        f"{sample.file.name}: {said}{more} cannot be columns: names are lower-case letters, digits and _, begin with a letter, "
        f"and are no word of SQL nor one of the platform's own ({', '.join(RESERVED)})",
        write,
    )


def contract_text(name: str, made: Guess, owner: str) -> str:
    """The contract, with comments."""
    sample = made.sample
    rows = f"{sample.rows:,} rows of {sample.file.name}"
    read = rows if sample.is_whole else f"the first {rows}; later ones may differ"
    title = name.replace("_", " ")
    folder = f"landing/{name}/ds={{day}}/" if made.day else f"landing/{name}/"
    lines = [
        f"# Guessed from {read}. Whatever a comment calls a guess is yours to check.",
        "# docs/engineer.md says what each field means.",
        "apiVersion: v3.1.0",
        "kind: DataContract",
        f"id: {name}",
        f"name: {name}",
        "version: 1.0.0",
        "status: draft",
        "description:",
        f"  purpose: {_yaml(title.capitalize() + ', as they are sent.')}  # say what it is and who needs it",
        "team:",
        f"  name: {owner.removeprefix('team:')}",
        "  members:",
        f'    - username: "{owner}"',
        "      role: owner",
        "servers:",
        "  - server: landing",
        "    type: local",
        f'    path: "{folder}"',
        f"    format: {sample.format}",
        "customProperties:",
        *_load_lines(made),
        "  # A share of bad rows above this stops a day, or a delivery.",
        "  - {property: max_quarantined, value: 0.05}",
        "schema:",
        f"  - name: {name}",
        "    physicalType: table",
        f"    description: {_yaml(f'One row a line of {title}.')}  # say what a row is",
        "    properties:",
        *_key_comment(made),
    ]
    for column in made.columns:
        lines += _column_lines(made, column)
    return "\n".join(lines) + "\n"


def _load_lines(made: Guess) -> list[str]:
    if made.days is None:
        return [
            "  # guess: every file is the whole table, and the newest one counts. append_daily: a folder a day (--day COLUMN)",
            "  - {property: load, value: full}",
            '  # - {property: due, value: "D+32 12:00 UTC"}  # when a next delivery is late, D is the day of the last one',
        ]
    first, last = made.days
    return [
        "  # guess: the sender adds days, each in a folder of its own. full: every file is the whole table (--load full)",
        "  - {property: load, value: append_daily}",
        f'  - {{property: starts, value: "{first}"}}  # the first day of the sample',
        f'  # - {{property: ends, value: "{last}"}}  # the last day of the sample, if none follows',
        '  - {property: available, value: "D+1 06:00 UTC"}  # guess: from when on people may count on day D',
        '  - {property: due, value: "D+1 12:00 UTC"}  # guess: when day D is late',
    ]


def _key_comment(made: Guess) -> list[str]:
    named = " + ".join(made.key)
    if made.shared:
        return [
            f"      # guess: {named} is all that could be a key, and {made.shared:,} of {made.sample.rows:,} rows share theirs",
            "      # with another row: of those the last one counts, the others are duplicates. Ask the sender what names a row.",
        ]
    return [f"      # guess: the key is {named}: no two of {made.sample.rows:,} rows are alike in it."]


def _column_lines(made: Guess, column: Guessed) -> list[str]:
    rows = made.sample.rows
    logical = "number" if column.kind.startswith("decimal") else LOGICAL.get(column.kind, column.kind)
    lines = [
        f"      - name: {_yaml(column.name)}",
        f"        logicalType: {logical}",
        f'        physicalType: "{column.kind}"  # {column.why}',
    ]
    if column.name in made.key:
        lines += ["        primaryKey: true", f"        primaryKeyPosition: {made.key.index(column.name) + 1}"]
    if column.name == made.day:
        lines += ["        partitioned: true  # the day of the row: it must be that of its folder"]
    if column.name not in made.key:
        if made.required(column):
            lines.append(f"        required: true  # guess: filled in {column.filled:,} of {rows:,} rows")
        else:
            lines.append(f"        # required: true  # filled in {column.filled:,} of {rows:,} rows")
    if column.personal:
        lines.append(f"        classification: {PERSONAL}  # guess: {column.personal}")
    if column.allowed:
        values = ", ".join(f"{{value: {json.dumps(value, ensure_ascii=False)}}}" for value in column.allowed)
        told = f"guess: {len(column.allowed)} values in {column.filled:,} rows; any other is quarantined"
        lines.append(f"        {'' if column.is_sure else '# '}enum: [{values}]  # {told}")
    if column.bounds and not column.personal and column.name not in made.key:
        low, high = (_rounded(text, down) for text, down in zip(column.bounds, (True, False), strict=True))
        seen = f"seen: {column.bounds[0]} to {column.bounds[1]}"
        lines.append(f"        # logicalTypeOptions: {{minimum: {low}, maximum: {high}}}  # {seen}")
    if column.zoneless:
        lines.append(
            "        # logicalTypeOptions: {defaultTimezone: Europe/Berlin}  # without an offset they are taken for UTC"
        )
    lines.append(
        f"        description: {_yaml(column.name.replace('_', ' ').capitalize() + '.')}  # say what it means, and its unit"
    )
    return lines


def _rounded(text: str, down: bool) -> int:
    """A bound with head room: 0, or as far again as the number is from it, in round numbers."""
    number = abs(float(text))
    if (float(text) >= 0) == down:
        return 0
    digits = 10 ** max(len(str(int(number * 2))) - 1, 0)
    bound = (int(number * 2) // digits + 1) * digits
    return -bound if down else bound


def _yaml(text: Any) -> str:
    """Text as YAML has it: `no` and `y` are words of its own."""
    return yaml.safe_dump(text, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
