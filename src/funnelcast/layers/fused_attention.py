"""Attention along the edges of a funnel, as one hand-written autograd function around compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.layers.calls import Wanted, addresses, size_of_panels
from funnelcast.layers.fused import wanted_of
from funnelcast.layers.halves import pairs
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.kernels_attention import attend, attend_back
from funnelcast.layers.mode import Mode
from funnelcast.layers.products import turned_room
from funnelcast.layers.records import ATTENTION, EDGE, TARGET
from funnelcast.layers.tape import perform
from funnelcast.layers.workspace import Lease, lease_for

Records = NDArray[np.void]


class Plan(NamedTuple):
    """Who hears of whom."""

    targets: tuple[int, ...]
    """Steps with edges into them, in their order."""
    ends: tuple[int, ...]
    """By target how many edges lead into it or into one before it."""
    sources: tuple[int, ...]
    """By edge."""


class Forward:
    """The way forward, done."""

    def __init__(self, x: Tensor, plan: Plan, parameters: Sequence[Tensor], *, half: bool, keep: bool) -> None:
        """x (T, B, H); `parameters`: by edge W (out, in) and b (H,), then by target S (in, out) and V (out, in);
        `keep`: whether there will be a gradient."""
        by_edge, by_target = parameters[: 2 * len(plan.sources)], parameters[2 * len(plan.sources) :]
        self.out, self.call = torch.empty_like(x), np.zeros(1, ATTENTION)
        self.targets, self.edges = np.zeros(len(plan.targets), TARGET), np.zeros(len(plan.sources), EDGE)
        self.call["steps"], self.call["rows"], self.call["width"] = x.shape
        self.call["x"], self.call["out"] = x.data_ptr(), self.out.data_ptr()
        self.call["half"], self.call["keep"] = half, keep
        self.targets["step"], self.targets["last"], self.edges["source"] = plan.targets, plan.ends, plan.sources
        self.targets["first"][1:] = plan.ends[:-1]
        self.edges["weight"], self.edges["bias"] = addresses(by_edge[0::2]), addresses(by_edge[1::2])
        self.targets["score"], self.targets["value"] = addresses(by_target[0::2]), addresses(by_target[1::2])
        self.lease = self._make_room(x.shape[1] if keep else BLOCK, x.shape[2])
        _run(attend, self.call, self.targets, self.edges)

    def _make_room(self, rows: int, width: int) -> Lease:
        """For what targets and edges keep."""
        edges, tokens = len(self.edges), (self.targets["last"] - self.targets["first"] + 1).tolist()
        sizes = [rows * width] * (2 * edges + 2 * len(tokens)) + [rows * each for each in tokens]
        lease = lease_for(sizes)
        places = lease.places(sizes)
        self.edges["told"], self.edges["scored"] = places[:edges], places[edges : 2 * edges]
        of_targets = np.array(places[2 * edges :]).reshape(3, -1)
        self.targets["scored"], self.targets["mixed"], self.targets["shares"] = of_targets
        return lease


def _run(loop: Any, call: Records, targets: Records, edges: Records, scratch: int = 0) -> None:
    """Runs a loop with the spaces that it needs; `scratch`: numbers in that."""
    width, matrices = int(call["width"][0]), len(edges) + 2 * len(targets)
    paired = max(BLOCK, width) * pairs(width) if call["half"][0] else 0
    sizes = [matrices * size_of_panels(width, width), turned_room(width, BLOCK), paired, paired, scratch]
    lease = lease_for(sizes)
    call["packed"], call["room"], call["paired"], last, call["scratch"] = lease.places(sizes)
    call["paired_step"] = last - call["paired"]
    perform(loop, call, targets, edges)


class FusedAttention(torch.autograd.Function):
    """x (T, B, H), in float32 on the CPU, and parameters as of `Forward` -> (T, B, H); once differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, half: bool, wanted: Wanted, *parameters: Tensor) -> Tensor:
        done = Forward(x, plan, parameters, half=half, keep=True)
        ctx.records, ctx.lease, ctx.wanted = (done.call, done.targets, done.edges), done.lease, wanted
        ctx.save_for_backward(x, done.out, *parameters)
        return done.out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedAttention has no second derivative; ask for it by Mode(again=…)")
        call, targets, edges = (each.copy() for each in ctx.records)  # a tape still has those of the way forward
        x, _, *parameters = ctx.saved_tensors
        make = torch.empty_like if x.shape[1] else torch.zeros_like  # a sum over no rows is never written
        grads = [make(p) if ctx.wanted.parameters else None for p in parameters]
        by_edge, by_target = grads[: 2 * len(edges)], grads[2 * len(edges) :]
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        call["grad"], call["grad_x"] = grad.data_ptr(), grad_x.data_ptr()
        edges["grad_weight"], edges["grad_bias"] = addresses(by_edge[0::2]), addresses(by_edge[1::2])
        targets["grad_score"], targets["grad_value"] = addresses(by_target[0::2]), addresses(by_target[1::2])
        _run(attend_back, call, targets, edges, BLOCK * (4 * x.shape[2] + 1 + len(edges)))
        by_edge[0::2], by_target[1::2] = _turned(by_edge[0::2]), _turned(by_target[1::2])
        return grad_x, None, None, None, *by_edge, *by_target


def _turned(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Loops make all as (in, out)."""
    return [None if grad is None else grad.t() for grad in grads]


def fused_attention(x: Tensor, plan: Plan, parameters: Sequence[Tensor], mode: Mode) -> Tensor:
    """`FusedAttention` of these, with the derivatives that `mode` asks for, but for a second one."""
    x, parameters = x.contiguous(), [p.contiguous() for p in parameters]
    if not torch.is_grad_enabled():
        return Forward(x, plan, parameters, half=mode.half, keep=False).out
    wanted = wanted_of(x, parameters, mode.wanted)
    out: Tensor = FusedAttention.apply(x, plan, mode.half, wanted, *parameters)  # type: ignore[no-untyped-call]
    return out
