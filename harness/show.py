"""Tables and lines of figures on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def show(head: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell."""
    table = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
