"""The ids of each multi-valued field in lines, as lists: first raw, then as codes of a vocabulary that fills up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.datasets.aliccp.tokens import Int64s, Items


class RawLists(NamedTuple):
    """The ids of one field in n lines: of line i from offsets[i] to offsets[i + 1]."""

    offsets: Int64s  # (n + 1,), starts at 0
    ids: Int64s  # (total,)
    weights: NDArray[np.float32]  # (total,)


def lists_of(items: Items, lines: Int64s, fields: int) -> list[RawLists]:
    """The lists of each field in `lines` (n,), in the order of the text."""
    offsets = np.zeros((fields, len(lines) + 1), np.int64)
    _measure(items, lines, offsets)
    np.cumsum(offsets, axis=1, out=offsets)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(offsets[:, -1])])
    ids, weights = np.empty(begins[-1], np.int64), np.empty(begins[-1], np.float32)
    _part(items, lines, begins.copy(), ids, weights)
    return [
        RawLists(offsets[f], ids[begins[f] : begins[f + 1]], weights[begins[f] : begins[f + 1]]) for f in range(fields)
    ]


@compiled
def _measure(items: Items, lines: Int64s, lengths: Int64s) -> None:
    """The length of list i of each field, behind one place: lengths (M, n + 1)."""
    for i in range(len(lines)):
        for at in range(items.ends[lines[i]], items.ends[lines[i] + 1]):
            lengths[items.fields[at], i + 1] += 1


@compiled
def _part(items: Items, lines: Int64s, indices: Int64s, ids: Int64s, weights: NDArray[np.float32]) -> None:
    """Each item to the next place of its field."""
    for line in lines:
        for at in range(items.ends[line], items.ends[line + 1]):
            field = items.fields[at]
            ids[indices[field]], weights[indices[field]] = items.ids[at], items.weights[at]
            indices[field] += 1
