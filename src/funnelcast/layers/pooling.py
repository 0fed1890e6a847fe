"""Pooling with parameters: sequences to one vector each, by attention to a target or by self-attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from funnelcast import ops
from funnelcast.layers.banks import LinearBank, MLPBank
from funnelcast.layers.embedding import Block, Embedded
from funnelcast.layers.lists import Elements

GROUP = 256
"""Rows that are padded together."""


class SequencePooling(nn.Module):
    """Appends to a row of numbers one vector per sequence that is pooled with parameters."""

    def __init__(self, layout: Sequence[Block], pools: Sequence[TargetAttention | TransformerPooling]) -> None:
        """`layout`: of the row; `pools`: in the order of `Embedded.sequences`."""
        super().__init__()
        self.pools = nn.ModuleList(pools)
        self.layout = list(layout)
        for pool in pools:
            start = self.width
            self.layout.append(Block(pool.feature, start, pool.copies * pool.width, pool.copies))

    @property
    def width(self) -> int:
        """D, what the trunk reads of a row."""
        return sum(block.width for block in self.layout)

    def columns(self, copy: int) -> list[int]:
        """Columns of the row that belong to one of the copies, or to all."""
        blocks = ((b.start, b.width // b.copies, copy if b.copies > 1 else 0) for b in self.layout)
        return [start + n * width + i for start, width, n in blocks for i in range(width)]

    def forward(self, embedded: Embedded, key: ops.DropoutKey | None = None) -> Tensor:
        """-> (B, D)."""
        if not embedded.sequences:
            return embedded.flat
        pooled = [
            pool(embedded.flat, elements, key) for pool, elements in zip(self.pools, embedded.sequences, strict=True)
        ]
        return torch.cat([embedded.flat, *pooled], dim=1)


class Positions(nn.Module):
    """A learned vector per age, added to the element of that age; the newest has age 0."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        self.weight.normal_(0, 0.02, generator=generator)

    def of(self, ages: Tensor) -> Tensor:
        """Those of ages of any shape; what is older than the oldest has its vector, and padding that of age 0."""
        clamped = ages.clamp(0, self.weight.shape[0] - 1)
        return self.weight.index_select(0, clamped.flatten()).view(*ages.shape, self.weight.shape[1])


class TargetAttention(nn.Module):
    """DIN (Zhou et al. 2018, eq. 3): Σ_k a(h_k, t) h_k over a sequence, t the vector of a target field.

    a(h, t) = MLP([h, t, h − t, h ∘ t]) to one number, not normalised as in the paper, or by softmax over the sequence.
    """

    def __init__(
        self,
        feature: str,
        target: Block,
        hidden: Sequence[int],
        *,
        softmax: bool = False,
        positions: int = 0,
    ) -> None:
        """`target`: where the target field stands in a row; `positions`: the longest sequence, 0 for no positions."""
        super().__init__()
        self.feature, self.target, self.copies, self.softmax = feature, target, target.copies, softmax
        self.width = target.width // target.copies
        self.positions = Positions(positions, target.width) if positions else None
        self.first = LinearBank(self.copies, 4 * self.width, hidden[0])
        self.rest = MLPBank(self.copies, hidden[0], hidden[1:]) if len(hidden) > 1 else None
        self.score = LinearBank(self.copies, hidden[-1], 1)

    def forward(self, flat: Tensor, elements: Elements, key: ops.DropoutKey | None = None) -> Tensor:
        """Flat (B, D), elements of E numbers each -> (B, E)."""
        start, width = self.target.start, self.target.width
        target = flat[:, start : start + width]
        if torch.compiler.is_exporting() or flat.shape[0] <= GROUP:
            return self._pool(target, elements, key)
        groups = zip(target.split(GROUP), elements.split(GROUP), strict=True)
        return torch.cat([self._pool(*group, key) for group in groups])

    def _pool(self, target: Tensor, elements: Elements, key: ops.DropoutKey | None) -> Tensor:
        owners = elements.owners()
        if self.positions is not None:
            positions = self.positions.of(elements.ages(owners))
            elements = elements._replace(vectors=elements.vectors + positions)
        own = _by_copy(elements.vectors, self.copies)
        weights = self._weights(own, _by_copy(target, self.copies), elements, owners, key)
        return elements.sums((weights * own).transpose(0, 1).flatten(1), owners)

    def _hidden(self, own: Tensor, target: Tensor, owners: Tensor) -> Tensor:
        """The first layer on [h, t, h − t, h ∘ t], (N, total, hidden): what is linear in t alone is done once a row."""
        of_h, of_t, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        assert self.first.bias is not None
        by_row = torch.baddbmm(self.first.bias.unsqueeze(1), target, of_t - of_difference)
        product = own * target.index_select(1, owners)
        return own @ (of_h + of_difference) + product @ of_product + by_row.index_select(1, owners)

    def _weights(
        self, own: Tensor, target: Tensor, elements: Elements, owners: Tensor, key: ops.DropoutKey | None
    ) -> Tensor:
        """(N, total, 1), before the softmax."""
        hidden = self._hidden(own, target, owners).relu()
        hidden = hidden if self.rest is None else self.rest(hidden, key)
        assert self.score.bias is not None
        scores = torch.baddbmm(self.score.bias.unsqueeze(1), hidden, self.score.weight)
        if not self.softmax:
            return scores
        by_element = scores.squeeze(2).t()
        most = by_element.new_full((elements.lengths.shape[0], self.copies), -math.inf)
        most = most.scatter_reduce(0, owners[:, None].expand_as(by_element), by_element.detach(), "amax")
        exponentials = (by_element - most[owners]).exp()
        return (exponentials / elements.sums(exponentials, owners)[owners]).t().unsqueeze(2)


class TransformerPooling(nn.Module):
    """Layers of self-attention over a sequence with positions, then the mean over its elements; 0 if it has none.

    Per layer h = LN(h + MHA(h)), h = LN(h + W₂ relu(W₁ h)), as in Vaswani et al. 2017. Rows are taken in groups of like
    lengths, each padded to its own longest.
    """

    def __init__(
        self,
        feature: str,
        width: int,
        copies: int,
        length: int,
        *,
        heads: int = 1,
        layers: int = 1,
        hidden: int = 32,
        dropout: float = 0.0,
    ) -> None:
        """`length`: of the longest sequence."""
        super().__init__()
        self.feature, self.width, self.copies, self.length = feature, width, copies, length
        self.positions = Positions(length, width * copies)
        self.layers = nn.ModuleList(TransformerLayer(copies, width, heads, hidden, dropout) for _ in range(layers))

    def forward(self, flat: Tensor, elements: Elements, key: ops.DropoutKey | None = None) -> Tensor:
        """Elements of E numbers each -> (B, E)."""
        if key is None:
            return self._grouped(elements, None)
        starts = range(0, elements.lengths.shape[0], key.rows)
        parts = [elements.slice(start, start + key.rows) for start in starts]
        return torch.cat([self._grouped(*pair) for pair in zip(parts, key.blocks(), strict=True)])

    def _grouped(self, elements: Elements, key: ops.DropoutKey | None) -> Tensor:
        """Of rows that have one dropout key."""
        lengths = elements.lengths
        padding = elements.vectors.new_zeros(1, elements.vectors.shape[1])
        vectors = torch.cat([elements.vectors, padding])
        if torch.compiler.is_exporting() or lengths.shape[0] <= GROUP:
            return self._pool(vectors, elements.offsets[:-1], lengths, key)
        order = lengths.argsort()
        pooled = [self._pool(vectors, elements.offsets[rows], lengths[rows], key) for rows in order.split(GROUP)]
        return torch.cat(pooled)[order.argsort()]

    def _pool(self, vectors: Tensor, starts: Tensor, lengths: Tensor, key: ops.DropoutKey | None) -> Tensor:
        """Of rows whose elements are vectors[start:start + length]; the last vector is padding."""
        positions = torch.arange(self._longest(lengths), device=lengths.device)
        held = positions < lengths[:, None]
        x = functional.embedding(torch.where(held, starts[:, None] + positions, vectors.shape[0] - 1), vectors)
        x = x + self.positions.of(lengths[:, None] - 1 - positions)
        x = x.unflatten(2, (self.copies, self.width)).permute(2, 0, 1, 3)
        for layer in self.layers:
            x = layer(x, held, key)
        mean: Tensor = (x * held[..., None]).sum(2) / lengths.clamp(min=1)[:, None]
        return mean.transpose(0, 1).flatten(1)

    def _longest(self, lengths: Tensor) -> int:
        """Of some rows; an exported model has room for every length."""
        if torch.compiler.is_exporting() or not lengths.shape[0]:
            return self.length
        return max(1, int(lengths.max()))


class TransformerLayer(nn.Module):
    """One layer of N encoders side by side."""

    def __init__(self, copies: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (LinearBank(copies, width, width, bias=False) for _ in range(3))
        self.mix = LinearBank(copies, width, width)
        self.wide, self.narrow = LinearBank(copies, width, hidden), LinearBank(copies, hidden, width)
        self.norms = nn.ModuleList(Norm(copies, width) for _ in range(2))

    def forward(self, x: Tensor, held: Tensor, key: ops.DropoutKey | None) -> Tensor:
        """X (N, B, L, E), held (B, L): whether an element stands there -> (N, B, L, E)."""
        flat = x.flatten(1, 2)
        q, k, v = (
            bank(flat).unflatten(1, x.shape[1:3]).unflatten(3, (self.heads, -1)).transpose(2, 3)
            for bank in (self.query, self.key, self.value)
        )
        mask = torch.zeros_like(held, dtype=x.dtype).masked_fill(~held, torch.finfo(x.dtype).min)
        attended = ops.self_attention(q, k, v, mask[:, None, None, :])
        attended = self.mix(attended.transpose(2, 3).flatten(3).flatten(1, 2))
        flat = self.norms[0](flat + ops.dropout(attended, self.dropout, key))
        wide = ops.dropout(self.wide(flat).relu(), self.dropout, key)
        normed: Tensor = self.norms[1](flat + self.narrow(wide))
        return normed.reshape(x.shape)


class Norm(nn.Module):
    """Layer normalisation of N encoders side by side."""

    def __init__(self, copies: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(copies, 1, width))
        self.bias = nn.Parameter(torch.empty(copies, 1, width))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        self.scale.fill_(1)
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, E) -> (N, n, E)."""
        return functional.layer_norm(x, x.shape[-1:]) * self.scale + self.bias


def _by_copy(vectors: Tensor, copies: int) -> Tensor:
    """(n, N · E) -> (N, n, E)."""
    return vectors.view(vectors.shape[0], copies, vectors.shape[1] // copies).transpose(0, 1)
