"""Experiments that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def find(experiment: Path) -> Path:
    """The file of a preset's name; anything else is a path already."""
    return PRESETS.get(str(experiment), experiment)
