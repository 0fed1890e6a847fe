"""What rows tell of each step, and how much shorter that makes a step on few of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import undo_downsampling

UNMEASURED = 0.5**0.5
"""How much tasks are taken to differ where nothing says it: the standard deviation of a logit over them."""


def shrinkage(task: Sequence[float], trained: Sequence[float], prior: Sequence[float]) -> list[float]:
    """What each step's loss is multiplied by: I / (I + prior), over the same of a task in training (0 for none). There
    the prior counts as that of `UNMEASURED` at most, as training takes whole steps also where tasks do not differ."""
    assumed, found = UNMEASURED**-2, []
    for i, t, known in zip(task, trained, prior, strict=True):
        share = i / (i + known) if i else 0.0
        found.append(share * ((t + min(known, assumed)) / t if t else 1.0))
    return found


@torch.no_grad()
def information(model: FunnelModel, rows: Batch, keep_negatives: float = 1.0) -> list[float]:
    """Σ p (1 - p) of what the logit of each step is of: of the rows that reach its parent, or of all rows. Of weights w
    it is (Σ w p (1 - p))² / Σ w² p (1 - p), which their size does not change. `keep_negatives`: share of the rows
    without a first step that the model was trained on, as p is of all of them."""
    reach = model(rows.to(model.device))
    if keep_negatives < 1:
        reach = undo_downsampling(reach, model.parents, keep_negatives)
    log_p, own = reach.log_p.double().cpu(), []
    for t, parent in enumerate(model.logit_parents):
        given = log_p[:, parent] if parent >= 0 else torch.zeros(len(rows), dtype=torch.float64)
        p = (log_p[:, t] - given).clamp(max=0).exp()
        own.append(given.exp() * p * (1 - p))
    return _effective(torch.stack(own, 1), rows.weight)


def _effective(own: Tensor, weight: Tensor | None) -> list[float]:
    """(T,) of what each row tells (N, T)."""
    w = torch.ones(len(own), dtype=torch.float64) if weight is None else weight.double().cpu()
    total: list[float] = ((w @ own) ** 2 / (w**2 @ own).clamp(min=torch.finfo(torch.float64).tiny)).tolist()
    return total
