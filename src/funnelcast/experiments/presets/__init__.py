"""Experiments that come with the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from funnelcast.experiments.experiment import Experiment
from funnelcast.schema.config import require_file

DEFAULT: Final = "recommended"
"""What is trained where no experiment is named."""
PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
PRESETS |= dict.fromkeys(("man-recommended", "man-tabular"), PRESETS[DEFAULT])  # names of earlier defaults


def find(experiment: Path | str) -> Path:
    """The file of a preset's name, or of a path. Raises ConfigError where there is none, with the nearest."""
    path = PRESETS.get(str(experiment), Path(experiment))
    require_file(path, PRESETS)
    return path


def experiment_of(experiment: Experiment | Path | str | None) -> Experiment:
    """Itself, that of a file or of a preset's name, or the default one for none. Raises ConfigError."""
    experiment = DEFAULT if experiment is None else experiment
    return experiment if isinstance(experiment, Experiment) else Experiment.from_toml(find(experiment))
