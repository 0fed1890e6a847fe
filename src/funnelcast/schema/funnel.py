"""The funnel: a forest of steps, declared once. Labels, sample spaces, heads and output names follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from funnelcast.errors import Fault, did_you_mean
from funnelcast.schema.config import Config, FaultsError

_STEP = re.compile(r"\s*([A-Za-z_]\w*)(?:\s+after\s+([A-Za-z_]\w*))?\s*")
_EDGE = re.compile(r"\s*([A-Za-z_]\w*)\s*->\s*([A-Za-z_]\w*)\s*")


class Step(Config):
    """One place in the funnel."""

    name: str
    """The step's name; its output is `p_NAME`."""
    after: str | None = None
    """The step that must be reached before this one; none for a first step."""


class Output(Config):
    """One predicted column: the probability of a step, over all rows or given the step before it."""

    name: str
    """`click`, or `conversion_given_click`; the column in predictions is `p_` + name."""
    step: int
    """Index of the step."""
    given: int | None
    """Index of the parent step whose reach is the condition; none for the entire space."""

    @property
    def column(self) -> str:
        return f"p_{self.name}"


class Funnel(Config):
    """A forest of steps in the order they are declared; a step stands after its parent."""

    steps: tuple[Step, ...] = Field(min_length=1)
    """The steps as text: `"click; conversion after click"`."""
    labels: dict[str, str] = Field(default={})
    """Label column per step where it is not named like the step."""
    transfer: tuple[tuple[str, str], ...] = ()
    """Edges for attention only, as `["marital -> income"]`: knowledge flows, reach does not."""
    on_broken: Literal["drop", "error", "imply"] = "drop"
    """Rows whose labels contradict the funnel (a conversion without its click): drop the row, stop with an error, or
    set the earlier steps to reached. Counted always."""

    @field_validator("steps", mode="before")
    @classmethod
    def _parse_steps(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        steps = []
        for part in value.split(";"):
            match = _STEP.fullmatch(part)
            if not match:
                raise ValueError(f"cannot read {part.strip()!r}; write 'NAME' or 'NAME after NAME', parted by ';'")
            steps.append({"name": match[1], "after": match[2]})
        return steps

    @field_validator("transfer", mode="before")
    @classmethod
    def _parse_transfer(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or not all(isinstance(edge, str) for edge in value):
            return value
        matches = [_EDGE.fullmatch(edge) for edge in value]
        if not all(matches):
            raise ValueError(f"cannot read {value!r}; write edges as 'STEP -> STEP'")
        return [(match[1], match[2]) for match in matches if match]

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*self._step_faults(), *self._label_faults(), *self._transfer_faults()]
        if faults:
            raise FaultsError(faults)
        return self

    def _step_faults(self) -> Iterator[Fault]:
        seen: list[str] = []
        for step in self.steps:
            if step.name in seen:
                yield Fault("steps", f"step {step.name!r} is declared twice", "give each step its own name")
            if "given" in step.name.split("_"):
                problem = f"step {step.name!r} has the word 'given', by which outputs are named: conversion_given_click"
                yield Fault("steps", problem, "name it otherwise")
            if step.after is not None and step.after not in seen:
                problem = f"step {step.name!r} is after {step.after!r}, which is not declared before it"
                yield Fault("steps", problem, did_you_mean(step.after, seen))
            seen.append(step.name)

    def _label_faults(self) -> Iterator[Fault]:
        yield from self._unknown(self.labels, "labels")
        columns = [self.labels.get(name, name) for name in dict.fromkeys(self.names)]
        for column in sorted({column for column in columns if columns.count(column) > 1}):
            yield Fault("labels", f"column {column!r} is the label of two steps", "give each step its own column")

    def _transfer_faults(self) -> Iterator[Fault]:
        for source, target in self.transfer:
            unknown = list(self._unknown((source, target), "transfer"))
            yield from unknown
            if not unknown and self.names.index(source) >= self.names.index(target):
                problem = f"{source} -> {target} must run from an earlier step to a later one"
                yield Fault("transfer", problem, f"declare {source} before {target}")

    def _unknown(self, names: Iterable[str], where: str) -> Iterator[Fault]:
        for name in names:
            if name not in self.names:
                yield Fault(where, f"{name!r} is no step", did_you_mean(name, self.names))

    @classmethod
    def parse(cls, text: str, **settings: Any) -> Funnel:
        """`Funnel.parse("click; conversion after click")`. Raises ConfigError."""
        return cls.from_dict({"steps": text, **settings})

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Index of each step's parent, -1 for a first step; always smaller than the step's own index."""
        return tuple(-1 if step.after is None else self.names.index(step.after) for step in self.steps)

    def before(self, step: int) -> tuple[int, ...]:
        """Every step that must have been reached before `step`, the nearest first."""
        parent = self.parents[step]
        return () if parent < 0 else (parent, *self.before(parent))

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(from, to) along which attention runs, by target: the funnel's own edges and those declared for transfer."""
        own = [(parent, child) for child, parent in enumerate(self.parents) if parent >= 0]
        extra = [(self.names.index(source), self.names.index(target)) for source, target in self.transfer]
        return tuple(sorted(dict.fromkeys(own + extra), key=lambda edge: (edge[1], edge[0])))

    @cached_property
    def label_columns(self) -> tuple[str, ...]:
        return tuple(self.labels.get(name, name) for name in self.names)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """What is predicted and measured: every step over all rows, then every step given its parent."""
        entire = [Output(name=name, step=i, given=None) for i, name in enumerate(self.names)]
        given = [
            Output(name=f"{self.names[i]}_given_{self.names[parent]}", step=i, given=parent)
            for i, parent in enumerate(self.parents)
            if parent >= 0
        ]
        return (*entire, *given)
