"""Codes of hash tables to ids of the vocabularies that were fitted on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.ids import Int32s
from funnelcast.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Fitted:
    """Vocabularies by name, and the final id of every code: by single-valued, by multi-valued field."""

    vocabularies: dict[str, Vocabulary]
    single: list[Int32s]
    multi: list[Int32s]

    def ids(self, codes: Int32s) -> Int32s:
        """Codes (n, F) without MISSING to ids (n, F)."""
        ids = np.empty(codes.shape, np.int32)
        for f, final in enumerate(self.single):
            ids[:, f] = final[codes[:, f]]
        return ids

    def lists(self, field: int, lists: Ragged) -> Ragged:
        """Lists of codes of a multi-valued field to lists of ids; unknown and rare ones stay in them, as id 0."""
        return replace(lists, ids=self.multi[field][lists.ids])
