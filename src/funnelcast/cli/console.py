"""What verbs print: progress on stderr, results on stdout as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from funnelcast.data.progress import Progress as OnProgress
from funnelcast.data.progress import silent

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no progress.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace what stands at the output.")]

out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=1000)
"""No markup: names of files and columns may hold brackets. As wide as a table may get, so that no figure is cut."""


@contextmanager
def progress_bars(quiet: bool) -> Iterator[OnProgress]:
    """A progress that draws a bar per stage on stderr; plain lines where stderr is no terminal; none when `quiet`."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with (
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True, highlight=False),
            ) as bars,
            _saying(_Bars(bars)) as progress,
        ):
            yield progress
    else:
        with _saying(_Lines()) as progress:
            yield progress


@contextmanager
def resumable(quiet: bool) -> Iterator[OnProgress]:
    """`progress_bars` of work that the same command goes on with; Ctrl-C ends it with exit code 1."""
    with progress_bars(quiet) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            sys.stderr.write("\nstopped; the same command goes on where it was\n")
            raise typer.Exit(1) from None


COMPILING = "compiling, once"
_said = Event()
"""Whether this process has said so, outside of a bar's line."""


@contextmanager
def _saying(progress: _Bars | _Lines) -> Iterator[OnProgress]:
    """A progress that says when kernels are compiled."""
    from funnelcast.compiled import on_compile  # numba takes a part of a second

    with on_compile(progress.say_compiling):
        yield progress


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note)

    def say_compiling(self) -> None:
        """In the line of the last stage, until that goes on; where there is none yet, once above all."""
        if self._tasks:
            self._bars.update(list(self._tasks.values())[-1], note=COMPILING)
        elif not _said.is_set():
            _said.set()
            self._bars.console.print(COMPILING)


class _Lines:
    """One line when a stage is done, for logs and pipes."""

    def __call__(self, stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if done >= total > 0:
            sys.stderr.write(f"{stage}: {done:,} {unit} {note}\n")

    def say_compiling(self) -> None:
        """Once in a process."""
        if not _said.is_set():
            _said.set()
            sys.stderr.write(f"{COMPILING}\n")


def show(rows: Sequence[Sequence[object]], head: Sequence[str], title: str = "") -> None:
    """A table: the first column left, the others right."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    out.print(table)


def show_json(value: Any) -> None:
    """On stdout, for programs to read."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def number(value: float | None, digits: int = 4) -> str:
    """As it stands in tables; – where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
