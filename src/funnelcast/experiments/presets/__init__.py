"""Experiments that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from funnelcast.schema.config import require_file

PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def find(experiment: Path | str) -> Path:
    """The file of a preset's name, or of a path. Raises ConfigError where there is none, with the nearest."""
    path = PRESETS.get(str(experiment), Path(experiment))
    require_file(path, PRESETS)
    return path
