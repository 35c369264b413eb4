"""`./assay impact`: what a change touches, for a terminal, for a pull request, for programs; `./assay changed`.

Belongs here: how it is said. Does not belong here: what is touched (orchestrator/impact), comparing rows (comparison).
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from rich.console import Console

from foundation.contract_changes import LEVELS
from foundation.settings import Settings
from orchestrator.cli.comparison import Compared, as_json, lines, markdown_table
from orchestrator.cli.printing import print_table
from orchestrator.impact import Impact, Touched, impact
from orchestrator.trees import Trees, trees

Form = Literal["terminal", "markdown", "json"]
NAMED = 4
WORDS = {"exposures": "exposures", "features": "feature views", "models": "models", "landing": "files"}


def impact_of(settings: Settings, against: str) -> tuple[Trees, Impact]:
    """The two trees, and what their difference touches.

    Raises:
        AssayError: as of `trees`.
    """
    both = trees(settings, against)
    return both, impact(both.commit, both.old, both.new, both.files)


def print_impact(
    console: Console, against: str, found: Impact, rows: Sequence[Compared] | None, form: Form = "terminal"
) -> None:
    """Prints what a change touches.

    Args:
        rows: the tables whose rows were compared; None if none were to be.
    """
    if form == "json":
        print(json.dumps(_json(against, found, rows), indent=1))
    elif form == "markdown":
        print("\n".join(_markdown(against, found, rows)))
    else:
        _terminal(console, against, found, rows)


def _terminal(console: Console, against: str, found: Impact, rows: Sequence[Compared] | None) -> None:
    console.print(f"Against {against} ({found.commit[:12]}): {_summary(found)}", markup=False, soft_wrap=True)
    for feed, judgement in found.contracts.items():
        console.print(f"\n[bold]Contract[/] {feed}")
        print_table(console, [(f"  {LEVELS[one.level]}", str(one)) for one in judgement.changes] or [("  nothing", "")])
    for heading, some in (("Changed", found.direct), ("Downstream", found.downstream)):
        if some:
            console.print(f"\n[bold]{heading}[/]")
            print_table(console, [(f"  {one.asset}", _columns(one), _why(one)) for one in some])
    if found.other:
        console.print(
            f"\n[bold]Other files[/], which no table is known to be made by: {_few(found.other)}", soft_wrap=True
        )
    if rows is not None:
        console.print("\n[bold]Rows[/]")
        for line in lines(rows):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    for judgement in found.contracts.values():
        if judgement.refused or judgement.warning:
            word = "[bold red]Refused:[/]" if judgement.refused else "[yellow]Warning:[/]"
            console.print(f"\n{word}", end=" ")
            console.print(f"{judgement.refused or judgement.warning}.", markup=False, soft_wrap=True)
            console.print(f"Next: write {judgement.write}.", markup=False, soft_wrap=True)


def _markdown(against: str, found: Impact, rows: Sequence[Compared] | None) -> Iterator[str]:
    yield f"### Impact against `{against}` ({found.commit[:12]})"
    yield ""
    for judgement in found.contracts.values():
        if judgement.refused or judgement.warning:
            word = "❌ **Refused**" if judgement.refused else "⚠️ **Warning**"
            yield f"{word}: {judgement.refused or judgement.warning}. Write {judgement.write}.\n"
    if not found.refused:
        yield "✅ No contract breaks.\n"
    yield _summary(found)
    yield ""
    counted = [(layer, _of(found.direct, layer), _of(found.downstream, layer)) for layer in _layers(found)]
    if counted:
        yield "| layer | changed | downstream |"
        yield "|---|---|---|"
        yield from (f"| {layer} | {_few(one)} | {_few(other)} |" for layer, one, other in counted)
        yield ""
    for feed, judgement in found.contracts.items():
        yield f"<details><summary>Contract {feed}: {len(judgement.changes)} changes</summary>\n"
        yield from (f"- {LEVELS[one.level]}: {_code(str(one))}" for one in judgement.changes)
        yield "\n</details>"
    for heading, some in (("Changed", found.direct), ("Downstream", found.downstream)):
        if some:
            yield f"<details><summary>{heading}: {len(some)} assets, column by column</summary>\n"
            yield "| asset | columns | what |\n|---|---|---|"
            yield from (f"| `{one.asset}` | {_columns(one, 50)} | {_code(_why(one))} |" for one in some)
            yield "\n</details>"
    if found.other:
        yield f"<details><summary>Other files: {len(found.other)}, which no table is known to be made by</summary>\n"
        yield from (f"- `{file}`" for file in found.other)
        yield "\n</details>"
    if rows is not None:
        yield from markdown_table(rows)


def _json(against: str, found: Impact, rows: Sequence[Compared] | None) -> dict[str, Any]:
    contracts = {
        feed: {
            "refused": one.refused,
            "warning": one.warning,
            "write": one.write,
            "changes": [{**asdict(change), "level": LEVELS[change.level]} for change in one.changes],
        }
        for feed, one in found.contracts.items()
    }
    return {
        "against": against,
        "commit": found.commit,
        "breaking": bool(found.refused),
        "contracts": contracts,
        "changed": [asdict(one) for one in found.direct],
        "downstream": [asdict(one) for one in found.downstream],
        "other_files": list(found.other),
        **({} if rows is None else {"rows": as_json(rows)}),
    }


def _summary(found: Impact) -> str:
    changed = [one for one in found.direct if one.why]
    if not found.direct and not found.contracts:
        return "nothing changed of what makes a table."
    layers = Counter(WORDS.get(one.asset.partition("/")[0], "tables") for one in found.downstream)
    below = ", ".join(f"{count} {word if count > 1 else word.removesuffix('s')}" for word, count in layers.items())
    said = len(found.direct) - len(changed)
    return (
        f"{len(changed)} {'asset' if len(changed) == 1 else 'assets'} changed"
        + (f", {said} only in what is told of them" if said else "")
        + (f"; downstream {below}." if below else "; nothing is made of them." if changed else ".")
    )


def _columns(one: Touched, most: int = NAMED) -> str:
    if one.asset.startswith("exposures/"):
        return ""
    columns = "all columns" if one.columns is None else _few(one.columns, most)
    return columns if one.columns is None or not one.rows else " + ".join([*([columns] if columns else []), "its rows"])


def _why(one: Touched) -> str:
    said = [f"only told: {', '.join(one.said)}"] if one.said and not one.why else one.said
    return ", ".join(dict.fromkeys([*one.why, *said]))


def _few(names: Sequence[str], most: int = NAMED) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _layers(found: Impact) -> list[str]:
    return list(dict.fromkeys(one.asset.partition("/")[0] for one in (*found.direct, *found.downstream)))


def _of(some: Sequence[Touched], layer: str) -> list[str]:
    return [one.asset.partition("/")[2] for one in some if one.asset.partition("/")[0] == layer]


def _code(text: str) -> str:
    """Text in a cell of Markdown, where a bar would end it."""
    return text.replace("|", "\\|").replace("<", "&lt;")
