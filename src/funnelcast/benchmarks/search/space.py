"""What a search may set: choices and ranges by the path of a setting, such as `optimizer.learning_rate`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Self

from pydantic import model_validator

from funnelcast.errors import ConfigError, Fault
from funnelcast.experiments.experiment import Experiment
from funnelcast.schema.config import Config


class Range(Config):
    """Values from `low` to `high`; whole numbers where both are."""

    low: int | float
    """The least."""
    high: int | float
    """The greatest."""
    log: bool = False
    """Even in the logarithm."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} is not below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log = true needs low above 0, and it is {self.low}")
        return self

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = tuple[Any, ...]
Space = dict[str, Range | Choices]
"""By path."""


def with_settings(experiment: Experiment, settings: Mapping[str, Any], name: str) -> Experiment:
    """The experiment with settings by their paths. Raises ConfigError for a path or value that is none."""
    values = experiment.model_dump(mode="json")
    source = f"{name} with {', '.join(f'{p} = {v}' for p, v in settings.items())}"
    for path, value in settings.items():
        at, key = _place(values, path, source)
        at[key] = value
    return Experiment.from_dict(values, source=source)


def check(space: Space, experiment: Experiment, name: str) -> None:
    """Raises ConfigError where an end or a choice of the space is no setting of the experiment."""
    for path, values in space.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            with_settings(experiment, {path: value}, name)
        if not isinstance(values, Range) and not values:
            raise ConfigError([Fault(f"space.{path}", "has no values", "give a list, or low and high")])


def own_values(space: Space, experiment: Experiment) -> dict[str, Any] | None:
    """What the experiment has itself, where all of it is in the space."""
    values, found = experiment.model_dump(mode="json"), dict[str, Any]()
    for path, known in space.items():
        at, key = _place(values, path, experiment.name)
        own = at[key] if isinstance(at, list) else at.get(key)
        if not _is_inside(own, known):
            return None
        found[path] = own
    return found


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination. Raises ConfigError for a range, which has no end of values."""
    choices = _choices(space)
    for combination in product(*choices.values()):
        yield dict(zip(choices, combination, strict=True))


def grid_size(space: Space) -> int:
    """How many combinations there are. Raises ConfigError for a range."""
    return math.prod(map(len, _choices(space).values()))


def _choices(space: Space) -> dict[str, list[Any]]:
    """By path, each value once."""
    found = {}
    for path, values in space.items():
        if isinstance(values, Range):
            raise ConfigError([Fault(f"space.{path}", "is a range, and a grid needs a list", "list its values")])
        found[path] = [json.loads(text) for text in dict.fromkeys(map(json.dumps, values))]
    return found


def _place(values: dict[str, Any], path: str, source: str) -> tuple[Any, Any]:
    """The table or list that a setting is in, and its key there. Raises ConfigError for a path that leads nowhere."""
    where, _, last = path.rpartition(".")
    if not where:
        return values, last
    outer, key = _place(values, where, source)
    at = outer.setdefault(key, {}) if isinstance(outer, dict) else outer[key]
    if isinstance(at, dict):
        return at, last
    if not isinstance(at, list):
        problem = f"{where} is {'not set' if at is None else json.dumps(at)}, so nothing in it can be"
        fix = f"give {where} in the file of the model" if at is None else f"search {where} itself"
    elif last.isdecimal() and int(last) < len(at):
        return at, int(last)
    else:
        problem, fix = f"{where} is a list of {len(at)}", f"count from 0, or search {where} as a whole"
    raise ConfigError([Fault(path, problem, fix)], source)


def _is_inside(value: Any, known: Range | Choices) -> bool:
    if isinstance(known, Range):
        return isinstance(value, int | float) and known.low <= value <= known.high
    return value in [*map(_plain, known)]


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value))
