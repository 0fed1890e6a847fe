"""Ways to predict the rows of a task from few labelled ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from funnelcast.boosting.stacked import Stacked, network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.evaluation.group_priors import OffsetPrior, RatePrior, recalibrated
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.evaluation.score import score
from funnelcast.fewshot.tasks import Logs, TaskOutput
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel
from funnelcast.training.adaptation import adapt
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.added_statistics import with_added


class Method(Protocol):
    """Many threads may call it at once."""

    def __call__(self, support: Columns, query: Columns) -> Logs:
        """Log p and log q (N,) of an output for the query rows; `support` has labels, and may be empty."""


@dataclass(frozen=True)
class Unadapted:
    """A trained model as it is."""

    model: Model
    target: TaskOutput
    keep_negatives: float = 1.0

    def __call__(self, support: Columns, query: Columns) -> Logs:
        return self.target.logs(*score(self.model, query, self.keep_negatives))

    def logits(self, rows: Columns) -> Floats:
        """(N,)."""
        log_p, log_q = self(rows, rows)
        return log_p - log_q


@dataclass(frozen=True)
class Adapted:
    """A trained network that takes steps on the support; trees next to it stay as they are."""

    model: Model
    starting: Starting
    config: Adapting
    target: TaskOutput
    seed: int = 0

    def __call__(self, support: Columns, query: Columns) -> Logs:
        model = self.model
        if len(support):
            network = self._adapted(network_of(model), support)
            model = model.over(network) if isinstance(model, Stacked) else network
        return Unadapted(model, self.target, self.starting.keep_negatives)(support, query)

    def _adapted(self, network: FunnelModel, support: Columns) -> FunnelModel:
        found = adapt(network, self.starting, Batch.of(support), self.config, self.seed)
        network = with_parameters(network, found.parameters)
        if found.statistics and network.statistics is not None:
            network.statistics.set(with_added(network.statistics.fitted, found.statistics))
        return network


@dataclass(frozen=True)
class Recalibrated:
    """A trained model with an offset of its logit, by the support rows that count."""

    unadapted: Unadapted
    prior: OffsetPrior

    @classmethod
    def fit(cls, unadapted: Unadapted, rows: Columns, groups: Array) -> Recalibrated:
        """With the prior of how `groups` (N,) of other rows differ."""
        counted = unadapted.target.space(rows)
        own = rows.take(np.flatnonzero(counted))
        prior = OffsetPrior.fit(unadapted.logits(own), unadapted.target.labels(own), groups[counted])
        return cls(unadapted, prior)

    def __call__(self, support: Columns, query: Columns) -> Logs:
        known = self.unadapted.target.counted(support)
        labels = self.unadapted.target.labels(known)
        return recalibrated(self.prior, self.unadapted.logits(known), labels, self.unadapted.logits(query))


@dataclass(frozen=True)
class SmoothedRate:
    """One probability for all rows of a task."""

    target: TaskOutput
    prior: RatePrior

    @classmethod
    def fit(cls, target: TaskOutput, rows: Columns, groups: Array) -> SmoothedRate:
        """With the prior of how `groups` (N,) of other rows differ."""
        counted = target.space(rows)
        return cls(target, RatePrior.fit(target.labels(target.counted(rows)), groups[counted]))

    def __call__(self, support: Columns, query: Columns) -> Logs:
        labels = self.target.labels(self.target.counted(support))
        rate = self.prior.smoothed(float(labels.sum()), len(labels))
        return np.full(len(query), np.log(rate)), np.full(len(query), np.log1p(-rate))


def with_parameters(model: FunnelModel, parameters: dict[str, Tensor]) -> FunnelModel:
    """Another model with some other parameters; all others are shared."""
    tensors: dict[int, Tensor] = {id(t): t for t in chain(model.parameters(), model.buffers())}
    tensors |= {id(p): nn.Parameter(parameters[name]) for name, p in model.named_parameters() if name in parameters}
    return copy.deepcopy(model, tensors)
