"""Dropout whose masks are the same on every device, in kernels and in plain operations.

The bits are SplitMix64's (Steele, Lea and Flood 2014): word i of a layer comes from seed + layer · STREAM + i · GOLDEN.
A word of 64 bits has four draws of 16; an element is dropped where its draw is below a limit.
"""

from __future__ import annotations

import sys
from typing import Final

import torch
from torch import Tensor

from funnelcast.ops.dispatch import op

PER_WORD: Final = 4
_DRAWS: Final = 1 << 16
_LOWEST: Final = -(1 << 15)
_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB
_STREAM: Final = 0xD1B54A32D192ED03


class DropoutKey:
    """The source of a forward pass's dropout masks: one layer draws after the other."""

    def __init__(self, seeds: Tensor, rows: int) -> None:
        """Seeds (blocks,) int64; `rows` of the batch have the first one, the next `rows` the second, and so on."""
        self.seeds, self.rows, self.streams = seeds, rows, 0

    def next(self) -> int:
        """Return the number of the next layer's stream."""
        self.streams += 1
        return self.streams

    def blocks(self) -> list[DropoutKey]:
        """Return a key for each block, for any number of rows. However many masks one samples, those of the others and
        of later layers stay the same: blocks may go through a network together or one by one."""
        stream = self.next()
        seeds = [random_bits(torch.empty_like(own), own, 0, stream) for own in self.seeds.split(1)]
        return [DropoutKey(seed, sys.maxsize) for seed in seeds]

    @staticmethod
    def limit(rate: float) -> tuple[int, float]:
        """Return the least draw that is kept, and the factor on kept elements."""
        dropped = round(rate * _DRAWS)
        return _LOWEST + dropped, _DRAWS / (_DRAWS - dropped)


def dropout(x: Tensor, rate: float, key: DropoutKey | None) -> Tensor:
    """Return x (…, B, H) with elements zeroed at a rate and the others scaled up; x itself without a key."""
    if key is None or not rate:
        return x
    (limit, scale), stream, draws = key.limit(rate), key.next(), []
    for block, own in enumerate(x.detach().split(key.rows, dim=-2)):
        words = torch.empty(-(-own.numel() // PER_WORD), dtype=torch.int64, device=x.device)
        bits = random_bits(words, key.seeds, block, stream)
        draws.append(bits.view(torch.int16)[: own.numel()].view(own.shape))
    kept = (torch.cat(draws, -2) if len(draws) > 1 else draws[0]) >= limit
    return x * kept.to(x.dtype).mul_(scale)


@op
def random_bits(words: Tensor, seeds: Tensor, block: int, stream: int) -> Tensor:
    """Return the words (n,) int64 of a stream of `seeds[block]`; in `words`, or in memory like it."""
    step, start = (torch.full((), _signed(each), device=words.device) for each in (_GOLDEN, _STREAM))
    # tensors, as of constants torch.compile makes C++ that overflows, which a compiler may take for impossible
    z = seeds[block] + start * stream + torch.arange(1, len(words) + 1, device=words.device) * step
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    return z ^ _shifted(z, 31)


def _signed(bits: int) -> int:
    """The int64 of 64 bits of which the first one is set."""
    return bits - (1 << 64)


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (z >> by) & ((1 << (64 - by)) - 1)
