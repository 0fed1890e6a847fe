"""Embeddings: one storage per width, vocabularies one after the other in it, features pointing into them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.layers.lists import Bag, Elements, Pool, bag_of
from funnelcast.layers.numbers import Numbers
from funnelcast.layers.statistics import StatisticsLayer

Init = Literal["xavier_uniform", "normal"]


class Block(NamedTuple):
    """Where a feature stands in a row of numbers."""

    feature: str
    start: int
    width: int
    copies: int
    """Vectors one after the other, one per step; 1 if all steps read the same."""


class Embedded(NamedTuple):
    """A batch as numbers, as far as looking up goes; or the gradient of it."""

    flat: Tensor  # (B, D): ids and pooled lists by table, then numeric features, then target statistics
    sequences: tuple[Elements, ...] = ()  # those that are pooled with parameters of their own
    ids: Tensor | None = None  # (B, F) that were looked up; none where rows of the same ids may differ

    def slice(self, start: int, stop: int) -> Embedded:
        """Rows start … stop - 1."""
        ids = None if self.ids is None else self.ids[start:stop]
        return Embedded(self.flat[start:stop], tuple(each.slice(start, stop) for each in self.sequences), ids)

    def leaves(self, *, trained: bool) -> Embedded:
        """Cut off from what made it; `trained`: a gradient is needed."""
        vectors = [each.vectors.detach().requires_grad_(trained) for each in self.sequences]
        return self.with_tensors([self.flat.detach().requires_grad_(trained), *vectors])._replace(ids=self.ids)

    def tensors(self) -> list[Tensor]:
        return [self.flat, *(each.vectors for each in self.sequences)]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Embedded:
        """Of the same shape with other numbers, of no ids."""
        flat, *vectors = tensors
        return Embedded(flat, tuple(e._replace(vectors=v) for e, v in zip(self.sequences, vectors, strict=True)))

    def scale(self, factor: float) -> Embedded:
        """All numbers times a factor."""
        return self.with_tensors([tensor * factor for tensor in self.tensors()])


class EmbeddingTable(nn.Module):
    """Rows of one width for some vocabularies. Row 0 of each vocabulary stands for unknown and missing."""

    def __init__(
        self,
        inputs: InputSpec,
        vocabularies: Sequence[str],
        width: int,
        pools: Mapping[str, Pool | None],
        *,
        frozen: bool = False,
        min_rows: int = 1,
    ) -> None:
        """`pools`: how each list becomes one vector; none for one that is handed on element by element; `min_rows`: in
        training, for a row of its own, see `keep`."""
        super().__init__()
        self.sizes = {name: inputs.sizes[name] for name in vocabularies}
        starts = dict(zip(vocabularies, accumulate(self.sizes.values(), initial=0), strict=False))
        self.named = [(i, *named) for i, named in enumerate(inputs.fields) if named[1] in starts]
        self.fields = [name for _, name, _ in self.named]
        self.lists = {each.name: starts[each.vocabulary] for each in inputs.lists if each.vocabulary in starts}
        self.pools = {name: pools[name] for name in self.lists}
        rows = torch.empty(sum(self.sizes.values()), width)
        self.weight, self.frozen = nn.Parameter(rows, requires_grad=not frozen), frozen
        self.min_rows = min_rows
        self.kept: Tensor | None
        self.register_buffer("kept", torch.ones(len(rows), dtype=torch.bool) if min_rows > 1 else None)
        self.columns: Tensor
        self.starts: Tensor
        self.register_buffer(
            "columns", torch.tensor([i for i, _, _ in self.named], dtype=torch.int64), persistent=False
        )
        kind = torch.int32 if len(self.weight) < 2**31 else torch.int64  # the shorter sorts and gathers faster
        self.register_buffer(
            "starts", torch.tensor([starts[v] for _, _, v in self.named], dtype=kind), persistent=False
        )

    @property
    def pooled(self) -> list[str]:
        """The lists that stand in a row as one vector each."""
        return [name for name, pool in self.pools.items() if pool is not None]

    @property
    def attended(self) -> list[str]:
        """The lists that are handed on element by element."""
        return [name for name, pool in self.pools.items() if pool is None]

    @property
    def width(self) -> int:
        """Numbers per row of a batch: (fields + pooled lists) × row width."""
        return (len(self.fields) + len(self.pooled)) * self.weight.shape[1]

    def blocks(self) -> dict[str, Tensor]:
        """The rows (V, E) of each vocabulary, sharing memory."""
        return dict(zip(self.sizes, self.weight.split(list(self.sizes.values())), strict=True))

    @torch.no_grad()
    def reset(self, init: Init, generator: torch.Generator, copies: int = 1) -> None:
        """`xavier_uniform`: within ± sqrt(6 / (V + E)) per vocabulary of V ids; `normal`: N(0, 0.01)."""
        for rows in self.blocks().values():
            if init == "normal":
                rows.normal_(0, 0.01, generator=generator)
            else:
                bound = math.sqrt(6 / (len(rows) + rows.shape[1] // copies))
                rows.uniform_(-bound, bound, generator=generator)

    def rows(self, ids: Tensor) -> Tensor:
        """Row numbers (B, fields of this table) of a batch's ids (B, F)."""
        own = ids if len(self.fields) == ids.shape[1] else ids.index_select(1, self.columns)
        rows = own + self.starts
        return rows if self.kept is None else torch.where(self.kept[rows], rows, self.starts)

    def list_rows(self, batch: Batch, name: str) -> Tensor:
        """Row numbers (total,) of a list's ids."""
        rows = batch.lists[name].ids.to(self.starts.dtype) + self.lists[name]
        return rows if self.kept is None else torch.where(self.kept[rows], rows, self.lists[name])

    def keep(self, counts: Mapping[str, Tensor], *, started: bool = False) -> None:
        """Let ids of fewer than `min_rows` training rows read the row of unknown ids. `counts`, by vocabulary: of its
        first ids, 0 of others; `started`: those that have a row already keep it."""
        for name, kept in self.kept_blocks().items():
            enough = torch.zeros(len(kept), dtype=torch.bool)
            enough[: len(counts[name])] = counts[name] >= self.min_rows
            enough[0] = True
            kept.copy_(enough.to(kept.device) | kept if started else enough)

    def kept_blocks(self) -> dict[str, Tensor]:
        """Whether each id (V,) of a vocabulary has a row of its own, sharing memory; none where all have one."""
        if self.kept is None:
            return {}
        return dict(zip(self.sizes, self.kept.split(list(self.sizes.values())), strict=True))

    def bag(self, batch: Batch, name: str) -> Bag:
        """How the ids of a pooled list are added up."""
        pool = self.pools[name]
        assert pool is not None
        return bag_of(batch.lists[name], pool)

    def forward(self, batch: Batch) -> list[Tensor]:
        """-> (B, fields × row width) and a (B, row width) per pooled list."""
        parts = [ops.gather(self.rows(batch.ids), self.weight)] if self.fields else []
        bags = [(self.list_rows(batch, name), self.bag(batch, name)) for name in self.pooled]
        return parts + [bag.add_up(rows, self.weight) for rows, bag in bags]

    def elements(self, batch: Batch, name: str) -> Elements:
        """The vectors of a list that is handed on element by element."""
        return Elements(self.weight.index_select(0, self.list_rows(batch, name)), batch.lists[name].offsets)


class Embedding(nn.Module):
    """Everything a model reads of a batch as numbers: embedded ids and lists by table, then numeric features, then
    target statistics."""

    def __init__(
        self,
        inputs: InputSpec,
        dim: int,
        dims: Mapping[str, int],
        pools: Mapping[str, Pool | None] | None = None,
        frozen: Sequence[str] = (),
        copies: int = 1,
        statistics: StatisticsLayer | None = None,
        min_rows: int = 1,
    ) -> None:
        """`dim`: width of every vocabulary that `dims` does not name; `frozen`: vocabularies whose rows stay as they
        are; `copies`: vectors per id, one for each step that shall share none; `statistics`: read next to the ids;
        `min_rows`: training rows of an id that has a vector of its own.
        """
        super().__init__()
        self.copies = copies
        keys = {name: (dims.get(name, dim) * copies, name in frozen) for name in inputs.vocabularies}
        pools = pools or {each.name: "mean" for each in inputs.lists}
        self.tables = nn.ModuleList(
            EmbeddingTable(
                inputs, [n for n, k in keys.items() if k == key], key[0], pools, frozen=key[1], min_rows=min_rows
            )
            for key in sorted(set(keys.values()))
        )
        self.numbers, self.statistics = Numbers(inputs), statistics

    def all_tables(self) -> list[EmbeddingTable]:
        return [table for table in self.tables if isinstance(table, EmbeddingTable)]

    @property
    def attended(self) -> list[tuple[str, int]]:
        """Name and width of the lists that `Embedded.sequences` holds, in its order."""
        return [(name, table.weight.shape[1]) for table in self.all_tables() for name in table.attended]

    @property
    def layout(self) -> list[Block]:
        """What stands where in a row of `Embedded.flat`."""
        named = [(n, t.weight.shape[1], self.copies) for t in self.all_tables() for n in [*t.fields, *t.pooled]]
        own = self.numbers.widths | (self.statistics.widths if self.statistics is not None else {})
        named += [(name, width, 1) for name, width in own.items()]
        starts = accumulate((width for _, width, _ in named), initial=0)
        return [Block(name, start, width, n) for (name, width, n), start in zip(named, starts, strict=False)]

    @property
    def width(self) -> int:
        """D, the numbers per row of `Embedded.flat`."""
        return sum(block.width for block in self.layout)

    def reset(self, init: Init, generator: torch.Generator) -> None:
        for table in self.all_tables():
            table.reset(init, generator, self.copies)

    @torch.no_grad()
    def take_over(self, vocabulary: str, ids: Tensor, vectors: Tensor) -> None:
        """Let rows `ids` (n,) of a vocabulary be `vectors` (n, E), in every copy."""
        for table in self.all_tables():
            if vocabulary in table.sizes:
                table.blocks()[vocabulary][ids.long()] = vectors.repeat(1, self.copies).to(table.weight.dtype)

    def keep(self, counts: Mapping[str, Tensor], *, started: bool = False) -> None:
        """As of a table."""
        for table in self.all_tables():
            table.keep(counts, started=started)

    @cached_property
    def id_fields(self) -> tuple[ops.Field, ...]:
        """The fields of one id in a row, for `ops.deduplicate`."""
        starts = {block.feature: block for block in self.layout}
        return tuple(
            (column, table.sizes[vocabulary], starts[name].start, starts[name].width)
            for table in self.all_tables()
            for column, name, vocabulary in table.named
        )

    def forward(self, batch: Batch) -> Embedded:
        """Look a batch up."""
        tables = self.all_tables()
        parts = [part for table in tables for part in table(batch)]
        parts += [self.numbers(batch.numeric)] if self.numbers.widths else []
        parts += [self.statistics(batch)] if self.statistics is not None else []
        sequences = tuple(table.elements(batch, name) for table in tables for name in table.attended)
        flat = torch.cat(parts, dim=1) if len(parts) > 1 else (parts or [batch.numeric])[0]
        return Embedded(flat, sequences, batch.ids)
