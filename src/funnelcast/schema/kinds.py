"""The kinds of TOML files, known by their tables, so that a file given to the wrong verb is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.errors import ConfigError, Fault


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    """With its article."""
    verb: str
    """What takes it."""
    marks: tuple[str, ...]
    """Any of these settings tells the kind, unless one above it in `KINDS` is told."""
    others: tuple[str, ...] = ()
    """Settings that such files have as well, and not every kind has."""


KINDS = {
    "schema": Kind("a schema", "prepare", ("features", "funnel")),
    "search": Kind("a search", "search", ("space", "spaces"), ("models", "trials", "method")),
    "benchmark": Kind("a benchmark", "benchmark", ("models",)),
    "experiment": Kind("an experiment", "train", ("model", "stages", "loss", "optimizer", "base")),
}


def require_kind(path: Path, settings: Mapping[str, Any], wanted: str) -> None:
    """Raises ConfigError where `settings` are of another kind than the one in KINDS that is `wanted`, and have nothing
    of their own that speaks for it."""
    marks = ((kind, mark) for kind in KINDS.values() for mark in kind.marks if mark in settings)
    found, mark = next(marks, (None, ""))
    own = KINDS[wanted]
    if found in (None, own) or settings.keys() & {*own.marks, *own.others} - {*found.marks, *found.others}:
        return
    problem = f"is {found.name} (it has {mark!r}), not {own.name}"
    raise ConfigError([Fault(str(path), problem, f"give it to: funnelcast {found.verb}")])
