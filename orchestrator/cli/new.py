"""`./assay new …`: what was written, and what to do next.

Belongs here: what a person is told. Does not belong here: guesses (intake), models and views (new_models).
"""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foundation.contract import DAILY, FULL, load_contracts
from foundation.errors import AssayError
from orchestrator.cli import new_models
from orchestrator.dbt_sources import write_feed_sources


def make_feed(
    console: Console, name: str, sample: Path, day: str | None, load: str | None, owner: str, force: bool
) -> None:
    """Writes a contract, and dbt's sources with it, and shows what was guessed.

    Raises:
        AssayError: see `intake.new_feed.new_feed`.
    """
    from intake.new_feed import new_feed

    if load not in (None, DAILY, FULL):
        raise AssayError(f"There is no load {load!r}", f"write --load {DAILY} or --load {FULL}")
    made = new_feed(name, sample, day, load, owner, force)
    write_feed_sources(load_contracts())
    contract, found = made.contract, made.guess
    table = Table(box=None, pad_edge=False)
    for heading in ("column", "type", "key", "filled", "why"):
        table.add_column(heading, overflow="fold")
    for column in found.columns:
        why = f"{column.why}; personal: {column.personal}" if column.personal else column.why
        share = f"{column.filled:,} of {found.sample.rows:,}"
        table.add_row(column.name, column.kind, "key" if column.name in found.key else "", share, why)
    console.print(table)
    if not found.sample.is_whole:
        console.print(
            f"Only the first {found.sample.rows:,} rows of {sample} were looked at.", markup=False, soft_wrap=True
        )
    if found.shared:
        console.print(f"{found.shared:,} rows share their key with another one: no columns name a row.", style="yellow")
    loads = f"a folder a day, by {found.day}" if found.day else "each file is the whole table"
    console.print(f"contracts/{contract.file.name}: {loads}; the key is {', '.join(found.key)}.", soft_wrap=True)
    _next(
        console,
        [
            (f"contracts/{contract.file.name}", "read it: what is called a guess is yours to check"),
            (f"./assay new mart NAME --from silver/{name}", "a model of Gold, and a mart"),
            ("./assay up", "and, if it ran, Reload definitions in the Dagster UI: then its assets are there"),
            (
                f"./assay land {name} --file {shlex.quote(str(sample))}",
                "a sensor archives it and requests Bronze and Silver",
            ),
        ],
    )


def make_mart(console: Console, name: str, source: str, by: Sequence[str], force: bool) -> None:
    """Writes a mart and lists the files.

    Raises:
        AssayError: see `new_models.new_mart`.
    """
    mart = name if name.startswith("mart_") else f"mart_{name}"
    _list(console, new_models.new_mart(name, source, by, force))
    _next(
        console,
        [
            (f"dbt_project/models/warehouse/marts/{mart}.sql", "keep of it what you need"),
            ("./assay up", "and, if it ran, Reload definitions in the Dagster UI"),
            (
                f"./assay dbt build --select +{mart}",
                "in schemas of your own, once Silver has rows; --shared for everybody",
            ),
        ],
    )


def make_feature(console: Console, name: str, source: str, entity: str, force: bool) -> None:
    """Writes a feature and lists the files.

    Raises:
        AssayError: see `new_models.new_feature`.
    """
    _list(console, new_models.new_feature(name, source, entity, force))
    _next(
        console,
        [
            (f"dbt_project/models/gold/{name}.sql", "what its numbers are; a column more goes into both YAML files"),
            ("./assay up", "and, if it ran, Reload definitions in the Dagster UI"),
            (f"features/{name}", "automation makes it when gold has a day; or ./assay dagster asset materialize"),
        ],
    )


def _list(console: Console, files: Iterable[Path]) -> None:
    for file in files:
        console.print(f"wrote {file}", markup=False)


def _next(console: Console, steps: Sequence[tuple[str, str]]) -> None:
    console.print("Next:")
    for step, why in steps:
        console.print(f"  {step}", markup=False, soft_wrap=True)
        console.print(f"      {why}", markup=False, soft_wrap=True, style="dim")
