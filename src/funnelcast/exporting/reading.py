"""The first layers of a network, over padded lists: one vector per row of fields, lists, numbers and statistics."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from funnelcast import ops
from funnelcast.exporting.rows import Padded, Rows
from funnelcast.layers.embedding import Embedding, EmbeddingTable
from funnelcast.layers.hashing import HashedIds
from funnelcast.layers.lists import Pool
from funnelcast.layers.pooling import TargetAttention, TransformerPooling
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.network import FunnelModel


class ReadNetwork(nn.Module):
    """What a network's trunk reads of padded rows: `FunnelModel.embedding` and then `FunnelModel.pooling`."""

    def __init__(self, network: FunnelModel) -> None:
        super().__init__()
        embedding = network.embedding
        self.first = ReadHashed(embedding) if isinstance(embedding, HashedIds) else ReadEmbedding(embedding)
        self.pools = nn.ModuleList(ReadSequence(pool) for pool in network.pooling.pools)

    def forward(self, rows: Rows) -> Tensor:
        """-> (B, D)."""
        flat, sequences = self.first(rows)
        pooled = [pool(flat, rows, vectors) for pool, vectors in zip(self.pools, sequences, strict=True)]
        return torch.cat([flat, *pooled], 1) if pooled else flat


class ReadEmbedding(nn.Module):
    """An `Embedding`."""

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.statistics = None if embedding.statistics is None else ReadStatistics(embedding.statistics)

    def forward(self, rows: Rows) -> tuple[Tensor, list[Tensor]]:
        """-> (B, D) and the vectors (B, L, E) of each list that is handed on element by element."""
        tables = self.embedding.all_tables()
        parts = [part for table in tables for part in self._of_table(table, rows)]
        parts += [self.embedding.numbers(rows.numeric)] if self.embedding.numbers.widths else []
        parts += [self.statistics(rows)] if self.statistics is not None else []
        return torch.cat(parts, 1), [self._vectors(t, rows, name) for t in tables for name in t.attended]

    def _of_table(self, table: EmbeddingTable, rows: Rows) -> list[Tensor]:
        parts = [ops.gather(table.rows(rows.ids), table.weight)] if table.fields else []
        return parts + [
            weighted_sum(self._vectors(table, rows, name), rows.lists[name].factors(cast(Pool, table.pools[name])))
            for name in table.pooled
        ]

    def _vectors(self, table: EmbeddingTable, rows: Rows, name: str) -> Tensor:
        return functional.embedding(table.list_rows(rows.batch, name), table.weight)


class ReadHashed(nn.Module):
    """`HashedIds`, with the buckets of all ids of each vocabulary as a table."""

    def __init__(self, hashed: HashedIds) -> None:
        super().__init__()
        self.hashed = hashed
        salts = hashed.salts.tolist()
        self.of_fields = [self._buckets(size, salt) for size, salt in zip(hashed.field_sizes, salts, strict=True)]
        self.of_lists = {n: self._buckets(size, hashed.list_salts[n]) for n, size in hashed.list_sizes.items()}

    def _buckets(self, size: int, salt: int) -> Tensor:
        return self.hashed.bucket(torch.arange(size), salt)

    def forward(self, rows: Rows) -> tuple[Tensor, list[Tensor]]:
        """-> (B, D) and no vectors."""
        x = rows.numeric.new_zeros(rows.numeric.shape[0], self.hashed.buckets)
        if self.of_fields:
            at = torch.stack([buckets[rows.ids[:, i]] for i, buckets in enumerate(self.of_fields)], 1)
            x = x.scatter_add(1, at, torch.ones_like(at, dtype=x.dtype))
        for name, buckets in self.of_lists.items():
            own = rows.lists[name]
            x = x.scatter_add(1, buckets[own.ids], own.factors(self.hashed.pools[name]))
        return torch.cat([x, self.hashed.numbers(rows.numeric)], 1), []


class ReadStatistics(nn.Module):
    """A `StatisticsLayer` of rows that training did not see."""

    def __init__(self, layer: StatisticsLayer) -> None:
        super().__init__()
        self.layer = layer
        self.starts = layer.list_starts()

    def forward(self, rows: Rows) -> Tensor:
        """-> (B, categories × (S + 1))."""
        parts = [self.layer.singles(rows.batch, self.layer.table)]
        for name, start in self.starts.items():
            own = rows.lists[name]
            factors = own.factors("mean" if own.weights is None else "weighted_mean")
            parts.append(weighted_sum(functional.embedding(own.ids + start, self.layer.table), factors))
        return torch.cat(parts, 1)


class ReadSequence(nn.Module):
    """A sequence that is pooled with parameters."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, flat: Tensor, rows: Rows, vectors: Tensor) -> Tensor:
        """Flat (B, D), vectors (B, L, E) -> (B, E)."""
        pool = cast(TargetAttention | TransformerPooling, self.pool)
        own = rows.lists[pool.feature]
        if pool.positions is not None:
            vectors = vectors + pool.positions.of(own.ages)
        x = vectors.unflatten(2, (pool.copies, pool.width)).permute(2, 0, 1, 3)  # (N, B, L, E / N)
        pooled = attended(pool, flat, x, own) if isinstance(pool, TargetAttention) else transformed(pool, x, own)
        return pooled.transpose(0, 1).flatten(1)


def attended(pool: TargetAttention, flat: Tensor, x: Tensor, own: Padded) -> Tensor:
    """DIN's sum of elements x (N, B, L, E) by their attention to the target -> (N, B, E)."""
    target = flat[:, pool.target.start : pool.target.start + pool.target.width]
    t = target.unflatten(1, (pool.copies, pool.width)).transpose(0, 1).unsqueeze(2).expand_as(x)
    hidden = pool.first(torch.cat([x, t, x - t, x * t], 3).flatten(1, 2)).relu()
    hidden = hidden if pool.rest is None else pool.rest(hidden)
    scores = pool.score(hidden).view(x.shape[:3])
    if pool.softmax:
        scores = torch.where(own.held, scores, -math.inf)
        scores = (scores - scores.amax(2, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)).exp()
        scores = scores / scores.sum(2, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    return (torch.where(own.held, scores, 0.0).unsqueeze(3) * x).sum(2)


def transformed(pool: TransformerPooling, x: Tensor, own: Padded) -> Tensor:
    """The mean of elements x (N, B, L, E) after self-attention -> (N, B, E)."""
    for layer in pool.layers:
        x = layer(x, own.held, None)
    count = own.held.sum(1).clamp(min=1)
    return (x * own.held.unsqueeze(2)).sum(2) / count.unsqueeze(1)


def weighted_sum(vectors: Tensor, factors: Tensor) -> Tensor:
    """Σ_l factors (B, L) · vectors (B, L, E) -> (B, E)."""
    return (vectors * factors.unsqueeze(2)).sum(1)
