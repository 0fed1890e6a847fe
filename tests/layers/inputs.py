"""Inputs of every kind, and batches drawn for them: lists that are empty, repeat an id, hold id 0, weigh nothing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.encoder import InputSpec, ListSpec

INPUTS = InputSpec(
    fields=(("item", "items"), ("user", "users"), ("last", "items"), ("age", "ages"), ("shop", "shops")),
    sizes={"users": 4, "unused": 9, "items": 6, "ages": 3, "shops": 5, "tags": 7},
    numeric=("price", "stock"),
    lists=(
        ListSpec("tags", "tags", "multi", weighted=True),
        ListSpec("seen", "items", "multi"),
        ListSpec("history", "items", "sequence", max_length=5),
        ListSpec("visited", "shops", "sequence", max_length=4),
    ),
)
"""A field, a multi-valued feature and a sequence share the items; a field and a sequence the shops."""
DIMS = {"items": 3, "ages": 1}
"""Users, shops and tags keep the common width, 2."""


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lists_of(rows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]] | None = None, **kind: Any) -> Lists:
    """The lists of ids that are given, and of weights, float64 unless `dtype` says otherwise."""
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    flat = None if weights is None else [w for row in weights for w in row]
    held = None if flat is None else torch.tensor(flat, dtype=kind.get("dtype", torch.float64))
    return Lists(offsets, torch.tensor([i for row in rows for i in row], dtype=torch.int32), held)


def draw_lists(size: int, rows: int, longest: int, seed: int, weighted: bool = False, **kind: Any) -> Lists:
    """Of lengths 0 to `longest`; a fifth of the weights is 0, a third below."""
    generator = source(seed)
    lengths = torch.randint(longest + 1, (rows,), generator=generator).tolist()
    ids = [torch.randint(size, (n,), generator=generator).tolist() for n in lengths]
    if not weighted:
        return lists_of(ids)
    weights = [torch.randn(n, generator=generator, dtype=torch.float64) + 0.4 for n in lengths]
    kept = [torch.rand(n, generator=generator) > 0.2 for n in lengths]
    return lists_of(ids, [(w * k).tolist() for w, k in zip(weights, kept, strict=True)], **kind)


def draw_ids(rows: int, seed: int = 0, inputs: InputSpec = INPUTS) -> Tensor:
    """(B, F)"""
    sizes = [inputs.sizes[vocabulary] for _, vocabulary in inputs.fields]
    columns = [torch.randint(size, (rows,), generator=source(seed + 7 * i)).int() for i, size in enumerate(sizes)]
    return torch.stack(columns, 1) if columns else torch.empty(rows, 0, dtype=torch.int32)


def draw_batch(
    rows: int, seed: int = 0, inputs: InputSpec = INPUTS, dtype: torch.dtype = torch.float64, longest: int = 4
) -> Batch:
    """Without labels."""
    numeric = torch.randn(rows, len(inputs.numeric), generator=source(seed), dtype=torch.float64).to(dtype)
    lists = {
        each.name: draw_lists(
            inputs.sizes[each.vocabulary],
            rows,
            min(longest, each.max_length or longest),
            seed + 100 + i,
            each.weighted,
            dtype=dtype,
        )
        for i, each in enumerate(inputs.lists)
    }
    return Batch(draw_ids(rows, seed, inputs), numeric, lists=lists)


def of_row(lists: Lists, row: int) -> tuple[list[int], list[float]]:
    """Ids and weights of a row, by plain slicing; weights of 1 where there are none."""
    assert lists.index is None
    start, stop = int(lists.offsets[row]), int(lists.offsets[row + 1])
    weights = [1.0] * (stop - start) if lists.weights is None else lists.weights[start:stop].tolist()
    return lists.ids[start:stop].tolist(), weights
