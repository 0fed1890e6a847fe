"""Ids without embeddings: hashed into one vector of counts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import InputError
from funnelcast.layers.embedding import Block, Embedded, EmbeddingTable, Init
from funnelcast.layers.lists import Pool, bag_of, owners
from funnelcast.layers.numbers import Numbers

_MIX = 0x9E3779B1  # an odd number near 2^32 / golden ratio: multiplied by it, neighbours fall far apart
_BITS = 32


class HashedIds(nn.Module):
    """x[h(vocabulary, id)] += 1 for every field, and a list's factors for its ids; then numeric features.

    The MAN paper's "remove the embedding layer and train the original feature data". Nothing is learned here; two ids
    that meet in one bucket are the same to the network.
    """

    def __init__(self, inputs: InputSpec, buckets: int, pools: Mapping[str, Pool]) -> None:
        super().__init__()
        self.buckets, self.numbers, self.pools = buckets, Numbers(inputs), dict(pools)
        salts = {name: salt for salt, name in enumerate(inputs.vocabularies)}
        self.salts: Tensor
        self.register_buffer("salts", torch.tensor([salts[v] for _, v in inputs.fields], dtype=torch.int64), False)
        self.list_salts = {each.name: salts[each.vocabulary] for each in inputs.lists}
        self.field_sizes = [inputs.sizes[vocabulary] for _, vocabulary in inputs.fields]
        self.list_sizes = {each.name: inputs.sizes[each.vocabulary] for each in inputs.lists}

    @property
    def layout(self) -> list[Block]:
        """What stands where in a row."""
        widths = {"hashed ids": self.buckets, **self.numbers.widths}
        starts = accumulate(widths.values(), initial=0)
        return [Block(name, start, width, 1) for (name, width), start in zip(widths.items(), starts, strict=False)]

    @property
    def width(self) -> int:
        """D, the numbers per row."""
        return self.buckets + self.numbers.width

    def all_tables(self) -> list[EmbeddingTable]:
        return []

    @property
    def id_fields(self) -> tuple[ops.Field, ...]:
        """No vectors."""
        return ()

    def reset(self, init: Init, generator: torch.Generator) -> None:
        """Nothing to do."""

    def take_over(self, vocabulary: str, ids: Tensor, vectors: Tensor) -> None:
        """Raise InputError, as there is nothing that could start from vectors; settings refuse them before."""
        raise InputError(f"{vocabulary!r} has vectors to start from, and embedding = 'none' has none; leave one out")

    def bucket(self, ids: Tensor, salts: Tensor | int) -> Tensor:
        """Where ids of vocabularies with these salts fall, int64 of the same shape."""
        mixed = (ids.long() + (salts + 1) * 0x85EBCA77) * _MIX
        mixed = (mixed ^ (mixed >> 15)) * _MIX
        return ((mixed & ((1 << _BITS) - 1)) * self.buckets) >> _BITS

    def forward(self, batch: Batch) -> Embedded:
        """-> (B, width)."""
        kind = batch.numeric.dtype
        x = torch.zeros(batch.ids.shape[0], self.buckets, dtype=kind, device=batch.ids.device)
        x = x.scatter_add(1, self.bucket(batch.ids, self.salts), torch.ones_like(batch.ids, dtype=kind))
        flat = x.flatten()
        for name, pool in self.pools.items():
            lists = batch.lists[name]
            rows = owners(lists.offsets, lists.ids.shape[0])
            at = rows * self.buckets + self.bucket(lists.ids, self.list_salts[name])
            flat = flat.index_add(0, at, bag_of(lists, pool).factors.to(kind))
        return Embedded(torch.cat([flat.view(x.shape), self.numbers(batch.numeric)], 1))
