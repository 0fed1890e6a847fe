"""Docstrings as Markdown: paragraphs as they are, and Args, Returns and Raises as lists."""

from __future__ import annotations

import inspect
import re

SECTIONS = ("Args", "Returns", "Raises")


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown.

    Args:
        text: The docstring, as `inspect.getdoc` returns it.
    """
    parts = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.MULTILINE)
    blocks = [_paragraphs(parts[0])]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks.append(f"**{title}**\n\n{_entries(body)}")
    return "\n\n".join(block for block in blocks if block)


def escaped(text: str) -> str:
    """Return text in which Markdown finds no markup outside of code spans."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<|\[\]$])", r"\\\1", p) for p in pieces)


def _paragraphs(text: str) -> str:
    blocks = []
    for block in re.findall(r"(?:.+\n?)+", text.strip()):
        if all(line.startswith("    ") for line in block.splitlines()):
            blocks.append(f"```text\n{inspect.cleandoc(block)}\n```")
        elif re.match(r"[A-Z]+/\S*  ", block):  # a folder's files, one a line
            blocks.append(f"```text\n{block}\n```")
        else:
            blocks.append(escaped(" ".join(block.split())))
    return "\n\n".join(blocks)


def _entries(body: str) -> str:
    """Return the list of a section: an entry begins where a line is least indented."""
    entries: list[str] = []
    for line in inspect.cleandoc(body).splitlines():
        if (line and not line.startswith(" ")) or not entries:
            entries.append(line)
        else:
            entries[-1] += f" {line.strip()}"
    return "\n".join(f"- {_entry(entry.strip())}" for entry in entries if entry.strip())


def _entry(text: str) -> str:
    name, colon, said = text.partition(": ")
    return f"`{name}`: {escaped(said)}" if colon and " " not in name else escaped(text)
