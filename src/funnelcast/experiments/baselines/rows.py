"""Rows as baselines read them: every column by the rate of each step given the step before, out of fold in training.

All that is known here of target statistics is `fit_id_rates` and the order of columns in `Matrix`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.boosting.id_rates import IdRates, fit_id_rates
from funnelcast.boosting.matrix import Matrix
from funnelcast.data.batch import Batch, Lists
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import InputSpec
from funnelcast.training.statistics import folds_of

SEED = 0
"""Decides which rows are sampled and the folds: the same table always has the same baselines."""
FOLDS, SMOOTHING = 10, 20.0
CHUNK = 65536
LEAST_RATE = 1e-6

Floats = NDArray[np.float64]


class View(NamedTuple):
    """Rows as numbers."""

    rates: Floats  # (B, C, T): of each column, of each step given the step before, in (0, 1)
    others: Floats  # (B, D): log(1 + count) of ids, log(1 + length) of lists, numbers


@dataclass(frozen=True)
class Rates:
    """The columns' rates, fitted on sampled training rows."""

    reader: Reader
    matrix: Matrix
    whole: IdRates
    of_others: IdRates
    train: Columns
    folds: NDArray[np.uint8]
    steps: int

    @classmethod
    def fit(cls, inputs: InputSpec, train: Columns, parents: tuple[int, ...]) -> Rates:
        """`train`: the sampled rows, in memory; where they name no folds, they are parted at random."""
        reader = Reader.of(inputs, train)
        matrix = Matrix(reader.inputs, "target_statistics")
        folds = folds_of(len(train), FOLDS, SEED) if train.fold is None else train.fold
        used = np.arange(len(train)) if train.weight is None else np.flatnonzero(train.weight)
        of_rows = reader(train)
        whole, others = fit_id_rates(reader.inputs, matrix.by_statistics, of_rows, used, folds, parents, SMOOTHING)
        return cls(reader, matrix, whole, others, train, folds, len(parents))

    @property
    def columns(self) -> list[str]:
        """Names of the columns with rates: C of them."""
        names = [name for name, _ in self.reader.inputs.fields]
        for spec in self.reader.inputs.lists:
            names += [spec.name, f"newest {spec.name}"] if spec.kind == "sequence" else [spec.name]
        return names

    def of_training(self, rows: NDArray[np.int64]) -> View:
        """Of sampled rows (n,) by number; the rates of each are those of the rows of other folds."""
        return self._view(self.train.take(rows), self.of_others, self.folds[rows])

    def __call__(self, rows: Columns) -> View:
        """Of rows that are no training rows."""
        return self._view(rows, self.whole, None)

    def _view(self, rows: Columns, statistics: IdRates, folds: NDArray[np.uint8] | None) -> View:
        values = self.matrix(self.reader(rows), statistics, folds)
        starts, counts = self._starts
        rates = np.stack([values[:, start : start + self.steps] for start in starts], 1)
        logs = np.log1p(np.maximum(values[:, counts], 0))
        numbers = np.clip(rows.numeric.astype(np.float64), -10, 10)
        return View(np.clip(rates, LEAST_RATE, 1 - LEAST_RATE), np.concatenate([logs, numbers], 1))

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """Where the rates of each column begin in the matrix, and where counts and lengths stand."""
        width, at = self.steps, 0
        starts, counts = list[int](), list[int]()
        for _ in self.reader.inputs.fields:
            starts, counts, at = [*starts, at], [*counts, at + width], at + width + 1
        for spec in self.reader.inputs.lists:
            blocks = 2 if spec.kind == "sequence" else 1
            starts += [at + width * block for block in range(blocks)]
            counts, at = [*counts, at + width * blocks], at + width * blocks + 1
        return starts, counts


def chunks(rows: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of the rows, some at a time."""
    for start in range(0, rows, CHUNK):
        yield np.arange(start, min(start + CHUNK, rows))


def sample(rows: int, most: int) -> NDArray[np.int64]:
    """All rows, or `most` of them at random, ascending; the same ones each time."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


BINS = 32
"""Quantile bins of a number."""


@dataclass(frozen=True)
class Reader:
    """Encoded rows to batches without numbers: these become ids of bins, and ids those that the sampled rows hold."""

    source: InputSpec
    edges: tuple[Floats, ...]
    """Of the bins of each number, ascending."""
    maps: dict[str, NDArray[np.int32]]
    """By vocabulary, the new id of each; 0 of those that no sampled row holds."""

    @classmethod
    def of(cls, inputs: InputSpec, train: Columns) -> Reader:
        """Fitted on the sampled training rows."""
        quantiles = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = tuple(np.unique(np.quantile(column, quantiles)) for column in train.numeric.T)
        seen = {name: np.zeros(inputs.sizes[name], bool) for name in inputs.vocabularies}
        for place, (_, name) in enumerate(inputs.fields):
            seen[name][train.ids[:, place]] = True
        for spec in inputs.lists:
            seen[spec.vocabulary][train.ragged[spec.name].ids] = True
        return cls(inputs, edges, {name: _renumbered(held) for name, held in seen.items()})

    @cached_property
    def inputs(self) -> InputSpec:
        """Of the batches; numbers stand behind the fields, named alike."""
        bins = tuple((name, f"bins of {name}") for name in self.source.numeric)
        sizes = {name: int(new.max(initial=0)) + 1 for name, new in self.maps.items()}
        sizes |= {name: len(edges) + 2 for (_, name), edges in zip(bins, self.edges, strict=True)}
        return InputSpec(self.source.fields + bins, sizes, (), self.source.lists)

    def __call__(self, rows: Columns) -> Batch:
        ids = np.zeros((len(rows), len(self.inputs.fields)), np.int32)
        for place, (_, name) in enumerate(self.source.fields):
            ids[:, place] = self.maps[name][rows.ids[:, place]]
        for place, edges in enumerate(self.edges):
            bins = np.searchsorted(edges, rows.numeric[:, place], side="right")
            ids[:, len(self.source.fields) + place] = 1 + bins
        lists = {spec.name: self._list(rows.ragged[spec.name], spec.vocabulary) for spec in self.source.lists}
        labels, weight = (None if a is None else torch.from_numpy(a) for a in (rows.labels, rows.weight))
        return Batch(torch.from_numpy(ids), torch.zeros(len(rows), 0), labels, weight, lists)

    def _list(self, ragged: Ragged, vocabulary: str) -> Lists:
        return Lists.of(Ragged(ragged.offsets, self.maps[vocabulary][ragged.ids], ragged.weights, ragged.index))


def _renumbered(held: NDArray[np.bool_]) -> NDArray[np.int32]:
    new = np.where(held, np.cumsum(held), 0).astype(np.int32)
    return new if not held[0] else np.where(held, new - 1, 0).astype(np.int32)
