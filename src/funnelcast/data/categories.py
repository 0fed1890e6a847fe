"""What rows are grouped by for target statistics: the id of a field, the bin of a number, a pair of these, the ids of a
list. Category 0 stands for unknown and missing values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec


class Category(Protocol):
    """A value per row out of finitely many."""

    @property
    def size(self) -> int:
        """Number of categories, including 0."""

    def codes(self, batch: Batch) -> Tensor:
        """(B,) int32 or int64, each in [0, size)."""


@dataclass(frozen=True)
class FieldIds:
    """The ids of a field."""

    column: int
    """Of `Batch.ids`."""
    size: int

    def codes(self, batch: Batch) -> Tensor:
        return batch.ids[:, self.column]


@dataclass(frozen=True)
class NumberBins:
    """The bins of a number: 1 + the number of edges below it. A missing number is the mean, as networks read it."""

    column: int
    """Of `Batch.numeric`."""
    edges: Tensor
    """(E,) float32, ascending, in scaled numbers."""

    @property
    def size(self) -> int:
        return len(self.edges) + 2

    def codes(self, batch: Batch) -> Tensor:
        values = batch.numeric[:, self.column].contiguous()
        return 1 + torch.searchsorted(self.edges.to(values), values, out_int32=True)


@dataclass(frozen=True)
class Pairs:
    """The pairs of two categories that training rows hold; any other pair, and one with an unknown part, is 0."""

    first: Category
    second: Category
    known: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """(P,) ascending: first × size of the second + second."""

    @property
    def size(self) -> int:
        return len(self.known) + 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself, as nothing changes it."""
        return self

    def numbers(self, batch: Batch) -> Tensor:
        """(B,) int64, a number for each pair; -1 where a part is unknown."""
        first, second = self.first.codes(batch).long(), self.second.codes(batch).long()
        return torch.where((first > 0) & (second > 0), first * self.second.size + second, -1)

    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(P,) each: the two categories of every known pair."""
        first, second = np.divmod(self.known.numpy(), self.second.size)
        return first, second

    def codes(self, batch: Batch) -> Tensor:
        if not len(self.known):
            return batch.ids.new_zeros(batch.ids.shape[0])
        numbers, known = self.numbers(batch), self.known.to(batch.ids.device)
        indices = torch.searchsorted(known, numbers).clamp(max=len(known) - 1)
        return torch.where(known[indices] == numbers, indices + 1, 0)


@dataclass(frozen=True)
class ListIds:
    """The ids of a list: any number per row."""

    name: str
    size: int


def flat_codes(category: Category | ListIds, part: Batch) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets (n + 1,) and categories of the rows of a part; a value per row is a list of one."""
    if isinstance(category, ListIds):
        lists = part.lists[category.name]
        return lists.offsets.numpy(), lists.ids.numpy()
    return np.arange(len(part) + 1), category.codes(part).to(torch.int32).contiguous().numpy()


def field_categories(inputs: InputSpec) -> dict[str, FieldIds]:
    """By field."""
    return {name: FieldIds(i, inputs.sizes[vocabulary]) for i, (name, vocabulary) in enumerate(inputs.fields)}


def list_categories(inputs: InputSpec) -> dict[str, ListIds]:
    """By feature with a list per row."""
    return {each.name: ListIds(each.name, inputs.sizes[each.vocabulary]) for each in inputs.lists}
