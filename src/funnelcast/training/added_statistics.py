"""Target statistics with the rows that a network is adapted to added: what these change in the numbers that it reads.

The rates of all rows, strengths and scales stay as they were fitted, so that the numbers mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.categories import flat_codes
from funnelcast.data.statistics import Tally, TargetStatistics
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.lists import bag_of
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.training.statistics import add_rows, target_weights


class Added(NamedTuple):
    """Sums over rows by the values that they hold, of one category."""

    codes: Tensor
    """(n,) int64, ascending, above 0: of values that the network knows."""
    sums: Tensor
    """(n, 2 S + 1) float32: weight observed of each target, weight that reached it, and rows."""

    def onto(self, own: Tally) -> Tally:
        """With the sums of the base, (1, n, …) of the same values."""
        observed, reached, rows = np.split(self.sums.double().numpy(), [(s := own.observed.shape[2]), 2 * s], 1)
        return Tally(own.observed + observed, own.reached + reached, own.rows + rows[:, 0])


def added_rows(layer: StatisticsLayer, rows: Batch, keep_negatives: float) -> dict[str, Added]:
    """What labelled rows on the CPU add, by category. Rows without the first step count as the share of them that
    statistics were fitted on."""
    rows = rows.take(torch.arange(len(rows)))
    assert rows.labels is not None
    share = np.where(rows.labels[:, 0].numpy() == 0, keep_negatives, 1.0)[:, None]
    observed, reached = (weights * share for weights in target_weights(rows, layer.targets))
    observed, reached = np.hstack([observed, share]), np.hstack([reached, np.zeros_like(share)])
    found = {}
    for name, category in layer.categories().items():
        offsets, codes = flat_codes(category, rows)
        known, inverse = np.unique(codes, return_inverse=True)
        sums = np.zeros((2, 1, len(known), observed.shape[1]))
        counts, folds = np.zeros((1, len(known))), np.zeros(len(rows), np.uint8)
        add_rows(folds, offsets, inverse.reshape(-1).astype(np.int32), observed, reached, sums, counts)
        own = np.concatenate([sums[0, 0, :, :-1], sums[1, 0, :, :-1], sums[0, 0, :, -1:]], 1)[known > 0]
        if len(own):
            above = torch.from_numpy(known[known > 0].astype(np.int64))
            found[name] = Added(above, torch.from_numpy(own.astype(np.float32)))
    return found


def with_added(fitted: TargetStatistics, added: Mapping[str, Added]) -> TargetStatistics:
    """The statistics of the rows that they were fitted on and of those that are added."""
    tallies = dict(fitted.tallies)
    for name, own in added.items():
        base, codes = tallies[name], own.codes.numpy()
        changed = own.onto(_part(base, codes))
        whole = Tally(base.observed.copy(), base.reached.copy(), base.rows.copy())
        whole.observed[:, codes], whole.reached[:, codes], whole.rows[:, codes] = (
            changed.observed,
            changed.reached,
            changed.rows,
        )
        tallies[name] = whole
    return replace(fitted, tallies=tallies)


class AddedStatistics:
    """What several sets of added rows change in a layer's numbers, each for rows of its own."""

    def __init__(self, layer: StatisticsLayer, sets: Sequence[Mapping[str, Added]]) -> None:
        self.layer, self.size = layer, int(layer.starts[-1])
        starts, width = dict(zip(layer.names, layer.starts.tolist(), strict=False)), len(layer.targets) + 1
        named = [(i, name, own) for i, added in enumerate(sets) for name, own in added.items()]
        keys = [torch.empty(0, dtype=torch.int64)]
        keys += [i * self.size + starts[name] + own.codes for i, name, own in named]
        numbers = [torch.zeros(1, width), *(_difference(layer.fitted, name, own) for _, name, own in named)]
        device = layer.starts.device
        self.keys, order = torch.cat(keys).to(device).sort()
        self.table = torch.cat(numbers).to(device)[torch.cat([order.new_zeros(1), 1 + order])]

    def __call__(self, x: Embedded, batch: Batch, which: Tensor) -> Embedded:
        """Embedded rows with what is added for them; `which` (B,) int64: the place of each row's set."""
        layer, table, parts = self.layer, self.table.to(x.flat.dtype), list[Tensor]()
        single, starts = [category.codes(batch).long() for category in layer.columns().values()], layer.starts.long()
        if single:
            rows = self._indices(torch.stack(single, 1) + starts[: len(single)], which[:, None])
            parts.append(table[rows].flatten(1))
        for name, start in zip(layer.lists, starts[len(single) :].tolist(), strict=False):
            lists = batch.lists[name]
            own = which.repeat_interleave(lists.offsets.diff(), output_size=len(lists.ids))
            bag = bag_of(lists, "mean" if lists.weights is None else "weighted_mean")
            parts.append(bag.add_up(self._indices(lists.ids.long() + start, own), table))
        added, flat = torch.cat(parts, 1), x.flat.clone()
        flat[:, flat.shape[1] - added.shape[1] :] += added
        return x._replace(flat=flat)

    def _indices(self, rows: Tensor, which: Tensor) -> Tensor:
        """In the table; 0 where nothing is added."""
        if not len(self.keys):
            return torch.zeros_like(rows)
        keys = rows + which * self.size
        indices = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[indices] == keys, indices + 1, 0)


def _difference(fitted: TargetStatistics, name: str, own: Added) -> Tensor:
    """(n, S + 1)."""
    assert fitted.everyone is not None
    base = _part(fitted.tallies[name], own.codes.numpy())
    with_own, without = (
        fitted.numbers(name, tally.placed(np.arange(1, len(own.codes) + 1), len(own.codes) + 1), fitted.everyone)
        for tally in (own.onto(base), base)
    )
    return torch.from_numpy(with_own[0, 1:] - without[0, 1:])


def _part(tally: Tally, codes: NDArray[np.int64]) -> Tally:
    return Tally(tally.observed[:, codes], tally.reached[:, codes], tally.rows[:, codes])
