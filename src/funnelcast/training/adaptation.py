"""Adapting a trained network to few rows: offsets and inner steps, as far as held-out rows are better for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.loader import generator_of
from funnelcast.models.network import FunnelModel
from funnelcast.runtime.subnormals import flush_to_zero
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.adapting_path import Run
from funnelcast.training.added_statistics import Added
from funnelcast.training.overlay import NewIds


@dataclass(frozen=True)
class Adapted:
    """The outcome."""

    parameters: dict[str, Tensor]
    """The adapted ones by name; empty where none helped."""
    steps: int
    """That were taken."""
    losses: list[float]
    """Held-out loss after 0, 1, … steps: mean over the rows of the weighted sum over the funnel's steps."""
    statistics: dict[str, Added] = field(default_factory=dict)
    """By category, what the rows add to the target statistics of the model; empty where that did not help."""
    statistics_loss: float | None = None
    """Held-out loss after the steps with these."""
    alike: bool = False
    """Whether no step was tried, as the tasks of training do not differ."""
    new: dict[str, Tensor] = field(default_factory=dict)
    """(U, E) by vocabulary: what is added to its row of unknown ids for the new ids 1 … U."""


@flush_to_zero()
def adapt(
    model: FunnelModel, starting: Starting, rows: Batch, config: Adapting, seed: int = 0, new: NewIds | None = None
) -> Adapted:
    """Adapt to `rows`, labelled; the model stays as it is.

    While parameters adapt, rows read the model's own target statistics, which hold no label of theirs. Whether those of
    the rows are added then is decided by rows held out. `seed`: of the order in which rows are held out; `new`: their
    ids that the model takes for unknown. Raises FunnelcastError where the model has nothing that adapts.
    """
    run, given = Run.of(model, starting, config, new), rows
    rows, judge = run.as_trained(rows), run.loop(starting.weights)
    if all(map(math.isinf, run.prior)):
        whole = run.look_up(rows, torch.ones(len(rows), dtype=torch.bool))
        loss = judge.losses(run.lookup.rows(whole, run.lookup.nothing()), judge.start)[1]
        return Adapted({}, 0, [float(loss)], alike=True)
    totals, with_added, size = torch.zeros(run.most + 1), torch.zeros(run.most + 1), 0.0
    for held in _folds(rows, config.folds, seed):
        known, query = run.look_up(rows, ~held), run.look_up(rows, held)
        path = run.path(known)[1]
        losses = [judge.losses(run.lookup.rows(query, at.new), at.leaves)[1] for at in path]
        weight = float(len(query.batch) if query.batch.weight is None else query.batch.weight.sum())
        totals, size = totals + weight * torch.stack(losses).cpu(), size + weight
        if (added := run.added(given.take(torch.nonzero(~held).squeeze(1)))) is not None:
            query = run.with_added(query, added)
            losses = [judge.losses(run.lookup.rows(query, at.new), at.leaves)[1] for at in path]
            with_added += weight * torch.stack(losses).cpu()
    means = (totals / size).tolist() if size else [0.0]
    steps = means.index(min(means))
    added = run.added(given) if size and with_added[steps] < totals[steps] else None
    with_loss = None if not added else float(with_added[steps] / size)
    if not steps:
        return Adapted({}, 0, means, statistics=added or {}, statistics_loss=with_loss)
    loop, path = run.path(run.look_up(rows, torch.ones(len(rows), dtype=torch.bool)), steps)
    names = [name.removeprefix("model.") for name in loop.names]
    parameters = dict(zip(names, [leaf.detach() for leaf in path[-1].leaves], strict=True))
    return Adapted(parameters, steps, means, added or {}, with_loss, new=run.lookup.named(path[-1].new))


def _folds(rows: Batch, folds: int, seed: int) -> list[Tensor]:
    """Masks (N,) of the rows that are held out together; each has its share of the rows that went deep."""
    assert rows.labels is not None
    order = torch.randperm(len(rows), generator=generator_of(seed, "folds"))
    depth = (rows.labels[order] == 1).sum(1)
    order = order[torch.argsort(depth, stable=True)]
    fold = torch.empty(len(rows), dtype=torch.int64)
    fold[order] = torch.arange(len(rows)) % folds
    return [fold == i for i in range(min(folds, len(rows)))]
