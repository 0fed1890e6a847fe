"""Target statistics of a row's categories as a network reads them. Nothing here is learned by gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.categories import (
    Category,
    ListIds,
    NumberBins,
    Pairs,
    field_categories,
    list_categories,
)
from funnelcast.data.encoder import InputSpec
from funnelcast.data.statistics import Tally, TargetStatistics, targets_of
from funnelcast.layers.lists import bag_of


class StatisticsLayer(nn.Module):
    """For each category of a row S + 1 numbers: the log odds of every target's smoothed rate beyond those of all rows,
    and log(1 + rows), each over its standard deviation. Of a list, the weighted mean over its ids. 0 is "as all rows",
    and what every category reads before statistics are set.

    A batch with folds reads the statistics of each row's fold, which do not count its own label.
    """

    def __init__(
        self,
        inputs: InputSpec,
        parents: tuple[int, ...],
        features: Sequence[str],
        crosses: Sequence[tuple[str, str]] = (),
        bins: int = 64,
    ) -> None:
        """`features`: fields, numbers and lists; `crosses`: of two fields or numbers; `bins`: of a number, at most."""
        super().__init__()
        self.inputs, self.targets, self.bins = inputs, targets_of(parents), bins
        fields, lists = field_categories(inputs), list_categories(inputs)
        self.single = [name for name in features if name not in lists]
        self.lists = {name: lists[name] for name in features if name in lists}
        self.crosses = {f"{a} × {b}": (a, b) for a, b in crosses}
        needed = dict.fromkeys([*self.single, *(name for pair in crosses for name in pair)])
        self.fields = {name: fields[name] for name in needed if name in fields}
        self.numbers = {name: inputs.numeric.index(name) for name in needed if name not in fields}
        self.fitted = TargetStatistics()
        self.table: Tensor
        self.by_fold: Tensor | None
        self.starts: Tensor
        for name in ("table", "by_fold", "starts"):
            self.register_buffer(name, None, persistent=False)
        self.set(self.fitted)

    @property
    def widths(self) -> dict[str, int]:
        """Numbers per row of each category."""
        return dict.fromkeys([f"statistics of {name}" for name in self.names], len(self.targets) + 1)

    @property
    def names(self) -> list[str]:
        """Of the categories, in the order of a row's numbers."""
        return [*self.single, *self.crosses, *self.lists]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of values of every feature that is read, alone or in a pair."""
        return {name: each.size for name, each in (self._parts() | self.lists).items()}

    def categories(self) -> dict[str, Category | ListIds]:
        """By name, in the order of a row's numbers."""
        return {**self.columns(), **self.lists}

    def pairs(self) -> dict[str, Pairs]:
        """By name."""
        parts = self._parts()
        known = {name: torch.from_numpy(values) for name, values in self.fitted.pairs.items()}
        none = torch.empty(0, dtype=torch.int64)
        return {name: Pairs(parts[a], parts[b], known.get(name, none)) for name, (a, b) in self.crosses.items()}

    def _parts(self) -> dict[str, Category]:
        none = np.empty(0, np.float32)
        edges = {name: torch.from_numpy(self.fitted.edges.get(name, none)) for name in self.numbers}
        return {**self.fields, **{name: NumberBins(column, edges[name]) for name, column in self.numbers.items()}}

    def columns(self) -> dict[str, Category]:
        """Those with one value per row."""
        parts = self._parts()
        return {**{name: parts[name] for name in self.single}, **self.pairs()}

    def set(
        self, fitted: TargetStatistics, by_fold: Mapping[str, Tally] | None = None, everyone: Tally | None = None
    ) -> None:
        """Take over statistics; `by_fold`, `everyone`: the tallies, in as many tables as there are folds, that training
        rows read."""
        self.fitted = fitted
        self._singles = self.columns()
        sizes = [each.size for each in self.categories().values()]
        device = torch.device("cpu") if self.starts is None else self.starts.device
        self.starts = torch.tensor([0, *accumulate(sizes)], dtype=torch.int32, device=device)
        self.table = self._table(fitted.tallies, fitted.everyone)[0].to(device)
        self.by_fold = None if by_fold is None else self._table(by_fold, everyone).to(device)

    def _table(self, tallies: Mapping[str, Tally], everyone: Tally | None) -> Tensor:
        """(K, categories, S + 1)."""
        if everyone is None:
            return torch.zeros(1, int(self.starts[-1]), len(self.targets) + 1)
        parts = [self.fitted.numbers(name, tallies[name], everyone) for name in self.names]
        return torch.from_numpy(np.concatenate(parts, 1))

    def forget_folds(self) -> None:
        """Drop what training rows alone read."""
        self.by_fold = None

    def forward(self, batch: Batch) -> Tensor:
        """(B, categories × (S + 1))."""
        table, first = self.table, None
        if batch.fold is not None:
            assert self.by_fold is not None, "rows with folds are training rows, for which statistics must be fitted"
            table = self.by_fold.flatten(0, 1)
            first = batch.fold.to(torch.int32) * self.by_fold.shape[1]
        table = table.to(batch.numeric.dtype)
        single = self.singles(batch, table, first)
        return torch.cat([single, *self._of_lists(batch, table, first)], 1) if self.lists else single

    def singles(self, batch: Batch, table: Tensor, first: Tensor | None = None) -> Tensor:
        """(B, n × (S + 1)) of the n categories with one value per row. `first` (B,): of the table, the row's own."""
        rows = batch.ids.shape[0]
        if not self._singles:
            return table.new_empty(rows, 0)
        codes = torch.stack([each.codes(batch).to(torch.int32) for each in self._singles.values()], 1)
        codes = codes if first is None else codes + first[:, None]
        return ops.gather(codes + self.starts[: len(self._singles)], table)

    def list_starts(self) -> dict[str, int]:
        """By list, where its categories start in the table."""
        return dict(zip(self.lists, self.starts[len(self._singles) :].tolist(), strict=False))

    def _of_lists(self, batch: Batch, table: Tensor, first: Tensor | None) -> list[Tensor]:
        found = []
        for name, start in self.list_starts().items():
            lists = batch.lists[name]
            bag = bag_of(lists, "mean" if lists.weights is None else "weighted_mean")
            rows = lists.ids + start
            if first is not None:
                rows = rows + first.repeat_interleave(lists.offsets.diff(), output_size=rows.shape[0])
            found.append(bag.add_up(rows, table))
        return found
