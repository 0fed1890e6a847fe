"""The wanted fields of the raw feature lists, as the tokenizer finds them: by a perfect hash of their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST_FIELD = 7  # bytes of a field's name; name and length make one 64-bit key
_SLOTS = 1024


class Fields(NamedTuple):
    """The wanted fields as a perfect hash of their names."""

    keys: NDArray[np.uint64]  # (_SLOTS,), 0 where there is none
    indices: NDArray[np.int16]  # (_SLOTS,) by slot, the place of the field: first the single-valued ones
    multiplier: np.uint64
    single: int
    """Number of the fields that have one id, F."""
    multi: int
    """Number of the fields that have lists of ids, M."""


def wanted_fields(single: Sequence[str], multi: Sequence[str] = ()) -> Fields:
    """Distinct names of 1 to LONGEST_FIELD bytes, hashed without collision."""
    keys = np.array([_name_key(name.encode()) for name in (*single, *multi)], np.uint64)
    random = np.random.default_rng(0)
    while True:
        multiplier = random.integers(1, 2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        slots = (keys * multiplier) >> np.uint64(54)
        if len(np.unique(slots)) == len(keys):
            break
    table, indices = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.int16)
    table[slots], indices[slots] = keys, np.arange(len(keys))
    return Fields(table, indices, multiplier, len(single), len(multi))


def _name_key(name: bytes) -> int:
    return int.from_bytes(name, "big") << 8 | len(name)
