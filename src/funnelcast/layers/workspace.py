"""Memory lent to one pass at a time: fresh memory costs a page fault per 4 KB, about as much as a pass over it."""

from __future__ import annotations

import torch
from torch import Tensor

_shelves: dict[int, list[Tensor]] = {}


class Lease:
    """Float32 numbers, uninitialised, nobody else's while this object lives; aligned as torch aligns."""

    def __init__(self, numbers: int) -> None:
        size = max(numbers, 1).bit_length()
        self._shelf = _shelves.setdefault(size, [])
        try:
            self.memory = self._shelf.pop()
        except IndexError:
            self.memory = torch.empty(2**size)

    def __del__(self) -> None:
        self._shelf.append(self.memory)
