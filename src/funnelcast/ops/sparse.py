"""The operations on rows of embedding tables. Shapes: V rows of a table, E wide; U distinct ones; n uses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from funnelcast.ops.dispatch import op


@op
def gather(rows: Tensor, table: Tensor) -> Tensor:
    """Return rows (B, F) of a table (V, E) one after the other, (B, F · E)."""
    return functional.embedding(rows, table).flatten(1)


@op
def unique(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct ones (U,) of numbers (n,), not below 0, in any order, and the inverse index (n,)."""
    found, inverse = torch.unique(numbers, return_inverse=True)
    return found, inverse


@op
def scatter_add(sums: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Add each row of values (n, E) to the row of sums (U, E) that index (n,) names, in place; -1 for none."""
    own = index >= 0
    return sums.index_add_(0, index[own], values[own])


@op
def scatter_add_bags(sums: Tensor, index: Tensor, values: Tensor, offsets: Tensor, factors: Tensor) -> Tensor:
    """Add factors[k] · values[i] to row index[k] of sums (U, E), for k from offsets[i] to offsets[i + 1], in place.

    Args:
        sums: (U, E).
        index: (total,); -1 for none.
        values: (B, E).
        offsets: (B + 1,) of lists, one after the other.
        factors: (total,).
    """
    owners = torch.arange(len(values), device=offsets.device).repeat_interleave(offsets.diff())
    return scatter_add(sums, index, factors.to(values.dtype)[:, None] * values[owners])
