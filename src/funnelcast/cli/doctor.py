"""`funnelcast doctor`: what in a prepared table makes figures too good, or of no use."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from funnelcast.cli.console import AsJson, out, progress_bars, show_json

if TYPE_CHECKING:
    from funnelcast.data_checks.finding import Finding, Report

WIDTH = 100
"""Of text; less where the terminal is narrower."""


def doctor(
    data: Annotated[Path, typer.Argument(help="The prepared table.")],
    as_json: AsJson = False,
) -> None:
    """Look for leaks and other faults in a table: labels among the features, copied rows, new ids, drift.

    Example: [bold]funnelcast doctor table[/]

    Exit 0 when nothing was found, or notes alone; 1 when there are warnings or errors. docs/how-to/find-leaks.md says
    what each finding means.
    """
    from funnelcast.data_checks.doctor import doctor as examine

    with progress_bars(as_json) as progress:
        report = examine(data, progress=progress)
    if as_json:
        show_json(report.as_dict())
    else:
        show_report(data, report)
    if not report.is_clean:
        raise typer.Exit(1)


def show_report(data: Path, report: Report) -> None:
    """Every finding, what was looked at, and what could not be checked."""
    counts = Counter(finding.severity for finding in report.findings)
    numbers = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items()]
    table = f"{report.protocol['name']} ({report.protocol['fingerprint']}), {data}"
    _say(f"{', '.join(numbers) or 'no findings'} in {table}")
    for finding in report.findings:
        _show_finding(finding)
    rows = [_rows(part, counts["looked_at"], counts["all"]) for part, counts in report.rows.items()]
    out.print()
    _say(f"Looked at {report.features} feature{'s' if report.features > 1 else ''} in {', '.join(rows)} rows.")
    if report.not_checked:
        out.print("Not checked:")
    for what in report.not_checked:
        _say(what, "  ", "    ")


def _show_finding(finding: Finding) -> None:
    out.print()
    _say(f"{finding.severity}: {finding.check}: {finding.subject}", indent="  ")
    _say(f"{finding.evidence}.", "  ", "  ")
    _say(f"→ {finding.advice}.", "  ", "    ")


def _rows(part: str, looked_at: int, rows: int) -> str:
    return f"{looked_at:,}" + (f" of {rows:,}" if looked_at < rows else "") + f" {part}"


def _say(text: str, first: str = "", indent: str = "") -> None:
    """In lines no wider than the terminal."""
    width = max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    lines = textwrap.TextWrapper(
        width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    out.print(lines.fill(text))
