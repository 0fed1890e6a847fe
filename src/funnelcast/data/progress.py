"""How long work reports where it is; the command line draws it, tests and scripts ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with what is being done, how much is done, how much there is (0 where that is not known), and
    its unit (rows, bytes)."""

    def __call__(self, stage: str, done: int, total: int, unit: str, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
    """A progress that nobody sees."""
