"""Embeddings: one storage per width, vocabularies one after the other in it, fields pointing into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec

Init = Literal["xavier_uniform", "normal"]


class EmbeddingTable(nn.Module):
    """Rows of one width for some vocabularies. Row 0 of each vocabulary stands for unknown and missing."""

    def __init__(self, inputs: InputSpec, vocabularies: Sequence[str], width: int) -> None:
        super().__init__()
        self.sizes = {name: inputs.sizes[name] for name in vocabularies}
        starts = dict(zip(vocabularies, accumulate(self.sizes.values(), initial=0), strict=False))
        fields = [(i, starts[name]) for i, (_, name) in enumerate(inputs.fields) if name in starts]
        self.weight = nn.Parameter(torch.empty(sum(self.sizes.values()), width))
        self.columns: Tensor
        self.starts: Tensor
        self.register_buffer("columns", torch.tensor([i for i, _ in fields]), persistent=False)
        kind = torch.int32 if len(self.weight) < 2**31 else torch.int64  # the shorter sorts and gathers faster
        self.register_buffer("starts", torch.tensor([start for _, start in fields], dtype=kind), persistent=False)

    @property
    def width(self) -> int:
        """Numbers per row of a batch: fields × row width."""
        return len(self.columns) * self.weight.shape[1]

    def blocks(self) -> dict[str, Tensor]:
        """The rows (V, E) of each vocabulary, sharing memory."""
        return dict(zip(self.sizes, self.weight.split(list(self.sizes.values())), strict=True))

    @torch.no_grad()
    def reset(self, init: Init, generator: torch.Generator) -> None:
        """`xavier_uniform`: within ± sqrt(6 / (V + E)) per vocabulary of V ids; `normal`: N(0, 0.01)."""
        for rows in self.blocks().values():
            if init == "normal":
                rows.normal_(0, 0.01, generator=generator)
            else:
                bound = math.sqrt(6 / sum(rows.shape))
                rows.uniform_(-bound, bound, generator=generator)

    def rows(self, ids: Tensor) -> Tensor:
        """Row numbers (B, fields of this table) of a batch's ids (B, F)."""
        return ids.index_select(1, self.columns) + self.starts

    def forward(self, ids: Tensor) -> Tensor:
        """(B, F) -> (B, width)."""
        return functional.embedding(self.rows(ids), self.weight).flatten(1)


class Embedding(nn.Module):
    """Everything a model reads of a batch as one row of numbers: embedded ids by table, then numeric features."""

    def __init__(self, inputs: InputSpec, dim: int, dims: dict[str, int]) -> None:
        """`dim`: width of every vocabulary that `dims` does not name."""
        super().__init__()
        used = list(dict.fromkeys(vocabulary for _, vocabulary in inputs.fields))
        widths = {name: dims.get(name, dim) for name in used}
        self.tables = nn.ModuleList(
            EmbeddingTable(inputs, [name for name in used if widths[name] == width], width)
            for width in sorted(set(widths.values()))
        )
        self.num_numeric = len(inputs.numeric)

    @property
    def width(self) -> int:
        """D, the numbers per row."""
        return sum(table.width for table in self.all_tables()) + self.num_numeric

    def all_tables(self) -> list[EmbeddingTable]:
        return [table for table in self.tables if isinstance(table, EmbeddingTable)]

    def reset(self, init: Init, generator: torch.Generator) -> None:
        for table in self.all_tables():
            table.reset(init, generator)

    def forward(self, batch: Batch) -> Tensor:
        """-> (B, D)."""
        parts = [*(table(batch.ids) for table in self.tables), *([batch.numeric] if self.num_numeric else [])]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
