"""Encoded rows with ids alone, and no more of these than the sampled training rows hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import InputSpec

BINS = 32
"""Quantile bins of a number."""
Floats = NDArray[np.float64]


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
