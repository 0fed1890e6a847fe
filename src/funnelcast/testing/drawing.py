"""Random rows of any input and funnel, with every corner: unknown ids, lists that are empty and as long as can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.schema.funnel import Funnel

LONGEST = 4
"""Ids of the longest list."""


def draw(inputs: InputSpec, funnel: Funnel, rows: int, seed: int = 0) -> Columns:
    """Random rows, with labels that keep to the funnel."""
    rng = np.random.default_rng([seed, rows])
    sizes = [inputs.sizes[vocabulary] for _, vocabulary in inputs.fields]
    ids = rng.integers(0, sizes, (rows, len(sizes))).astype(np.int32)
    numeric = rng.normal(size=(rows, len(inputs.numeric))).astype(np.float32)
    ragged = {each.name: _draw_lists(each, inputs.sizes[each.vocabulary], rows, rng) for each in inputs.lists}
    return Columns(ids, numeric, ragged, _draw_labels(funnel, rows, rng))


def _draw_lists(spec: ListSpec, size: int, rows: int, rng: np.random.Generator) -> Ragged:
    lengths = rng.integers(0, LONGEST + 1, rows)
    lengths[:2] = (LONGEST, 0)[:rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, size, offsets[-1]).astype(np.int32)
    weights = rng.normal(1, 1, len(ids)).astype(np.float32) if spec.weighted else None
    return Ragged(offsets, ids, weights)


def _draw_labels(funnel: Funnel, rows: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    labels = (rng.random((rows, len(funnel.parents))) < 0.6).astype(np.uint8)
    for step, parent in enumerate(funnel.parents):
        if parent >= 0:
            labels[:, step] &= labels[:, parent]
    return labels
