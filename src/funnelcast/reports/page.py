"""The page: one file that needs nothing from elsewhere, and forbids it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from funnelcast.reports.content import Content
from funnelcast.reports.drawing.svg import Picture

HERE = Path(__file__).parent / "page"
MOST_BYTES = 3_500_000
"""Bytes of figures that stand in the page; the rest is linked."""


def page(content: Content) -> str:
    """The HTML of a report."""
    folder = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder.filters |= {"breakable": _breakable, "pretty": _pretty}
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    text = folder.get_template("page.html").render(
        content=content,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        drawings=_drawings(content.every_picture),
        version=version("funnelcast"),
    )
    return text.lstrip()


def _drawings(pictures: list[Picture]) -> dict[str, Markup]:
    """By file, of those for which there is room."""
    found, left = dict[str, Markup](), MOST_BYTES
    for picture in pictures:
        drawn = picture.inline
        left -= len(drawn.encode())
        if left >= 0:
            found[picture.file] = Markup(drawn)
    return found


def _policy(style: str, script: str) -> str:
    """This style and this script, and nothing from anywhere."""
    return f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; base-uri 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _breakable(text: str) -> Markup:
    """Names may be broken after an underscore."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _pretty(settings: Mapping[str, Any]) -> str:
    """Lists of numbers on one line."""
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
