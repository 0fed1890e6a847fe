"""Rows by ids that a bundle does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder, InputSpec
from funnelcast.data.vocabulary import Vocabulary


class NewEncoder:
    """Encodes rows by values that a bundle's encoder does not know: ids 1 … U of each vocabulary, 0 for all others."""

    def __init__(self, encoder: Encoder, values: Mapping[str, pa.Array]) -> None:
        """`values`: by vocabulary, each of its type."""
        known = encoder.vocabularies
        vocabularies = {name: Vocabulary(values.get(name, own.values[:0])) for name, own in known.items()}
        self.encoder = replace(encoder, vocabularies=vocabularies)
        self.has_ids = np.array([name in known for _, name in encoder.inputs.fields], bool)

    def inputs(self, counts: Mapping[str, int] | None = None) -> InputSpec:
        """With ids of the vocabularies alone, not of bins; `counts`: how many there are instead."""
        own, names = self.encoder.inputs, self.encoder.vocabularies
        sizes = {name: len(names[name]) if name in names else 1 for name in own.sizes}
        return replace(own, sizes=sizes if counts is None else {name: 1 + counts.get(name, 0) for name in own.sizes})

    def encode(self, rows: pa.RecordBatch) -> Columns:
        """Numbers are 0."""
        found = self.encoder.encode(rows)
        return replace(found, ids=found.ids * self.has_ids.astype(np.int32), numeric=np.zeros_like(found.numeric))
