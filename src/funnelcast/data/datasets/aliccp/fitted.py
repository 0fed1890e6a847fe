"""Codes of hash tables to ids of the vocabularies that were fitted on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from funnelcast.compiled import compiled
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.ids import Int32s, Int64s
from funnelcast.data.vocabulary import Vocabulary


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
