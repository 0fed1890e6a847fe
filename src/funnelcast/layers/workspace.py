"""Memory lent to one pass at a time: fresh memory costs a page fault per 4 KB, about as much as a pass over it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

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

    def parts(self, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Tensors of these shapes, one after the other in it, that must not outlive it."""
        sizes = [-(-torch.Size(shape).numel() // 16) * 16 for shape in shapes]
        starts = accumulate(sizes, initial=0)
        return [
            self.memory[start : start + torch.Size(shape).numel()].view(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]


def lend(shapes: Sequence[tuple[int, ...]]) -> tuple[Lease, list[Tensor]]:
    """Tensors of these shapes, and what they must not outlive."""
    lease = Lease(sum(torch.Size(shape).numel() + 16 for shape in shapes))
    return lease, lease.parts(shapes)
