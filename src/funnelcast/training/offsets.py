"""What few rows tell of an offset of each logit: the peak of its posterior, by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from funnelcast.data.columns import UNOBSERVED
from funnelcast.models.network import FunnelModel
from funnelcast.training.inner import Rows, Tensors

STEPS, CLOSE, LEAST = 60, 1e-6, 1e-3
"""LEAST: of the prior, without which rows of one class would have no peak."""


def offsets(
    logits: Tensor, labels: Tensor, parents: Sequence[int], prior: Sequence[float], weight: Tensor | None = None
) -> Tensor:
    """(T,) float64: of a logit that counts for the rows that reached the step's parent, -1 for all of them.

    logits, labels (N, T); prior (T,): 1 / variance of an offset, infinite where there is none; weight (N,). Weights
    count as `information` has it: their size does not.
    """
    own, known = labels != UNOBSERVED, torch.tensor(prior, dtype=torch.float64, device=logits.device)
    columns = [own[:, t] & (labels[:, p] == 1) if p >= 0 else own[:, t] for t, p in enumerate(parents)]
    counted = torch.stack(columns, 1).double() * (1 if weight is None else weight.double()[:, None])
    x, y, is_free = logits.double(), (labels == 1).double(), known.isfinite()
    information = counted * torch.sigmoid(x) * torch.sigmoid(-x)
    counted = counted * information.sum(0) / (counted * information).sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    known, offset = torch.where(is_free, known, 1.0).clamp(min=LEAST), torch.zeros_like(known)
    for _ in range(STEPS):
        p = torch.sigmoid(x + offset)
        slope = (counted * (y - p)).sum(0) - known * offset
        step = (slope / ((counted * p * (1 - p)).sum(0) + known)).clamp(-1, 1) * is_free
        offset = offset + step
        if step.abs().max() < CLOSE:
            break
    return offset


class Logits(nn.Module):
    """Those of a network."""

    def __init__(self, model: FunnelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Rows) -> Tensor:
        """(B, T)."""
        with self.model.compute():
            return self.model.logits(rows.x)

    @torch.no_grad()
    def under(self, names: Sequence[str], leaves: Tensors, rows: Rows, size: int) -> Tensor:
        """With `leaves` in the place of parameters `names`, `size` rows at once."""
        parameters = dict(zip(names, leaves, strict=True))
        chunks = (rows.slice(start, min(start + size, len(rows.batch))) for start in range(0, len(rows.batch), size))
        return torch.cat([functional_call(self, parameters, (chunk,)) for chunk in chunks])
