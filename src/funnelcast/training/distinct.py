"""The distinct numbers among many, by sorting digit by digit."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled

BITS: Final = 11
"""Of a digit: its counters fit the first cache."""


def distinct(numbers: Tensor, below: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of `numbers` (n,), which lie in [0, below), ascending, (U,), and where each of `numbers` is
    among them, (n,). As torch.unique, in two thirds of the time where a compiled loop can do it."""
    if numbers.device.type != "cpu" or numbers.dtype != torch.int32:
        found, places = torch.unique(numbers, return_inverse=True)
        return found, places
    found, places = torch.empty_like(numbers), torch.empty_like(numbers)
    room = np.empty((4, len(numbers)), np.int32)
    passes = max(1, -(-(below - 1).bit_length() // BITS))
    count = sort_out(numbers.contiguous().numpy(), passes, room, found.numpy(), places.numpy())
    return found[:count], places


@compiled
def sort_out(numbers: Any, passes: int, room: Any, found: Any, places: Any) -> int:
    """Fills `found` and `places` (n,), and returns how many are distinct; `room` (4, n)."""
    keys, order, other_keys, other_order = room
    counts = np.empty(1 << BITS, np.int64)
    for i in range(len(numbers)):
        keys[i], order[i] = numbers[i], i
    for digit in range(passes):
        shift, mask, total = digit * BITS, (1 << BITS) - 1, 0
        counts[:] = 0
        for i in range(len(keys)):
            counts[(keys[i] >> shift) & mask] += 1
        for d in range(len(counts)):
            counts[d], total = total, total + counts[d]
        for i in range(len(keys)):
            d = (keys[i] >> shift) & mask
            other_keys[counts[d]], other_order[counts[d]] = keys[i], order[i]
            counts[d] += 1
        keys, other_keys, order, other_order = other_keys, keys, other_order, order
    size = 0
    for i in range(len(keys)):
        if i == 0 or keys[i] != found[size - 1]:
            found[size] = keys[i]
            size += 1
        places[order[i]] = size - 1
    return size
