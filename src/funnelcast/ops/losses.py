"""A cross-entropy per step over the entire space, from the logits of a funnel's steps. Shapes: B rows, T steps."""

from __future__ import annotations

import torch
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED
from funnelcast.ops.dispatch import op
from funnelcast.ops.reach import Reach, chain_reach


@op
def funnel_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, parents: tuple[int, ...], factors: Tensor | None,
    focal_gamma: float = 0.0,
) -> Tensor:  # fmt: skip
    """Return `step_losses` of `chain_reach`: logits (B, T) and parents (T,), -1 for a logit over all rows -> (T,)."""
    return step_losses(chain_reach(logits, parents), labels, weight, factors, focal_gamma)


def step_losses(
    reach: Reach, labels: Tensor, weight: Tensor | None, factors: Tensor | None = None, focal_gamma: float = 0.0
) -> Tensor:
    """Return the sums (T,) over rows of each step's cross-entropy, in nats.

    Those of microbatches add up to the batch's. Rows where a step is unobserved add nothing, and pass no gradient.

    Args:
        reach: (B, T).
        labels: (B, T) uint8 in {0, 1, UNOBSERVED}.
        weight: (B,) >= 0; none for 1 each.
        factors: (T,) on the losses of reached rows, or one for all; none for 1.
        focal_gamma: as of `errors`.
    """
    observed = labels != UNOBSERVED
    log_p, log_q = (torch.where(observed, log, 0.0) for log in reach)
    losses = torch.where(labels == 1, *errors(Reach(log_p, log_q), factors, focal_gamma))
    return (losses if weight is None else losses * weight[:, None]).sum(0)


def errors(reach: Reach, factors: Tensor | None, focal_gamma: float) -> tuple[Tensor, Tensor]:
    """Return the loss (B, T) of rows that reached each step, and that of rows that did not: -log p and -log q, times
    q^γ and p^γ with focal loss (Lin et al. 2017)."""
    if_reached, if_not = -reach.log_p, -reach.log_q
    if focal_gamma > 0:
        if_reached = if_reached * torch.exp(focal_gamma * reach.log_q)
        if_not = if_not * torch.exp(focal_gamma * reach.log_p)
    return if_reached if factors is None else if_reached * factors, if_not
