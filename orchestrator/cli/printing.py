"""How the command line prints a table.

Belongs here: that. Does not belong here: what is in one.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console


def print_table(console: Console, lines: Sequence[Iterable[str]]) -> None:
    """Prints lines of cells, the first as the heading, each column as wide as its widest cell.

    Not a table of rich's: that cuts columns where the terminal is narrow, and what stands there is to be copied.
    """
    rows = [tuple(line) for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(text.rstrip(), markup=False, soft_wrap=True)
