"""What adapting a network must know of its training, and how much the tasks of that training differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.table import Table
from funnelcast.evaluation.funnel import conditional
from funnelcast.evaluation.group_priors import OffsetPrior
from funnelcast.evaluation.rows import Array, Bools
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.models.base import Model
from funnelcast.schema.dataset import Schema
from funnelcast.serving.starting import inner_of
from funnelcast.training.adapting import Starting
from funnelcast.training.information import UNMEASURED
from funnelcast.training.stages import Meta
from funnelcast.training.trainer import Trainer


def starting_of(experiment: Experiment, table: Table, trainer: Trainer, train: Columns, kept: float) -> Starting:
    """`trainer`: when it has run; `train`: the training rows as it read them; `kept`: share of them that were used."""
    model, inner = trainer.model, inner_of(experiment.stages)
    weights: list[float] = (trainer.loss_weights.task_weights() / trainer.loss_weights.scale).tolist()
    information, differ = [0.0] * len(weights), list[float]()
    if isinstance(inner, Meta):
        rates = [rate / kept for rate in table.label_rates("train")]
        parents = model.logit_parents
        rows = _support_rows(inner, experiment.optimizer.batch_rows(table.rows("train")), trainer, kept)
        information = [rows * own for own in information_of_rates(rates, parents)]
        if inner.by is not None and not _is_read(table.schema, inner.by):
            assert trainer.keys is not None
            keys = trainer.keys(inner.by)
            differ = differences(model, train, *keys, parents, experiment.keep_negatives)
    factors = dict(zip(model.groups(inner.groups), _rates(trainer.best), strict=False)) if inner is not None else {}
    return Starting(experiment.loss, weights, inner, information, factors, differ, experiment.keep_negatives)


def _is_read(schema: Schema, column: str) -> bool:
    """Whether a network reads a column: then it knows what the tasks of training differ by."""
    return any(column in (name, feature.column) for name, feature in schema.features.items())


def information_of_rates(rates: Sequence[float], parents: Sequence[int]) -> list[float]:
    """Σ p (1 - p) of a row, by the rates (T,) of the steps: of p given the step before, among rows that reached it."""
    found = []
    for rate, parent in zip(rates, parents, strict=True):
        reached = rates[parent] if parent >= 0 else 1.0
        p = min(rate / reached, 1.0) if reached else 0.0
        found.append(0.0 if math.isnan(reached * p) else reached * p * (1 - p))
    return found


def _support_rows(meta: Meta, batch_size: int, trainer: Trainer, kept: float) -> float:
    """Those of a task, in the mean over the tasks that are drawn."""
    most, share = batch_size // meta.tasks, meta.support_share if meta.by is not None else 0.5
    share = 1.0 if meta.order == "reptile" else share
    if meta.by is None:
        return most * share
    assert trainer.keys is not None
    keys, known = trainer.keys(meta.by)
    sizes = np.unique(keys[known], return_counts=True)[1]
    sizes = sizes[sizes >= meta.min_rows]
    chances = sizes if meta.sampling == "proportional" else np.ones_like(sizes)
    return share * float(np.average(np.minimum(kept * sizes, most), weights=chances))


def _rates(state: dict[str, Tensor]) -> list[Tensor]:
    """The learned factors of a trainer's state, in their order; none where the last stage has none."""
    return [state[f"rates.{i}"] for i in range(len(state)) if f"rates.{i}" in state]


ROWS, LEAST = 500_000, 50
"""At most so many rows of whole tasks are looked at; with fewer positives a step is not measured."""


def differences(
    model: Model, rows: Columns, keys: Array, known: Bools, parents: Sequence[int], keep_negatives: float = 1.0
) -> list[float]:
    """(T,) of what the logit of each step is of, given its parent or not. `keys`, `known` (N,): of the tasks."""
    chosen = _whole_tasks(keys, known)
    rows, keys = rows.take(chosen), keys[chosen]
    assert rows.labels is not None
    (log_p, log_q), labels = score(model, rows, keep_negatives), rows.labels
    found = []
    for t, parent in enumerate(parents):
        counted = labels[:, t] != UNOBSERVED
        own, rest = log_p[:, t].astype(np.float64), log_q[:, t].astype(np.float64)
        if parent >= 0:
            counted &= labels[:, parent] == 1
            own, rest, _ = conditional(own, log_p[:, parent])
        reached = labels[counted, t]
        enough = min(int(reached.sum()), len(reached) - int(reached.sum())) >= LEAST
        prior = OffsetPrior.fit((own - rest)[counted], reached, keys[counted]) if enough else None
        found.append(UNMEASURED if prior is None else prior.std)
    return found


def _whole_tasks(keys: Array, known: Bools) -> Array:
    """The rows of as many tasks as make up ROWS, drawn at random: at least those of one."""
    own = np.flatnonzero(known)
    _, inverse, counts = np.unique(keys[own], return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(counts))
    taken = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), ROWS, side="right")))]
    return own[np.isin(inverse, taken)]
