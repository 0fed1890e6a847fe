"""Dropout: which elements of a layer's output fall away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled
from funnelcast.data.loader import seed_of
from funnelcast.layers.tape import perform

SEEDS: Final = 64
PER_NUMBER: Final = 4
_ALL: Final = 1 << 16
_LOWEST: Final = -(1 << 15)
_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB


@dataclass
class Seed:
    """A number that noise comes from, and others made from it, which follow when it changes."""

    number: int = 0
    before: Seed | None = None
    parts: tuple[int | str, ...] = ()

    def of(self, *parts: int | str) -> Seed:
        """One for a purpose."""
        return Seed(before=self, parts=parts)

    @property
    def value(self) -> int:
        return self.number if self.before is None else seed_of(self.before.value, *self.parts)

    def copy(self) -> Seed:
        """One that follows none."""
        return Seed(self.value)


class Dropout(NamedTuple):
    """What falls away after a layer: elements whose 16-bit draw is below a limit. The others are scaled up."""

    draws: Tensor | None = None  # int16, one per element of the layer's output; none where nothing falls away
    limit: int = _LOWEST

    @property
    def scale(self) -> float:
        return scale_of(self.limit)

    def __call__(self, x: Tensor) -> Tensor:
        if self.draws is None:
            return x
        return x * (self.draws >= self.limit).to(x.dtype).mul_(self.scale)


class LoopDropout(NamedTuple):
    """The same after a layer of a bank whose loops draw for themselves, a few rows at a time while these are in the
    cache: rows by `rows`, each with a seed."""

    seeds: NDArray[np.int64] | None = None
    """None where nothing falls away."""
    rows: int = 0
    limit: int = _LOWEST


class Noise:
    """Draws for one layer after the other, the same on every device, by loops and by plain operations."""

    def __init__(self, seed: Seed, device: torch.device | str = "cpu") -> None:
        self.seeds = torch.empty(SEEDS, dtype=torch.int64, device=device)
        self.step = torch.tensor(_signed(_GOLDEN), device=device)
        perform(self._begin, seed)

    def _begin(self, seed: Seed) -> None:
        generator = torch.Generator().manual_seed(seed.value)
        self.seeds.copy_(torch.empty(SEEDS, dtype=torch.int64).random_(-(2**63), None, generator=generator))
        self.used = 0

    def draw(self, rate: float, shape: tuple[int, ...]) -> Dropout:
        """A draw for each element of `shape`."""
        return Dropout(self.drawn(shape), _limit(rate))

    def drawn(self, shape: tuple[int, ...]) -> Tensor:
        """Draws; four from each 64-bit number, as drawing is what dropout costs."""
        elements = torch.Size(shape).numel()
        number = -(-elements // PER_NUMBER)
        if self.can_fill:
            draws = torch.empty(number, dtype=torch.int64)
            perform(self._fill, draws.numpy())
        else:
            draws = splitmix(self._next(), self.step, number)
        return draws.view(torch.int16)[:elements].view(shape)

    @property
    def can_fill(self) -> bool:
        """Whether the compiled loop may be taken."""
        return self.seeds.device.type == "cpu" and not torch.compiler.is_compiling()

    def _fill(self, draws: NDArray[np.int64]) -> None:
        fill_by_splitmix(draws, self._seed(), 0)

    def tell(self, seeds: NDArray[np.int64], block: int) -> None:
        """The seed of the next layer's draws, as that of a block of rows."""
        seeds[block] = self._seed()

    def _seed(self) -> np.int64:
        cycle, place = self._use()
        seed: np.int64 = (self.seeds.numpy() + cycle)[place]  # an array's sums may wrap around
        return seed

    def blocks(self, rows: int) -> list[tuple[int, int, Noise]]:
        """Rows start … stop - 1, whose noise it is."""
        return [(0, rows, self)]

    def _next(self) -> Tensor:
        cycle, place = self._use()
        return self.seeds[place] + cycle

    def _use(self) -> tuple[int, int]:
        self.used += 1
        return divmod(self.used - 1, SEEDS)


class BlockNoise:
    """Draws for blocks of `size` rows, the last one shorter, that stand one after the other, each with its own."""

    def __init__(self, noises: Sequence[Noise], size: int) -> None:
        self.noises, self.size = noises, size

    def draw(self, rate: float, shape: tuple[int, ...]) -> Dropout:
        """A draw for each element of `shape` (…, rows, width)."""
        *before, rows, width = shape
        parts = [noise.drawn((*before, stop - start, width)) for start, stop, noise in self.blocks(rows)]
        return Dropout(torch.cat(parts, -2), _limit(rate))

    def blocks(self, rows: int) -> list[tuple[int, int, Noise]]:
        """Rows start … stop - 1 of each, and its noise."""
        starts = range(0, rows, self.size)
        return [(start, min(start + self.size, rows), n) for start, n in zip(starts, self.noises, strict=True)]


def drawn_by_loops(noise: Noise | BlockNoise, rate: float, rows: int) -> LoopDropout:
    """What `draw` gives for a shape (N, rows, width) on the CPU, left to loops."""
    blocks = noise.blocks(rows)
    seeds, (start, stop, _) = np.empty(len(blocks), np.int64), blocks[0]
    for k, (_, _, own) in enumerate(blocks):
        perform(own.tell, seeds, k)
    return LoopDropout(seeds, stop - start, _limit(rate))


@compiled
def fill_by_splitmix(draws: Any, seed: Any, done: int) -> None:
    """Fills int64 `draws` (n,) from a seed, of whose numbers `done` are taken, twice as fast as torch does. Steele, Lea
    and Flood 2014 (SplitMix64)."""
    state = np.uint64(seed) + np.uint64(done) * np.uint64(_GOLDEN)
    for i in range(len(draws)):
        state += np.uint64(_GOLDEN)
        z = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        draws[i] = np.int64(z ^ (z >> np.uint64(31)))


def scale_of(limit: int) -> float:
    """Of what does not fall away."""
    return _ALL / (_ALL - (limit - _LOWEST))


def _limit(rate: float) -> int:
    """Draws below it fall away."""
    return _LOWEST + round(rate * _ALL)


def splitmix(seed: Tensor, step: Tensor, number: int) -> Tensor:
    """The same (n,) int64 by plain operations, where the seed is. `step`: from a state to the next.

    A tensor, as of a constant torch.compile makes C++ that overflows, which a compiler may take for impossible:
    that loop has no end.
    """
    z = seed + torch.arange(1, number + 1, device=seed.device) * step
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    return z ^ _shifted(z, 31)


def _signed(bits: int) -> int:
    """The int64 of 64 bits, of which the first one is set."""
    return bits - (1 << 64)


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (z >> by) & ((1 << (64 - by)) - 1)
