"""Ids that a bundle does not know and deltas do: one embedding for those of all deltas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.layers.embedding import Embedding
from funnelcast.models.network import FunnelModel
from funnelcast.serving.delta import Delta
from funnelcast.serving.new_ids import NewEncoder
from funnelcast.training.overlay import overlay


class NewRows:
    """The new ids of several deltas: one embedding, in which an id has a row for each delta that knows it."""

    def __init__(self, model: FunnelModel, encoder: Encoder, deltas: Sequence[Delta]) -> None:
        self.values = {
            name: pa.concat_arrays([d.new_ids[name] for d in deltas if name in d.new_ids]).unique()
            for name in encoder.vocabularies
            if any(name in d.new_ids for d in deltas)
        }
        self.encoder = NewEncoder(encoder, self.values)
        codes = {name: self._codes(name, deltas) for name in self.values}
        order = {name: np.argsort(own) for name, own in codes.items()}
        self.codes = {name: own[order[name]] for name, own in codes.items()}
        self.embedding = self._embedding(model, deltas, order) if self.values else None

    def _codes(self, name: str, deltas: Sequence[Delta]) -> NDArray[np.int64]:
        """One number per delta and id that it knows, in the order of the deltas."""
        size, ids = len(self.values[name]) + 1, self.encoder.encoder.vocabularies[name]
        known = [(i, ids.ids(d.new_ids[name], name)) for i, d in enumerate(deltas) if name in d.new_ids]
        return np.concatenate([i * size + own.astype(np.int64) for i, own in known])

    @torch.no_grad()
    def _embedding(self, model: FunnelModel, deltas: Sequence[Delta], order: dict[str, NDArray[np.intp]]) -> Embedding:
        counts = {name: len(codes) for name, codes in self.codes.items()}
        made = overlay(model.embedding.all_tables(), self.encoder.inputs(counts))
        blocks = {name: rows for table in made.all_tables() for name, rows in table.blocks().items()}
        for name, own_order in order.items():
            own = [d.of_base(d.new_rows[name], blocks[name]) for d in deltas if name in d.new_rows]
            blocks[name][1:] = torch.cat(own)[torch.from_numpy(own_order)]
        return made

    def encode(self, rows: pa.RecordBatch, which: NDArray[np.int32]) -> Columns:
        """Rows (N,) by their own delta's ids. `which` (N,): the place of each row's delta, -1 for none."""
        found = self.encoder.encode(rows)
        inputs = self.encoder.encoder.inputs
        ids = np.zeros_like(found.ids)
        for i, (_, name) in enumerate(inputs.fields):
            ids[:, i] = self._rows(name, found.ids[:, i], which)
        ragged = {}
        for spec in inputs.lists:
            lists = found.ragged[spec.name]
            own = self._rows(spec.vocabulary, lists.ids, np.repeat(which, np.diff(lists.offsets)))
            ragged[spec.name] = Ragged(lists.offsets, own, lists.weights)
        return Columns(ids, found.numeric, ragged)

    def _rows(self, name: str, ids: NDArray[np.int32], which: NDArray[np.int32]) -> NDArray[np.int32]:
        """The rows of ids in the embedding's vocabulary; 0 where the delta does not know an id."""
        if name not in self.codes:
            return np.zeros_like(ids)
        codes = self.codes[name]
        wanted = which.astype(np.int64) * (len(self.values[name]) + 1) + ids
        place = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
        return np.where((ids > 0) & (which >= 0) & (codes[place] == wanted), place + 1, 0).astype(np.int32)
