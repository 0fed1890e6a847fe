"""Rows as a matrix with a number per column, for models that read columns: trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from funnelcast.boosting.id_rates import IdRates
from funnelcast.data.batch import Batch, Lists
from funnelcast.data.encoder import InputSpec

Ids = Literal["categorical", "target_statistics", "both"]


@dataclass(frozen=True)
class Matrix:
    """The columns of a row, in this order: the ids of the fields; of each field its rates (T) and its count; the
    numbers; of each list the mean rates (T) of its ids, the newest id's rates (T) if it is a sequence, and its length.
    """

    inputs: InputSpec
    ids: Ids
    """Whether a field enters as its id, by its target statistics, or as both. Lists always enter by statistics."""

    @property
    def categorical(self) -> list[int]:
        """Columns that hold ids."""
        return list(range(len(self.inputs.fields))) if self.ids != "target_statistics" else []

    @property
    def by_statistics(self) -> list[str]:
        """Features that enter by their target statistics."""
        fields = [name for name, _ in self.inputs.fields if self.ids != "categorical"]
        return fields + [each.name for each in self.inputs.lists]

    def __call__(
        self, batch: Batch, statistics: IdRates, folds: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float64]:
        """(B, columns). `folds` (B,): of training rows, whose statistics are those of the other folds."""
        of_fold = np.zeros(len(batch), np.intp) if folds is None else folds.astype(np.intp)
        parts = [*self._fields(batch, statistics, of_fold), batch.numeric.numpy()]
        for spec in self.inputs.lists:
            lists, rates = batch.lists[spec.name], statistics.rates[spec.name]
            parts.append(_mean_rates(lists, rates, of_fold))
            if spec.kind == "sequence":
                parts.append(rates[of_fold, _newest(lists)])
            parts.append(lists.offsets.diff().numpy()[:, None])
        return np.concatenate(parts, 1, dtype=np.float64)

    def _fields(self, batch: Batch, statistics: IdRates, of_fold: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
        ids = batch.ids.numpy()
        if self.ids != "target_statistics":
            yield ids
        if self.ids == "categorical":
            return
        for place, (name, _) in enumerate(self.inputs.fields):
            yield statistics.rates[name][of_fold, ids[:, place]]
            yield statistics.counts[name][ids[:, place], None]


def _mean_rates(lists: Lists, rates: NDArray[np.float32], of_fold: NDArray[np.intp]) -> NDArray[np.float64]:
    """Σ w r / Σ |w| of the rates r (T) of a list's ids, w = 1 where ids have no weights -> (B, T); of an empty list, or
    one of weights 0, the prior.
    """
    offsets, ids = lists.offsets.numpy(), lists.ids.numpy()
    owners = np.repeat(np.arange(len(lists)), np.diff(offsets))
    weights = np.ones(len(ids)) if lists.weights is None else lists.weights.numpy().astype(np.float64)
    of_ids = rates[of_fold[owners], ids].astype(np.float64)  # (total, T)
    total = np.bincount(owners, np.abs(weights), len(lists))[:, None]
    sums = np.stack([np.bincount(owners, weights * column, len(lists)) for column in of_ids.T], 1)
    means: NDArray[np.float64] = rates[of_fold, 0].astype(np.float64)
    np.divide(sums, total, out=means, where=total > 0)
    return means


def _newest(lists: Lists) -> NDArray[np.int32]:
    """The last id (B,) of each list; 0 of an empty one."""
    offsets, ids = lists.offsets.numpy(), lists.ids.numpy()
    newest = np.zeros(len(lists), np.int32)
    filled = offsets[1:] > offsets[:-1]
    newest[filled] = ids[offsets[1:][filled] - 1]
    return newest
