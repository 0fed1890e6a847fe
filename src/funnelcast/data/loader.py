"""Whole batches from a prepared part, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.dropped_ids import DroppedIds
from funnelcast.data.paging import Stretch, needed

WINDOW_BLOCK = 65536
"""Rows that stay neighbours when a part is larger than the shuffling window."""


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed for one purpose, epoch or batch, independent of every other one."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator with the seed of `parts`."""
    return torch.Generator().manual_seed(seed_of(*parts))


@dataclass(frozen=True)
class Loader:
    """Shuffled batches of some rows of a part. The last batch of an epoch may be smaller."""

    columns: Columns  # the whole part, memory-mapped
    rows: Batch  # the same as tensors
    chosen: Tensor | None  # (n,) int64 rows that are used; none for all
    batch_size: int
    window: int
    seed: int
    dropped: DroppedIds | None = None

    @classmethod
    def of(
        cls,
        columns: Columns,
        batch_size: int,
        seed: int,
        keep_negatives: float = 1.0,
        window: int = 1 << 22,
        unknown_ids: float = 0.0,
    ) -> Loader:
        """`keep_negatives`: share of the rows without a first step that is used; `window`: rows shuffled together;
        `unknown_ids`: as `DroppedIds` has it, 0 for none."""
        rows = Batch.of(columns)
        chosen = _sample(rows, keep_negatives, seed)
        dropped = DroppedIds.of(rows, chosen, unknown_ids) if unknown_ids else None
        return cls(columns, rows, chosen, batch_size, window, seed, dropped)

    @property
    def num_rows(self) -> int:
        return len(self.rows) if self.chosen is None else len(self.chosen)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.num_rows // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """The batches of an epoch from batch `start` on."""
        for number, rows in enumerate(islice(_cut(self._order(epoch), self.batch_size), start, None), start):
            batch = self.rows.take(rows if self.chosen is None else self.chosen[rows])
            yield batch if self.dropped is None else self.dropped(batch, self._draws(epoch, number))

    def _draws(self, epoch: int, number: int) -> torch.Generator:
        """Of a batch, whichever batch an epoch goes on with."""
        return generator_of(self.seed, "unknown ids", epoch, number)

    def _order(self, epoch: int) -> Iterator[Tensor]:
        """A permutation in chunks: of all rows where they fit the window, else of blocks and then within windows of
        them, of which one is held at a time."""
        generator = generator_of(self.seed, "order", epoch)
        for window in self._windows(generator):
            with needed(self.columns, self._stretches(window)):
                yield window[torch.randperm(len(window), generator=generator)]

    def _windows(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Rows that are shuffled together, in blocks that ascend."""
        if self.num_rows <= self.window:
            yield torch.arange(self.num_rows)
            return
        order = torch.randperm(-(-self.num_rows // WINDOW_BLOCK), generator=generator) * WINDOW_BLOCK
        blocks = (torch.arange(first, min(first + WINDOW_BLOCK, self.num_rows)) for first in order.tolist())
        yield from _cut(blocks, self.window)

    def _stretches(self, window: Tensor) -> list[Stretch]:
        """Where the rows of a window lie in the part."""
        ends = [0, *(torch.nonzero(window.diff() != 1).squeeze(1) + 1).tolist(), len(window)]
        bounds = [(int(window[a]), int(window[b - 1])) for a, b in pairwise(ends) if b > a]
        rows = bounds if self.chosen is None else [(int(self.chosen[a]), int(self.chosen[b])) for a, b in bounds]
        return [(first, last + 1) for first, last in rows]


def _cut(chunks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The elements of chunks one after the other, so many at a time."""
    held: list[Tensor] = []
    for chunk in chunks:
        while len(chunk):
            free = size - sum(map(len, held))
            held.append(chunk[:free])
            chunk = chunk[free:]
            if sum(map(len, held)) == size:
                yield torch.cat(held)
                held = []
    if held:
        yield torch.cat(held)


def _sample(rows: Batch, keep: float, seed: int) -> Tensor | None:
    if keep == 1 or rows.labels is None:
        return None
    lucky = torch.rand(len(rows), generator=generator_of(seed, "negatives")) < keep
    return torch.nonzero(lucky | (rows.labels[:, 0] != 0)).squeeze(1)
