"""Figures that others published, as data: a file per data set. None was measured by us."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.schema.config import Config

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
Value = float | tuple[float, float]
"""An AUC, or an AUC and its standard deviation over repeats."""


class Source(Config):
    """A paper, or a re-implementation with figures."""

    name: str
    """By which it is cited."""
    kind: Literal["paper", "re-implementation"]
    """Whose figures they are."""
    place: str
    """Where the figures stand."""
    protocol: str
    """What they are of, in words."""
    same_as: tuple[str, ...] = ()
    """Names of our protocols that are the same, on the same data."""
    notes: tuple[str, ...] = ()
    """What does not fit together in it."""
    figures: dict[str, dict[str, Value]]
    """AUC by model and output."""
    gains: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Printed gains over the source's first model."""

    def broken_gains(self) -> Iterator[str]:
        """Printed gains that are not the difference of the printed AUCs, to their last digit."""
        base = next(iter(self.figures.values()))
        for model, gains in self.gains.items():
            for output, printed in gains.items():
                own, other = (Figure.of(f[output], self).value for f in (self.figures[model], base))
                if abs(own - other - printed) > 5e-5:
                    yield f"{model}, {output}: printed gain {printed:.4f}, {own:.4f} - {other:.4f} = {own - other:.4f}"


class Published(Config):
    """All that is known of a data set."""

    test_rows: int = Field(ge=1)
    """Of the real file, by which it is told from a generated log."""
    sources: tuple[Source, ...]
    """Papers and re-implementations."""

    @classmethod
    def of(cls, name: str) -> Published:
        """By the data set's name. Raises ConfigError."""
        if name not in FILES:
            raise ConfigError([Fault("published", f"{name!r} is not known", did_you_mean(name, FILES))])
        return cls.from_toml(FILES[name])

    def is_comparable(self, source: Source, protocol: str, test_rows: int) -> bool:
        """Whether figures of a protocol of ours, on so many test rows, are of the same data and processing."""
        return protocol in source.same_as and abs(test_rows / self.test_rows - 1) < 0.001

    def figures_of(self, model: str, output: str) -> Iterator[Figure]:
        """Every published figure of a model's output: those of papers, then re-implementations', from the best on."""
        named = [Figure.of(s.figures[model][output], s) for s in self.sources if output in s.figures.get(model, {})]
        yield from sorted(named, key=lambda each: (each.source.kind != "paper", -each.value))


class Figure(NamedTuple):
    """A published figure and where it stands."""

    value: float
    std: float | None
    source: Source

    @classmethod
    def of(cls, value: Value, source: Source) -> Figure:
        """As a file has it."""
        return cls(*value, source) if isinstance(value, tuple) else cls(value, None, source)
