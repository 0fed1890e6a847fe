"""A step's loss over the rows that reached the step before, corrected to stand for all rows.

Rows that reached a step are no random choice of rows. With e(y) the error of a row whose child step is y, o whether it
reached the parent, p its predicted probability of that, s = Σ o / Σ 1 the share that did, and M the largest weight:

    none:           Σ o e(y) / Σ o
    ipw:            Σ o w e(y) / Σ o,                      w = s / max(p, s / M)
    doubly_robust:  Σ ê / Σ 1 + Σ o w (e(y) - ê) / Σ o,    ê = r e(1) + (1 - r) e(0)

Where p is right, E[o w / s] = 1 for every row that is not clipped: weights have mean 1 over the rows that reached the
parent, and what is minimised is the loss over all rows, as if the child were seen in each. s is known before a batch is
cut, so the microbatches' sums add up to the batch's; a mean of the weights themselves would not. ESCM²-IPW and ESCM²-DR
(Wang et al. 2022) are `loss_space = "both"` with these.

r is the imputed probability of the child, σ((1 + a) z + b + c log(p / (1 - p))), from the network's logit z and its log
odds of the parent: a, b and c are learned, per step, from 0, to make the variance of the second term's gradient least
(MRDR, Guo et al. 2021), which for cross-entropy is Σ o w² (1 - p) (r - y)² up to a factor. The network's own
prediction, r = σ(z), would do nothing: ê has no gradient then, and what is left is ipw's. What the head adds is how the
logits err on the rows that were seen. The mean is right if p is, or if r is.

Detached are p and r in the loss of the network, so that no probability is bent to make a loss small, and z and p in the
loss of the head.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED
from funnelcast.ops import chain_reach, errors, independent_reach
from funnelcast.training.losses import LossConfig, given_parent, observed_weight


class Selected(NamedTuple):
    """Of a whole batch, (T,) each, by weight and above 0. A first step has every row for its parent."""

    reached: Tensor
    """Rows that reached the parent and have the step observed."""
    known: Tensor
    """Rows where the parent was observed."""
    share: Tensor
    """s."""

    @classmethod
    def of(cls, labels: Tensor, weight: Tensor | None, parents: tuple[int, ...]) -> Selected:
        """Labels (B, T), over all rows."""
        of_parents, dtype = _of_parents(labels, parents), torch.float32 if weight is None else weight.dtype
        tiny = torch.finfo(torch.float32).tiny
        of_reached = torch.where(of_parents == 1, of_parents, UNOBSERVED)
        spaces = given_parent(labels, parents), of_parents, of_reached
        counts = (observed_weight(each, weight).to(dtype) for each in spaces)
        seen, known, reached = (count.clamp(min=tiny) for count in counts)
        return cls(seen, known, reached / known)


def selected_losses(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    parents: tuple[int, ...],
    config: LossConfig,
    whole: Selected,
    factors: Tensor | None = None,
    members: int = 1,
    imputing: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """A microbatch's part in each step's loss (T,), and in that of the imputation, a scalar.

    logits (B × K, T) given the parent, of K members; labels (B × K, T) over all rows; weight (B × K,) or none;
    factors (T,) on the losses of reached rows; imputing (3, T): a, b, c of doubly_robust.
    """
    given = given_parent(labels, parents)
    observed, is_child = given != UNOBSERVED, given == 1
    if_reached, if_not = errors(independent_reach(logits, parents), factors, config.focal_gamma)
    losses = torch.where(is_child, if_reached, if_not)
    rows = torch.ones_like(logits[:, :1]) if weight is None else weight[:, None]
    if config.correction == "none":
        return (rows * torch.where(observed, losses, 0.0)).sum(0) / (members * whole.reached), None
    reach = _mean(chain_reach(logits.detach(), parents).log_p.exp(), members)
    p = _clipped(_of_parents(reach, parents), whole.share, config.largest_weight)
    weights = torch.where(observed, whole.share / p, 0.0)
    if imputing is None:
        return (rows * weights * losses).sum(0) / (members * whole.reached), None
    has_parent = torch.tensor([parent >= 0 for parent in parents], device=logits.device)
    slope, shift, by_odds = imputing
    odds = torch.logit(p.clamp(max=1 - 1e-6), eps=1e-6)
    r = torch.sigmoid((1 + slope) * logits.detach() + shift + by_odds * odds)
    # r e(1) + (1 - r) e(0), as r e(1) may be 0 · ∞ in its derivative by r, of which none is needed
    imputed = torch.where(has_parent, torch.lerp(if_not, if_reached, r.detach()), 0.0)
    known = _of_parents(labels, parents) != UNOBSERVED
    total = (rows * torch.where(known, imputed, 0.0)).sum(0) / whole.known
    total = total + (rows * weights * (losses - imputed)).sum(0) / whole.reached
    variance = weights.square() * (1 - p) * (r - is_child.to(r.dtype)).square()
    of_head = ((rows * torch.where(has_parent, variance, 0.0)).sum(0) / whole.reached).sum()
    return total / members, of_head / members


def effective_shares(
    log_p: NDArray[np.float32],
    labels: NDArray[np.uint8],
    weight: NDArray[np.float32] | None,
    parents: tuple[int, ...],
    largest: float,
) -> list[float | None]:
    """Kish's effective sample size under the weights of ipw, (Σ w)² / Σ w², over the number of rows that count for each
    step given its parent; none for a first step, or without such rows. log_p (N, T) of having reached each step."""
    own, rows = torch.from_numpy(labels), None if weight is None else torch.from_numpy(weight)
    p = _of_parents(torch.from_numpy(log_p).double().exp(), parents)
    weights = (1 if rows is None else rows[:, None]) / _clipped(p, Selected.of(own, rows, parents).share, largest)
    weights = torch.where(given_parent(own, parents) != UNOBSERVED, weights, 0.0)
    counted = (weights > 0).sum(0)
    shares = (weights.sum(0).square() / weights.square().sum(0) / counted).tolist()
    return [share if parent >= 0 and n else None for share, parent, n in zip(shares, parents, counted, strict=True)]


def _of_parents(values: Tensor, parents: tuple[int, ...]) -> Tensor:
    """(B, T) each step's parent's; 1 for a first step, whose rows are all there."""
    ones = torch.ones_like(values[:, 0])
    return torch.stack([ones if parent < 0 else values[:, parent] for parent in parents], 1)


def _clipped(p: Tensor, share: Tensor, largest: float) -> Tensor:
    return torch.maximum(p, share / largest).clamp(min=torch.finfo(torch.float32).tiny)


def _mean(p: Tensor, members: int) -> Tensor:
    """Probabilities (B × K, T) in the mean over members, which is what the model predicts."""
    return p if members == 1 else p.unflatten(0, (-1, members)).mean(1).repeat_interleave(members, 0)
