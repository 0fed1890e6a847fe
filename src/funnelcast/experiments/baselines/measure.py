"""The baselines of a table: fitted once, at their first use, and compared with models on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.boosting.baseline import fit_baseline
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.experiments.baselines.compare import compared
from funnelcast.experiments.baselines.fit import COLUMN, NAMES, ROWS, Simple, fit_simple
from funnelcast.experiments.baselines.rows import FOLDS, SEED, Rates, chunks, sample
from funnelcast.experiments.folds import with_folds
from funnelcast.models.base import Model
from funnelcast.ops.reach import HEADS
from funnelcast.training.losses import rates_given_parent

MEASURED_ROWS = 1_000_000
"""At most so many rows of a part, sampled, are scored and compared."""
LIGHTGBM = "LightGBM"
Reached = tuple[NDArray[np.float32], NDArray[np.float32]]
"""log p and log q, (N, T) each."""


@dataclass(frozen=True)
class Scored:
    """A part as the baselines see it."""

    rows: NDArray[np.int64]
    """Those that were scored."""
    columns: Columns
    reach: Mapping[str, Reached]
    metrics: Mapping[str, FunnelMetrics]


class Baselines:
    """Of a table. Nothing is read before `compared` is called, and of the parts that alone which it names, and dev."""

    def __init__(self, table: Table, workers: int = 1, progress: Progress = silent) -> None:
        """`workers`: threads of LightGBM."""
        self.table, self.funnel, self.workers = table, table.schema.funnel, workers
        self._progress, self._done, self._parts = progress, 0, dict[str, Scored]()

    def compared(self, part: str, log_p: NDArray[Any], log_q: NDArray[Any]) -> dict[str, dict[str, Any]]:
        """By output, the figures of every baseline on a part, and how a model's reach (N, T) on it compares with the
        baseline that is best on dev."""
        dev, own = self._of("dev"), self._of(part)
        model = log_p[own.rows], log_q[own.rows]
        found = compared(self.funnel, own.columns, model, own.reach, own.metrics, dev.metrics)
        for output in self.funnel.outputs:
            found[output.name]["rows"] = len(own.rows)
            found[output.name]["figures"][COLUMN]["column"] = self._simple.column(output.step)
        return found

    @cached_property
    def _simple(self) -> Simple:
        train = self.table.part("train")
        parents = self.funnel.parents
        constants = [_logit(rate) for rate in rates_given_parent(Batch.of(train), parents)]
        sampled = with_folds(self.table, train, FOLDS, SEED).take(sample(len(train), ROWS))
        self._tell("rates")
        rates = Rates.fit(self.table.encoder.inputs, sampled, parents)
        self._tell("logistic regression")
        return fit_simple(rates, parents, constants)

    @cached_property
    def _boosted(self) -> Model | None:
        self._tell(LIGHTGBM)
        return fit_baseline(self.table, SEED, self.workers)

    def _of(self, part: str) -> Scored:
        if part not in self._parts:
            self._parts[part] = self._score(part)
        return self._parts[part]

    def _score(self, part: str) -> Scored:
        whole = self.table.part(part)
        rows = sample(len(whole), MEASURED_ROWS)
        columns = whole if len(rows) == len(whole) else whole.take(rows)
        simple, boosted = self._simple, self._boosted
        reach = self._reach(simple, columns)
        if boosted is not None:
            reach[LIGHTGBM] = score(boosted, columns)
        self._tell(f"{part} rows")
        assert columns.labels is not None
        labels, weight = columns.labels, columns.weight
        metrics = {name: measure_funnel(self.funnel, labels, *own, weight) for name, own in reach.items()}
        return Scored(rows, columns, reach, metrics)

    def _reach(self, simple: Simple, columns: Columns) -> dict[str, Reached]:
        """A chain of conditionals: no step's probability exceeds that of the step before."""
        shape = (len(columns), len(self.funnel.names))
        found = {name: (np.empty(shape, np.float32), np.empty(shape, np.float32)) for name in NAMES}
        for chunk in chunks(len(columns)):
            for name, logits in simple.logits(columns.take(chunk)).items():
                own = HEADS["chain"](torch.from_numpy(logits), self.funnel.parents)
                found[name][0][chunk], found[name][1][chunk] = own.log_p.numpy(), own.log_q.numpy()
        return found

    def _tell(self, what: str) -> None:
        self._done += 1
        self._progress("baselines", self._done, 5, "steps", what)


def _logit(rate: float) -> float:
    """Of a rate that may be 0, 1 or unknown."""
    rate = 0.5 if math.isnan(rate) else min(max(rate, 1e-9), 1 - 1e-9)
    return math.log(rate) - math.log1p(-rate)
