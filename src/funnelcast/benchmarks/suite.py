"""What a benchmark compares: one TOML file per table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from funnelcast.errors import ConfigError, did_you_mean
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.schema.config import Config

Source = Literal["ali-ccp", "census-income", "generated", "oulad", "hotel", "fbads", "ml100k"]
MADE = {
    "generated": "on a generated log of {rows:,} rows in Ali-CCP's format",
    "census-income": "on Census-Income (KDD)",
    "oulad": "on course registrations (oulad)",
    "hotel": "on hotel bookings (hotel)",
    "fbads": "on clicks on ads (fbads)",
    "ml100k": "on ratings of films (ml100k)",
}
"""What stands after the title, where the rows are made from a source."""


class Suite(Config):
    """The models of a table, and the data that all of them see."""

    file_kind: ClassVar[str] = "benchmark"

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    """Stands in results; the run's folder is runs/NAME by default."""
    title: str = ""
    """Above the table, and after it what the rows are, where they are made from `source`."""
    source: Source | None = None
    """Where the data comes from, if `data` is not there: `generated`, `census-income` and `oulad` are made, `hotel`,
    `fbads` and `ml100k` are made from `files`, of `ali-ccp` it is told where to get it."""
    sources: tuple[Source, ...] = ()
    """Several data sets in place of one `source`: a benchmark of each in RUN/SOURCE, and a report over all of them.
    What is left out is listed: sets whose files are missing, and models that cannot take a set's funnel."""
    files: dict[Source, Path] = Field(default_factory=dict)
    """Where the files of `hotel`, `fbads` and `ml100k` are, from the folder you are in; `--files SOURCE=PATH` replaces
    them."""
    rows: int = Field(default=400_000, ge=1000)
    """Of a generated log; a third of them is the test part."""
    data: Path | None = None
    """The prepared table; `--data` replaces it. By default it is made in the run's folder."""
    seeds: int = Field(default=5, ge=1, le=1000)
    """Repeats of each model: 0 … seeds - 1."""
    splits: int | None = Field(default=None, ge=2, le=1000)
    """For small data, in place of seeds on one test part: so many random splits of all rows, a fifth tested in each."""
    split_by: str | None = None
    """A kept column or id feature whose groups are not parted by `splits`."""
    reference: str | None = None
    """The model that gains are over; the first one by default."""
    models: dict[str, Path] = Field(min_length=1)
    """Experiment files by the name in the table, in its order; paths from this file's folder, or names of presets."""
    published: str | None = None
    """Published figures that stand beside ours: `ali-ccp`, `census-income`."""

    @field_validator("models")
    @classmethod
    def _apart(cls, models: dict[str, Path]) -> dict[str, Path]:
        seen: dict[str, str] = {}
        for name in models:
            other = seen.setdefault(slug(name), name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} would share the folder {slug(name)}; rename one")
            if not slug(name):
                raise ValueError(f"{name!r} has no letter or digit to name a folder by; rename it")
        return models

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.reference is not None and self.reference not in self.models:
            raise ValueError(f"reference: {self.reference!r} is no model; {did_you_mean(self.reference, self.models)}")
        if self.sources:
            self._check_sources()
        return self

    def _check_sources(self) -> None:
        rivals = [name for name in ("source", "data", "published") if getattr(self, name) is not None]
        if rivals:
            raise ValueError(f"{', '.join(rivals)}: is of one data set, and `sources` names several; leave either out")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError(f"sources: {', '.join(self.sources)} names a data set twice; name each once")
        if "ali-ccp" in self.sources:
            raise ValueError('sources: ali-ccp cannot be made; give its table alone, with source = "ali-ccp" and data')

    @property
    def base(self) -> str:
        """The model that gains are over."""
        return self.reference or next(iter(self.models))

    @property
    def heading(self) -> str:
        """Title and rows, above the table."""
        made = MADE.get(self.source or "", "").format(rows=self.rows)
        where = f"on {len(self.sources)} data sets" if self.sources else made
        return f"{self.title or self.name} {where}".strip()

    def of(self, source: Source) -> Self:
        """The benchmark on one of `sources`."""
        changes = {"name": source, "title": self.title or self.name, "source": source, "sources": ()}
        return self.model_copy(update=changes)

    @classmethod
    def read(cls, file: Path | str, **changes: Any) -> tuple[Self, dict[str, Experiment]]:
        """A suite and its experiments; `changes` replace its settings. Raises ConfigError."""
        file = Path(file)
        suite = cls.from_toml(file, **changes)
        paths = {name: _place(file, path) for name, path in suite.models.items()}
        return suite, {name: _experiment(file, name, path) for name, path in paths.items()}


def slug(name: str) -> str:
    """A name as a folder's."""
    return "-".join(re.findall(r"\w+", name.lower()))


def _place(file: Path, path: Path) -> Path:
    found = file.parent / path
    return found if found.is_file() or path.suffix else path


def _experiment(file: Path, name: str, path: Path) -> Experiment:
    try:
        return experiment_of(path)
    except ConfigError as error:
        raise ConfigError(error.faults, f"{file}, model {name!r}, {error.source or path}") from None
