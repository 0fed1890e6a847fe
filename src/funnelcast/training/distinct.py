"""The distinct numbers among many, by a table of those met so far."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled

SPREAD: Final = 2_654_435_769
"""2³² over the golden ratio: neighbours times this lie far apart."""
EMPTY: Final = -1


def distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ones of `numbers` (n,), not below 0, in any order, (U,), and where each of `numbers` is among them,
    (n,). As torch.unique, in a third of the time where a compiled loop can do it."""
    if numbers.device.type != "cpu" or numbers.dtype != torch.int32:
        found, places = torch.unique(numbers, return_inverse=True)
        return found, places
    found, places = torch.empty_like(numbers), torch.empty_like(numbers)
    bits = max(1, (len(numbers) * 3 // 2).bit_length())
    met = np.full(1 << bits, EMPTY, np.int32)
    count = tell_apart(numbers.contiguous().numpy(), met, 32 - bits, found.numpy(), places.numpy())
    return found[:count], places


@compiled
def tell_apart(numbers: Any, met: Any, shift: int, found: Any, places: Any) -> int:
    """Fills `found` and `places` (n,), and returns how many are distinct; `met`: more than n places, all `EMPTY`, as
    many as numbers of 32 - `shift` bits."""
    count = 0
    for i in range(len(numbers)):
        slot = ((np.int64(numbers[i]) * SPREAD) >> shift) & (len(met) - 1)
        while met[slot] != EMPTY and found[met[slot]] != numbers[i]:
            slot = (slot + 1) & (len(met) - 1)
        if met[slot] == EMPTY:
            met[slot], found[count] = count, numbers[i]
            count += 1
        places[i] = met[slot]
    return count
