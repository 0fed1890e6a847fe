"""Experiments by name or file: those that come with the package, and files that change some settings of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from funnelcast.errors import ConfigError, Fault
from funnelcast.schema.config import read_toml, require_file
from funnelcast.schema.kinds import require_kind

DEFAULT: Final = "recommended"
"""What is trained where no experiment is named."""
PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
PRESETS |= dict.fromkeys(("man-recommended", "man-tabular"), PRESETS[DEFAULT])  # names of earlier defaults
BASE: Final = "base"
"""The setting that names what a file starts from."""


def find(experiment: Path | str, beside: Path = Path()) -> Path:
    """The file of a preset's name, or of a path. Raises ConfigError where there is none, with the nearest."""
    path = PRESETS.get(str(experiment), beside / experiment)
    require_file(path, PRESETS)
    return path


def with_base(settings: dict[str, Any], path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of an experiment's file, with those of its base that it does not set. `above`: files that this one
    is the base of. Raises ConfigError."""
    if BASE not in settings:
        return settings
    base, settings = settings[BASE], {name: value for name, value in settings.items() if name != BASE}
    if not isinstance(base, str):
        fault = Fault(BASE, f"{base!r} is no text", "give the name of a preset, or the path of an experiment's file")
        raise ConfigError([fault], str(path))
    try:
        found, files = find(base, path.parent), (*above, path.resolve())
    except ConfigError as error:
        faults = [Fault(BASE, f"{base} {fault.problem}", fault.fix) for fault in error.faults]
        raise ConfigError(faults, str(path)) from None
    if found.resolve() in files:
        raise ConfigError([Fault(BASE, f"{base} starts from this file itself", "name another one")], str(path))
    below = read_toml(found)
    require_kind(found, below, "experiment")
    return _changed(with_base(below, found, files), settings)


def _changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are changed setting by setting, but for those of another model, which replace the base's; `false` leaves a
    table of the base out."""
    found = dict(base)
    for name, value in changes.items():
        own = base.get(name)
        if value is False and isinstance(own, dict):
            del found[name]
        elif isinstance(own, dict) and isinstance(value, dict) and _have_one_name(own, value):
            found[name] = _changed(own, value)
        else:
            found[name] = value
    return found


def _have_one_name(*tables: dict[str, Any]) -> bool:
    """Those that name no model take settings of any."""
    return len({table["name"] for table in tables if "name" in table}) <= 1
