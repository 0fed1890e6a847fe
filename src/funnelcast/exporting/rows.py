"""Rows as an exported model reads them: lists padded to rectangles, so that no operation loops over rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.layers.lists import Pool


class Padded(NamedTuple):
    """A list per row, of L elements each. What stands after a list's own elements is padding, of any value."""

    ids: Tensor  # (B, L) int, 0 in the padding
    held: Tensor  # (B, L) bool: whether an element stands there that is read
    ages: Tensor  # (B, L) int: how many elements of the row come after
    weights: Tensor | None = None  # (B, L) float, 0 in the padding

    @classmethod
    def of(cls, spec: ListSpec, ids: Tensor, length: Tensor, weights: Tensor | None = None) -> Padded:
        """Of ids and weights (B, L), and lengths (B,). Of a sequence the newest `max_length` are read."""
        ages = length[:, None] - 1 - torch.arange(ids.shape[1])
        held = ages >= 0
        if spec.kind == "sequence":
            held = held & (ages < spec.max_length)
        kept = None if weights is None else torch.where(held, weights, 0.0)
        return cls(torch.where(held, ids, 0), held, ages, kept)

    def factors(self, pool: Pool) -> Tensor:
        """(B, L) float32, by which the vectors of a list are multiplied before they are added up; as of `bag_of`."""
        ones = self.held.float()
        if pool == "mean":
            return ones / ones.sum(1, keepdim=True).clamp(min=1)
        weights = ones if self.weights is None else self.weights
        if pool == "sum":
            return weights
        return weights / weights.abs().sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


class Rows(NamedTuple):
    """What a model reads."""

    ids: Tensor  # (B, F) int32
    numeric: Tensor  # (B, M) float32
    lists: dict[str, Padded]  # by feature

    @property
    def batch(self) -> Batch:
        """Where ids of lists are (B, L), and no offsets have a meaning."""
        lists = {name: Lists(own.held, own.ids, own.weights) for name, own in self.lists.items()}
        return Batch(self.ids, self.numeric, lists=lists)


def encoded_rows(inputs: InputSpec, tensors: Mapping[str, Tensor]) -> Rows:
    """Rows of `ids` (B, F) and `numeric` (B, M), where there are any, and of each list `NAME` (B, L), `NAME.length`
    (B,) and, where it has weights, `NAME.weights` (B, L)."""
    rows = next(iter(tensors.values())).shape[0]
    lists = {}
    for each in inputs.lists:
        own, length, weights = (tensors.get(each.name + suffix) for suffix in ("", ".length", ".weights"))
        assert own is not None and length is not None
        lists[each.name] = Padded.of(each, own, length, weights)
    ids = tensors["ids"] if inputs.fields else torch.zeros(rows, 0, dtype=torch.int32)
    numeric = tensors["numeric"] if inputs.numeric else torch.zeros(rows, 0)
    return Rows(ids, numeric, lists)
