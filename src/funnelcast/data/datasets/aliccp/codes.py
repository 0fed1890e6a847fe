"""Raw ids of fields to codes of hash tables that fill up, counted, then to ids of the vocabularies fitted on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from funnelcast.compiled import compiled
from funnelcast.data.arrow import array_of
from funnelcast.data.columns import Ragged
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


@dataclass(frozen=True)
class Fitted:
    """Vocabularies by name, and the final id of every code: by single-valued, by multi-valued field."""

    vocabularies: dict[str, Vocabulary]
    single: list[Int32s]
    multi: list[Int32s]

    def ids(self, codes: Int32s, rows: Int64s) -> Int32s:
        """Codes (N, F) without MISSING to the ids (n, F) of `rows` (n,)."""
        ids = np.empty((len(rows), codes.shape[1]), np.int32)
        _look_up(codes, rows, *self._finals, ids)
        return ids

    @cached_property
    def _finals(self) -> tuple[Int32s, Int64s]:
        """Those of all single-valued fields one after the other, and where each begins."""
        starts = np.cumsum([0, *map(len, self.single)])[:-1]
        return np.concatenate([np.empty(0, np.int32), *self.single]), starts

    def lists(self, field: int, lists: Ragged) -> Ragged:
        """Lists of codes of a multi-valued field to lists of ids; unknown and rare ones stay in them, as id 0."""
        return replace(lists, ids=self.multi[field][lists.ids])


@compiled
def _look_up(codes: Int32s, rows: Int64s, finals: Int32s, starts: Int64s, ids: Int32s) -> None:
    """Fills `ids` (n, F)."""
    for i in range(len(rows)):
        for f in range(len(starts)):
            ids[i, f] = finals[starts[f] + codes[rows[i], f]]
