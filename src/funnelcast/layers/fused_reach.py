"""Reach from logits in one compiled pass, row by row: what `heads` makes of them by two dozen calls of PyTorch."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, inlined
from funnelcast.layers.heads import Reach
from funnelcast.layers.tape import perform

HALF: Final = np.float32(0.5)
ONE: Final = np.float32(1)
ZERO: Final = np.float32(0)


def fused_reach(logits: Tensor, parents: tuple[int, ...]) -> Reach:
    """`chain_reach` of logits (B, T) in float32 on the CPU, without derivatives; with -1 for every parent,
    `independent_reach`."""
    reach = Reach(torch.empty(logits.shape), torch.empty(logits.shape))
    numbers = (logits.detach().contiguous(), *reach)
    perform(follow_rows, *(tensor.numpy() for tensor in numbers), np.array(parents, np.int64))
    return reach


@compiled_for_speed
def follow_rows(logits: Any, log_p: Any, log_q: Any, parents: Any) -> None:
    """Fills `log_p` and `log_q` (B, T)."""
    own_p, own_q, log_stop, p, stop = np.empty((5, logits.shape[1]), np.float32)
    for b in range(len(logits)):
        for t in range(len(parents)):
            follow(logits[b, t], t, parents[t], own_p, own_q, log_stop, p, stop)
            log_p[b, t], log_q[b, t] = own_p[t], own_q[t]


@inlined
def follow(x: Any, t: int, parent: int, log_p: Any, log_q: Any, log_stop: Any, p: Any, stop: Any) -> None:
    """Fills number t, of a step whose logit is x, of arrays (T,) by step: log p, log q, log τ, p and τ, with p and q
    the probabilities of having reached the step and not, and τ of not reaching it from its parent; as `heads` does.
    """
    small = math.exp(-abs(x))
    rest = math.log1p(small)
    log_p[t], log_stop[t] = min(x, ZERO) - rest, min(-x, ZERO) - rest
    log_q[t] = log_stop[t]
    stop[t] = small / (ONE + small) if x >= 0 else ONE / (ONE + small)
    p[t] = ONE / (ONE + small) if x >= 0 else small / (ONE + small)
    if parent < 0:
        return
    log_p[t] += log_p[parent]
    p[t] *= p[parent]
    if p[t] > HALF:
        own = log_p[parent] + log_stop[t]
        most = max(log_q[parent], own)
        log_q[t] = most + math.log1p(math.exp(min(log_q[parent], own) - most))
    else:
        log_q[t] = math.log1p(-p[t])
