"""Raw ids of fields to codes of hash tables that fill up, counted, then fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from funnelcast.data.arrow import array_of
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.fitted import Fitted
from funnelcast.data.datasets.aliccp.ids import Bools, IdTable, Int32s, Int64s
from funnelcast.data.datasets.aliccp.lists import RawLists
from funnelcast.data.datasets.aliccp.tokens import MISSING
from funnelcast.data.vocabulary import Vocabulary


class FieldTables:
    """A table per vocabulary, and which of them each field uses."""

    def __init__(self, single: Sequence[str], multi: Sequence[str], min_counts: Mapping[str, int]) -> None:
        """`single`, `multi`: the vocabulary of each field; fields that share one are counted together."""
        self.single, self.multi = tuple(single), tuple(multi)
        self.tables = {name: IdTable() for name in min_counts}
        self._min_counts = min_counts

    def codes(self, values: Int64s, *, grow: bool) -> Int32s:
        """(F, n) raw ids of the single-valued fields to codes (F, n)."""
        codes = np.empty(values.shape, np.int32)
        for f, name in enumerate(self.single):
            codes[f] = self._codes(name, values[f], values[f] != MISSING, grow=grow)
        return codes

    def list_codes(self, lists: Sequence[RawLists], *, grow: bool) -> list[Ragged]:
        """The lists of every multi-valued field, with codes for raw ids."""
        return [
            Ragged(each.offsets, self._codes(name, each.ids, np.ones(len(each.ids), bool), grow=grow), each.weights)
            for name, each in zip(self.multi, lists, strict=True)
        ]

    def _codes(self, name: str, values: Int64s, present: Bools, *, grow: bool) -> Int32s:
        table = self.tables[name]
        return (table.intern if grow else table.look_up)(values, present)

    def count(self, codes: Int32s, lists: Sequence[Ragged]) -> None:
        """Count codes (n, F), and lists, of training rows."""
        for f, name in enumerate(self.single):
            self.tables[name].count(codes[:, f])
        for name, each in zip(self.multi, lists, strict=True):
            self.tables[name].count(each.ids)

    def count_shared(self, field: int, lists: Ragged, rows: Int64s) -> None:
        """Count lists of a multi-valued field, each as often as `rows` (n,) says."""
        self.tables[self.multi[field]].count_lists(lists, rows)

    def fit(self) -> Fitted:
        """The vocabularies, and of each field the final id of every code."""
        vocabularies, finals = {}, {}
        for name, table in self.tables.items():
            values = array_of(table.values)
            vocabularies[name] = Vocabulary.fit(values, table.counts, self._min_counts[name])
            finals[name] = np.concatenate([np.zeros(1, np.int32), vocabularies[name].ids(values, name)])
        return Fitted(vocabularies, [finals[name] for name in self.single], [finals[name] for name in self.multi])
