"""Whether steps pull shared parameters the same way: cosines between the gradients of their losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funnelcast.data.loader import Loader
from funnelcast.evaluation.paired import mean_interval
from funnelcast.models.network import GROUPS
from funnelcast.training.objective import Microbatch, Objective

BATCHES = 12


def conflict(objective: Objective, loader: Loader, steps: tuple[str, ...]) -> list[dict[str, Any]]:
    """By pair of steps and group of layers: the mean cosine over batches of training rows, with its 95 % interval.

    Counted are the numbers that both losses have a gradient by, so what the two steps share; groups without any are
    left out. 1: they agree, 0: they do not meet, under 0: what helps one harms the other.
    """
    found: dict[tuple[int, int, str], list[float]] = {}
    batches = loader.epoch(0)
    for _, batch in zip(range(BATCHES), batches, strict=False):
        by_step = _gradients(objective, batch.to(objective.model.device), len(steps))
        for a, b in combinations(range(len(steps)), 2):
            cosines = {group: _cosine(by_step[a][group], by_step[b][group]) for group in by_step[a]}
            every = [[gradient for group in own.values() for gradient in group] for own in (by_step[a], by_step[b])]
            for group, cosine in {**cosines, "all shared": _cosine(*every)}.items():
                found.setdefault((a, b, group), []).append(cosine)
    return [each for key, cosines in found.items() if (each := _conflict(steps, key, cosines))]


def _conflict(steps: tuple[str, ...], key: tuple[int, int, str], cosines: list[float]) -> dict[str, Any] | None:
    mean = mean_interval(np.array(cosines, np.float64))
    if math.isnan(mean.estimate):
        return None
    a, b, group = key
    ends = {"low": max(-1.0, mean.low), "high": min(1.0, mean.high)}
    bounds = {name: None if math.isnan(mean.low) else value for name, value in ends.items()}
    return {"a": steps[a], "b": steps[b], "group": group, "cosine": mean.estimate, **bounds, "batches": len(cosines)}


def _gradients(objective: Objective, batch: Any, steps: int) -> list[dict[str, list[Tensor]]]:
    """Of each step's loss, by group of layers. The embedding's is that of the looked-up numbers."""
    model, batch = objective.model, objective.labelled(batch)
    with torch.no_grad():
        looked = model.embedding(batch)
    x = looked.leaves(trained=True)
    losses, _ = objective(Microbatch(x, batch.labels, batch.weight, objective.totals(batch)))
    groups = {name: list(model.groups([name]).values()) for name in GROUPS if name != "embedding"}
    named: dict[str, Sequence[Tensor]] = {"embedding": x.tensors(), **{n: p for n, p in groups.items() if p}}
    found = []
    for t in range(steps):
        own = {}
        for name, tensors in named.items():
            grads = torch.autograd.grad(
                losses[t], tensors, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            own[name] = [grad.detach() for grad in grads]
        found.append(own)
    return found


def _cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Over the numbers where neither is 0; NaN if there are none."""
    both = [(x != 0) & (y != 0) for x, y in zip(a, b, strict=True)]
    inner, one, other = (
        sum(float((left * right * where).sum()) for left, right, where in zip(first, second, both, strict=True))
        for first, second in ((a, b), (a, a), (b, b))
    )
    return inner / math.sqrt(one * other) if one > 0 and other > 0 else math.nan
