"""Reach from logits in one kernel, row by row: two dozen of torch's operations otherwise."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, inlined
from funnelcast.kernels.cpu.buffers import are_float32, arrays
from funnelcast.kernels.cpu.graph import launch

HALF: Final = np.float32(0.5)
ONE: Final = np.float32(1)
ZERO: Final = np.float32(0)


def reach(logits: Tensor, parents: tuple[int, ...]) -> Any:
    """`ops.reach`, without a gradient."""
    if not are_float32(logits) or (torch.is_grad_enabled() and logits.requires_grad):
        return NotImplemented
    log_p, log_q = torch.empty(logits.shape), torch.empty(logits.shape)
    launch(_reach, *arrays(logits.contiguous(), log_p, log_q), np.array(parents, np.int64))
    return log_p, log_q


@compiled_for_speed
def _reach(logits: Any, log_p: Any, log_q: Any, parents: Any) -> None:
    own_p, own_q, log_stop, p, stop = np.empty((5, logits.shape[1]), np.float32)
    for b in range(len(logits)):
        for t in range(len(parents)):
            reach_step(logits[b, t], t, parents[t], own_p, own_q, log_stop, p, stop)
            log_p[b, t], log_q[b, t] = own_p[t], own_q[t]


@inlined
def reach_step(x: Any, t: int, parent: int, log_p: Any, log_q: Any, log_stop: Any, p: Any, stop: Any) -> None:
    """Fill element t, of a step whose logit is x, of arrays (T,) by step: log p, log q, log τ, p and τ, with p and q
    the probabilities of having reached the step and not, and τ of not reaching it from its parent. The numerics are
    those of `ops.reach`."""
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
