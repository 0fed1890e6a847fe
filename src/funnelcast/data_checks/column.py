"""One feature of a sample, as checks need it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins
from funnelcast.data_checks.hashing import of_lists
from funnelcast.data_checks.sample import Sample

Codes = NDArray[np.int64]
Numbers = NDArray[np.float64]
MOST_IDS = 10_000_000
"""Ids of a feature of lists that are looked at: of long lists fewer rows are."""
MOST_BINS, ROWS_OF_BIN = 256, 50


@dataclass(frozen=True)
class Column:
    """A feature of n rows."""

    name: str
    sample: Sample
    """The rows that were read."""
    raw: NDArray[Any]
    """(n,) ids, scaled numbers, or hashes of lists: equal where the values are."""
    numbers: Numbers | None = None
    """(n,) by which values are ordered: numbers, bins, lengths of lists; none for ids."""
    lists: Ragged | None = None

    @cached_property
    def _unique(self) -> tuple[NDArray[Any], Codes]:
        return np.unique(self.raw, return_inverse=True)

    @property
    def values(self) -> NDArray[Any]:
        """(K,) the unique values, as in `raw`."""
        return self._unique[0]

    @property
    def inverse(self) -> Codes:
        """(n,) the inverse index: where in `values` each row's is."""
        return self._unique[1]

    @cached_property
    def binned(self) -> Codes:
        """(n,) `inverse`, of numbers the bin of each, with rows enough for a rate."""
        count = max(2, min(MOST_BINS, len(self.raw) // ROWS_OF_BIN))
        if self.numbers is None or self.lists is not None or len(self.values) <= count:
            return self.inverse
        return bins(self.numbers, edges(self.numbers, count))


def edges(numbers: Numbers, count: int) -> Numbers:
    """Distinct quantiles that part `numbers` (n,) into at most `count` equal shares."""
    inner = np.linspace(0, 1, count + 1)[1:-1]
    return np.unique(np.quantile(numbers, inner, method="lower")) if len(numbers) else np.zeros(0)


def bins(numbers: Numbers, edges: Numbers) -> Codes:
    """(n,) 2 i between two edges, odd on an edge: a value that many rows have stands alone."""
    return np.searchsorted(edges, numbers, side="left") + np.searchsorted(edges, numbers, side="right")


def read(sample: Sample, encoder: Encoder, name: str) -> Column:
    """A feature of the rows of a sample; of fewer rows where it has long lists."""
    fields = [field for field, _ in encoder.inputs.fields]
    if name in fields:
        ids = np.asarray(sample.columns.ids[:, fields.index(name)][sample.rows])
        ordered = isinstance(encoder.numbers.get(name), Bins)
        return Column(name, sample, ids, ids.astype(np.float64) if ordered else None)
    if name in encoder.inputs.numeric:
        values = np.asarray(sample.columns.numeric[:, encoder.inputs.numeric.index(name)][sample.rows])
        return Column(name, sample, values, values.astype(np.float64))
    return _read_lists(sample, encoder, name)


def _read_lists(sample: Sample, encoder: Encoder, name: str) -> Column:
    stored = sample.columns.ragged[name]
    chosen = sample.rows if stored.index is None else stored.index[sample.rows]
    total = int((stored.offsets[chosen + 1] - stored.offsets[chosen]).sum())
    sample = sample.thinned(1 + total // MOST_IDS)
    lists = stored.take(sample.rows)
    hashes = of_lists(lists, ordered=encoder.schema.features[name].kind == "sequence")
    return Column(name, sample, hashes, np.diff(lists.offsets).astype(np.float64), lists)
