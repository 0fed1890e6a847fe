"""A table as data, from which the page and the Markdown are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple


class Cell(NamedTuple):
    """What stands in a cell, and what it is sorted by."""

    text: str
    value: float | str | None = None
    """None sorts last."""
    sub: str = ""
    """Below it, smaller."""
    is_strong: bool = False


class Column(NamedTuple):
    """A head; columns side by side with one `group` share a head above theirs."""

    label: str
    group: str = ""
    is_text: bool = False
    falls: bool = True
    """Sorted from the largest on by the first press."""

    @property
    def name(self) -> str:
        """That tells it from every other one."""
        return f"{self.label} {self.group}".strip()


class Table(NamedTuple):
    """Of one kind of row; the first column names it."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Heads above the heads, with how many columns each is over; none where no column has one."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found if any(name for name, _ in found) else []

    @property
    def opening(self) -> set[int]:
        """Places of the columns that begin a group."""
        ends = list(accumulate(span for _, span in self.groups))
        return set(ends[:-1])

    def markdown(self) -> Iterator[str]:
        """Its lines."""
        yield "| " + " | ".join(_escaped(column.name) for column in self.columns) + " |"
        yield "|" + "---|" * len(self.columns)
        for row in self.rows:
            yield "| " + " | ".join(_escaped(f"{cell.text} {cell.sub}".strip()) for cell in row) + " |"
        if self.note:
            yield ""
            yield self.note


def text(value: object) -> Cell:
    """Sorted as it is written."""
    return Cell(str(value), str(value).casefold())


def _escaped(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
