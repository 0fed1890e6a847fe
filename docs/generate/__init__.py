"""The reference pages that are generated from the code; `scripts/docs --write` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generate.api import api_page
from docs.generate.cli import cli_page
from funnelcast.reference import reference

FOLDER = Path(__file__).parent.parent / "reference"
PAGES: dict[str, Callable[[], str]] = {"settings.md": reference, "cli.md": cli_page, "api.md": api_page}
"""By file in `FOLDER`, what makes its text."""
