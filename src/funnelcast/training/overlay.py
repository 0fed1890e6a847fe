"""An embedding of new ids over another's: what they add to the rows that it has for unknown ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import Embedded, Embedding, EmbeddingTable


class NewIds(NamedTuple):
    """The ids of some rows that a network does not know."""

    inputs: InputSpec
    """The network's, but that a vocabulary has the new ids 1 … U alone; one that does not learn has none."""
    rows: Batch
    """The rows by these ids, 0 for all others; their numbers are 0."""


def overlay(tables: Sequence[EmbeddingTable], inputs: InputSpec) -> Embedding:
    """For other vocabularies of the same names, with all rows 0; what it gives stands where that of an embedding with
    `tables` does."""
    dims = {name: table.weight.shape[1] for table in tables for name in table.sizes}
    pools = {name: pool for table in tables for name, pool in table.pools.items()}
    frozen = [name for table in tables if table.frozen for name in table.sizes]
    made = Embedding(inputs, 1, dims, pools, frozen)
    for table, own in zip(made.all_tables(), tables, strict=True):
        assert list(table.sizes) == list(own.sizes)
        table.weight.data = own.weight.new_zeros(table.weight.shape)
    return made.to(tables[0].weight.device)


def laid_over(x: Embedded, other: Embedded) -> Embedded:
    """Added number by number; what the other lacks at the end of a row, as target statistics, stays."""
    added = functional.pad(other.flat, (0, x.flat.shape[1] - other.flat.shape[1]))
    return x.with_tensors([a + b for a, b in zip(x.tensors(), [added, *other.tensors()[1:]], strict=True)])


def without_first(rows: Tensor, sizes: dict[str, int]) -> Tensor:
    """Rows of vocabularies, with the first of each set to 0."""
    for block in rows.split(list(sizes.values())):
        block[0] = 0
    return rows
