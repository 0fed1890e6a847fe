"""The schema of a log: its features, its funnel, its keys, and how it is split."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from funnelcast.errors import Fault
from funnelcast.schema.config import Config, FaultsError
from funnelcast.schema.features import AnyFeature, IdFeature, ListFeature, Name
from funnelcast.schema.funnel import Funnel

FORMAT_VERSION = 1
_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")  # what can be the start of a file's name


class Split(Config):
    """How rows are parted into train, dev and test where the files do not already do it."""

    by: Literal["random", "group", "time"] = "random"
    """`random`: each row by itself; `group`: all rows of a key together; `time`: the latest rows are test, those before
    them dev."""
    column: Name | None = None
    """The key for `group`, the time for `time`. Where `keep` names it too, or it is a categorical feature, the folds of
    target statistics follow it."""
    dev: float = Field(default=0.1, ge=0, lt=1)
    """Share of the rows that become dev, unless a dev file is given; of the training file's, where test is a file."""
    test: float = Field(default=0.2, ge=0, lt=1)
    """Share of the rows that become test, unless a test file is given."""
    seed: int = 0
    """Seed of the random and group splits."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.by == "random") == (self.column is not None):
            raise ValueError(f"by = {self.by!r} " + ("takes no column" if self.column else "needs `column`"))
        if self.dev + self.test >= 1:
            raise ValueError(f"dev {self.dev} + test {self.test} leave no rows to train on; make them smaller")
        return self


class Schema(Config):
    """One TOML file that says what a log's columns mean."""

    file_kind: ClassVar[str] = "schema"

    name: str = Field(default="log", pattern=r"^[\w.-]+$")
    """Name of the protocol; stands in results beside the fingerprint."""
    funnel: Funnel
    """The steps; `funnel = "click; conversion after click"` or a table with `steps` and more."""
    features: dict[str, AnyFeature] = Field(min_length=1)
    """Features by name, e.g. `user = "categorical"` or `age = {kind = "numeric", transform = "bins"}`."""
    split: Split = Split()
    """How rows become train, dev and test."""
    weight: Name | None = None
    """Column with a weight per row for loss and metrics; 1 each by default."""
    keep: tuple[str, ...] = ()
    """Columns kept beside the table for grouping and reading (row id, time, user, campaign); never model input."""

    @field_validator("funnel", mode="before")
    @classmethod
    def _short_funnel(cls, value: Any) -> Any:
        return {"steps": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [
            *self._name_faults(), *self._keep_faults(), *self._input_faults(), *self._vocabulary_faults(),
            *self._separator_faults(),
        ]  # fmt: skip
        if faults:
            raise FaultsError(faults)
        return self

    def _name_faults(self) -> Iterator[Fault]:
        for name in self.features:
            if not _NAME.fullmatch(name):
                fix = "leave out slashes and control characters, and a dot at its start"
                yield Fault(f"features.{name}", "cannot be the name of a file", fix)

    def _keep_faults(self) -> Iterator[Fault]:
        outputs = {f"p_{output.name}" for output in self.funnel.outputs}
        for i, column in enumerate(self.keep):
            if column in outputs:
                yield Fault(
                    f"keep.{i}", f"{column!r} is what predictions are called", "rename the column, or do not keep it"
                )

    def _input_faults(self) -> Iterator[Fault]:
        labels = set(self.funnel.label_columns)
        for name, feature in self.features.items():
            for column in filter(None, (self.column(name), getattr(feature, "weights", None))):
                for role in ("label",) * (column in labels) + ("weight",) * (column == self.weight):
                    problem = f"reads the {role} column {column!r}"
                    yield Fault(f"features.{name}", problem, f"a {role} cannot be an input")

    def _vocabulary_faults(self) -> Iterator[Fault]:
        first: dict[str, tuple[str, int]] = {}
        for name, feature in self.features.items():
            if isinstance(feature, IdFeature):
                other, minimum = first.setdefault(self.vocabulary(name), (name, feature.min_count))
                if minimum != feature.min_count:
                    problem = f"is {feature.min_count}, but {minimum} for {other!r} of the same vocabulary"
                    yield Fault(f"features.{name}.min_count", problem, "give both the same")
        for name, feature in self.features.items():
            if feature.kind == "numeric" and name in first:
                problem = f"has the name of the vocabulary of {first[name][0]!r}"
                yield Fault(f"features.{name}", problem, "name the vocabulary or the feature otherwise")

    def _separator_faults(self) -> Iterator[Fault]:
        first: dict[str, tuple[str, str | None]] = {}
        for name, feature in self.features.items():
            if isinstance(feature, ListFeature):
                for column in filter(None, (self.column(name), getattr(feature, "weights", None))):
                    other, separator = first.setdefault(column, (name, feature.separator))
                    if separator != feature.separator:
                        problem = (
                            f"is {feature.separator!r}, but {separator!r} for {other!r}, of the column {column!r} too"
                        )
                        yield Fault(f"features.{name}.separator", problem, "give both the same")

    @property
    def lists(self) -> tuple[str, ...]:
        """The features with a list of ids per row."""
        return tuple(name for name, feature in self.features.items() if feature.kind in ("multi", "sequence"))

    def column(self, name: str) -> str:
        """The raw column of a feature."""
        return self.features[name].column or name

    def vocabulary(self, name: str) -> str:
        """The vocabulary of an id feature or a binned number; by default the feature's own."""
        feature = self.features[name]
        return name if feature.kind == "numeric" else feature.vocabulary or name

    def fingerprint(self, columns: Sequence[str] = ()) -> str:
        """Hash of the schema and of the checksums of a table's encoded columns, so of everything that decides which
        rows, features and labels a figure is about; 12 hex digits."""
        said = {"version": FORMAT_VERSION, "columns": list(columns), **self.model_dump(mode="json")}
        text = json.dumps(said, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
