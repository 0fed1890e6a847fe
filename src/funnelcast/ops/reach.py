"""Reach, the one thing that every model ends in, and the heads that make it of the towers' logits.

The numerics hold to a relative error of 1e-6 in float32, with finite first and second derivatives, for logits to ±1e4.
Where p > 1/2, q is summed from its parts in log space; elsewhere it is 1 - p with p as a product of probabilities:
exp(log p) would lose |log p| units in the last place. Each form gets harmless inputs in the rows where the other holds,
for an infinite derivative times a mask of zero is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from funnelcast.ops.dispatch import op

LEAST_COMPLEMENT: Final = 1e-7
"""Of the probability of a step given its parent, where that is told from two float32."""


class Reach(NamedTuple):
    """Log-probabilities over the entire space, each at most 0 and each accurate on its own."""

    log_p: Tensor  # (B, T) of having reached each step
    log_q: Tensor  # (B, T) of not having reached it


Head = Callable[[Tensor, tuple[int, ...]], Reach]
"""(logits (B, T), parents) -> Reach. `parents[t] < t` is the step before step t, -1 where there is none."""


@op
def reach(logits: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return log p and log q of `chain_reach` of logits (B, T), without a gradient where a kernel makes them."""
    return chain_reach(logits, parents)


def chain_reach(logits: Tensor, parents: tuple[int, ...]) -> Reach:
    """Each logit is of a step given its parent, reach is the product along the path: pCTCVR = pCTR · pCVR (eq. 1).

    `log_p` never rises along an edge, in any rounding: a child's is its parent's plus a number that is at most 0.
    """
    log_given, log_stop, given = logsigmoid(logits), logsigmoid(-logits), torch.sigmoid(logits)
    log_p, log_q, p = [], [], []
    for step, parent in enumerate(parents):
        if parent < 0:
            log_p.append(log_given[:, step])
            log_q.append(log_stop[:, step])
            p.append(given[:, step])
        else:
            log_p.append(log_p[parent] + log_given[:, step])
            p.append(p[parent] * given[:, step])
            log_q.append(_log_complement(p[step], log_q[parent], log_p[parent] + log_stop[:, step]))
    return Reach(torch.stack(log_p, 1), torch.stack(log_q, 1))


def independent_reach(logits: Tensor, parents: tuple[int, ...]) -> Reach:
    """Each logit is of a step over the entire space, whatever the parents; reach may rise along an edge."""
    return Reach(logsigmoid(logits), logsigmoid(-logits))


HEADS: Final[dict[Literal["chain", "independent"], Head]] = {"chain": chain_reach, "independent": independent_reach}


def undo_downsampling(reach: Reach, parents: tuple[int, ...], keep: float) -> Reach:
    """Reach over all rows, from a model trained where rows without the first step were kept with probability `keep`.

    With k = keep and p, q of the first step among the kept rows, Bayes' rule multiplies its odds p/q by k, that is
    p' = f · p with 1/f = p + q/k. Every later step lies inside the first, whose rows were all kept: its reach shrinks
    by the same f, and its probability given its parent is unchanged. Exact for both heads, as the draw looks at nothing
    but that label.

    Raises ValueError if `keep` is not in (0, 1], or the funnel has not exactly one first step.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}; a probability of keeping a row lies in (0, 1]")
    if parents.count(-1) != 1:
        raise ValueError(f"parents {parents} have {parents.count(-1)} first steps; undoing downsampling needs one")
    if keep == 1:
        return reach
    root = parents.index(-1)
    log_q_root = reach.log_q[:, root : root + 1]
    dropped = (1 - keep) / keep  # rows per row kept
    excess = dropped * log_q_root.exp()  # 1/f - 1
    log_f = -torch.log1p(excess)
    p = -torch.expm1(reach.log_q) / (1 + excess)
    # 1 - f · p = f · q + (1 - f), and 1 - f = f · excess
    log_q = _log_complement(p, log_f + reach.log_q, log_f + log_q_root + math.log(dropped))
    return Reach(reach.log_p + log_f, log_q)


def logits_given_parent(reach: Reach, parents: tuple[int, ...]) -> Tensor:
    """(B, T) float64: log odds of each step among the rows that reached its parent, among all rows where it has none.

    A step that is likelier than its parent, as an independent head may say, counts as likely as float32 tells from it.
    """
    log_p, log_q = reach.log_p.double(), reach.log_q.double()
    columns = []
    for step, parent in enumerate(parents):
        if parent < 0:
            columns.append(log_p[:, step] - log_q[:, step])
        else:
            log_given = (log_p[:, step] - log_p[:, parent]).clamp(max=-LEAST_COMPLEMENT)
            near = torch.log(-torch.expm1(log_given))
            columns.append(log_given - torch.where(log_given > -math.log(2), near, torch.log1p(-log_given.exp())))
    return torch.stack(columns, 1)


def _log_complement(p: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """log(1 - p), where 1 - p = a + b."""
    near_one = p > 0.5
    summed = _logaddexp(torch.where(near_one, log_a, 0.0), torch.where(near_one, log_b, 0.0))
    return torch.where(near_one, summed, torch.log1p(-torch.where(near_one, 0.0, p)))


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(exp a + exp b) with its second derivative at any distance and at a = b; torch.logaddexp's overflows."""
    first = a >= b
    larger, smaller = torch.where(first, a, b), torch.where(first, b, a)
    return larger + torch.log1p(torch.exp(smaller - larger))
