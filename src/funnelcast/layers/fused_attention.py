"""Attention along the edges of a funnel, as one hand-written autograd function around compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.layers.calls import Wanted, addresses, size_of_panels
from funnelcast.layers.fused import begin_twice, wanted_of
from funnelcast.layers.halves import pairs
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.kernels_attention import attend, attend_back
from funnelcast.layers.kernels_attention_twice import attend_along, attend_twice
from funnelcast.layers.mode import Mode
from funnelcast.layers.products import turned_room
from funnelcast.layers.records import ATTENTION, EDGE, TARGET
from funnelcast.layers.tape import perform
from funnelcast.layers.workspace import Lease, lease_for


class Plan(NamedTuple):
    """Who hears of whom."""

    targets: tuple[int, ...]
    """Steps with edges into them, in their order."""
    ends: tuple[int, ...]
    """By target how many edges lead into it or into one before it."""
    sources: tuple[int, ...]
    """By edge."""


class Job(NamedTuple):
    """What a pass is asked for."""

    wanted: Wanted
    half: bool = False
    """Whether products are of bfloat16; then there is one derivative."""
    again: Wanted | None = None
    """What the gradient is by that will be differentiated once more; none for one derivative."""


class Records(NamedTuple):
    """What loops are told."""

    call: NDArray[np.void]
    targets: NDArray[np.void]
    edges: NDArray[np.void]

    def copy(self) -> Records:
        """As a tape still has those of before."""
        return Records(*(each.copy() for each in self))

    def put(self, name: str, tensors: Sequence[Tensor | None]) -> None:
        """Tensors like the parameters, as their `name`d ones."""
        by_edge, by_target = tensors[: 2 * len(self.edges)], tensors[2 * len(self.edges) :]
        self.edges[f"{name}weight"], self.edges[f"{name}bias"] = addresses(by_edge[0::2]), addresses(by_edge[1::2])
        self.targets[f"{name}score"] = addresses(by_target[0::2])
        self.targets[f"{name}value"] = addresses(by_target[1::2])

    def turned(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Tensors like the parameters as (in, out), in which loops make gradients; and from that back."""
        outward = range(0, 2 * len(self.edges), 2), range(2 * len(self.edges) + 1, len(tensors), 2)
        each = enumerate(tensors)
        return [t.t() if t is not None and any(i in places for places in outward) else t for i, t in each]

    def make_room(self, of_edges: Sequence[str], of_targets: Sequence[str], shares: str, rows: int) -> Lease:
        """For (B, H) of each edge and of each target, and for `shares` (tokens, B), of B = `rows`."""
        size, tokens = rows * int(self.call["width"][0]), (self.targets["last"] - self.targets["first"] + 1).tolist()
        names = [(self.edges, name) for name in of_edges] + [(self.targets, name) for name in of_targets]
        sizes = [size for records, _ in names for _ in records] + [rows * each for each in tokens]
        lease = lease_for(sizes)
        places = iter(lease.places(sizes))
        for records, name in [*names, (self.targets, shares)]:
            records[name] = list(islice(places, len(records)))
        return lease

    def run(self, loop: Any, *, back: bool = True, twice: bool = False) -> None:
        """Runs a loop with the spaces that it needs; `twice`: with all `turn_…`."""
        width, matrices = int(self.call["width"][0]), len(self.edges) + 2 * len(self.targets)
        paired = max(BLOCK, width) * pairs(width) if self.call["half"][0] else 0
        packed, scratch = matrices * size_of_panels(width, width), BLOCK * (5 * width + 3 * (1 + len(self.edges)))
        sizes = [packed, packed * twice, turned_room(width, BLOCK), paired, paired, scratch * back]
        call, lease = self.call, lease_for(sizes)
        call["packed"], call["turn_packed"], call["room"], call["paired"], last, call["scratch"] = lease.places(sizes)
        call["paired_step"] = last - call["paired"]
        perform(loop, *self)


def forward(
    x: Tensor, plan: Plan, parameters: Sequence[Tensor], *, half: bool, keep: bool
) -> tuple[Tensor, Records, Lease]:
    """Of x (T, B, H), new vectors like it, and what their gradient needs; `parameters`: by edge W (out, in) and b (H,),
    then by target S (in, out) and V (out, in); `keep`: whether there will be a gradient."""
    out = torch.empty_like(x)
    records = Records(np.zeros(1, ATTENTION), np.zeros(len(plan.targets), TARGET), np.zeros(len(plan.sources), EDGE))
    call, targets, edges = records
    call["steps"], call["rows"], call["width"] = x.shape
    call["x"], call["out"], call["half"], call["keep"] = x.data_ptr(), out.data_ptr(), half, keep
    targets["step"], targets["last"], edges["source"] = plan.targets, plan.ends, plan.sources
    targets["first"][1:] = plan.ends[:-1]
    records.put("", parameters)
    lease = records.make_room(["told", "scored"], ["scored", "mixed"], "shares", x.shape[1] if keep else BLOCK)
    records.run(attend, back=False)
    return out, records, lease


class WayBack:
    """Back through attention, once or twice."""

    def __init__(self, x: Tensor, records: Records, lease: Lease, parameters: Sequence[Tensor]) -> None:
        self.x, self.records, self.leases, self.parameters = x, records, [lease], parameters

    def differentiate(self, grad: Tensor, wanted: Wanted, *, keep: bool = False) -> tuple[Tensor | None, ...]:
        """The gradients by x and, where they are wanted, by the parameters; `keep` what a second derivative needs."""
        self.records, self.grad = self.records.copy(), grad.contiguous()
        if keep:
            kept = self.records.make_room(["grad_told"], ["grad_out", "grad_mixed"], "slopes", self.x.shape[1])
            self.leases.append(kept)
        self.records.call["grad"] = self.grad.data_ptr()
        return self._back(attend_back, wanted)

    def along(self, turn_x: Tensor | None, turns: Sequence[Tensor | None]) -> Tensor:
        """The gradient by `grad`, from those of what `differentiate` returned."""
        self.records = self.records.copy()
        names = ["turn_told", "turn_scored"], ["turn_scored", "turn_mixed"], "turn_shares"
        self.leases.append(self.records.make_room(*names, self.x.shape[1]))
        pairs = zip(turns, self.parameters, strict=True)
        given = self.records.turned([torch.zeros_like(p) if turn is None else turn for turn, p in pairs])
        self.turns = [turn.contiguous() for turn in given if turn is not None]
        self.turn_x = torch.zeros_like(self.x) if turn_x is None else turn_x.contiguous()
        self.turn_out = torch.empty_like(self.x)
        self.records.put("turn_", self.turns)
        call = self.records.call
        call["turn_x"], call["turn_out"] = self.turn_x.data_ptr(), self.turn_out.data_ptr()
        self.records.run(attend_along, twice=True)
        return self.turn_out

    def differentiate_again(self, turn_grad: Tensor | None, wanted: Wanted) -> tuple[Tensor | None, ...]:
        """The gradients by x and parameters, after `along`. `turn_grad`: of what attention returned, from elsewhere."""
        self.records = self.records.copy()
        turn_grad = torch.zeros_like(self.x) if turn_grad is None else turn_grad.contiguous()
        self.records.call["turn_grad"] = turn_grad.data_ptr()
        return self._back(attend_twice, wanted, twice=True)

    def _back(self, loop: Any, wanted: Wanted, *, twice: bool = False) -> tuple[Tensor | None, ...]:
        make = torch.empty_like if self.x.shape[1] else torch.zeros_like  # a sum over no rows is never written
        grads = [make(p) if wanted.parameters else None for p in self.parameters]
        grad_x = torch.empty_like(self.x)
        self.records.put("grad_", grads)
        self.records.call["grad_x"] = grad_x.data_ptr()
        self.records.run(loop, twice=twice)
        return grad_x, *self.records.turned(grads)


class FusedAttention(torch.autograd.Function):
    """x (T, B, H), in float32 on the CPU, and parameters as of `forward` -> (T, B, H).

    A gradient can be differentiated once more if `Job.again` says so beforehand. There is an empty tensor then that is
    this function's too: by it, what that second derivative adds arrives here, for one way back through attention.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, job: Job, *parameters: Tensor) -> tuple[Tensor, ...]:
        out, ctx.records, ctx.lease = forward(x, plan, parameters, half=job.half, keep=True)
        ctx.job, ctx.twice = job, None
        ties = () if job.again is None else (x.new_empty(0),)
        ctx.save_for_backward(x, out, *parameters, *ties)
        ctx.set_materialize_grads(False)
        return out, *ties

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, tied: Tensor | None = None) -> tuple[Tensor | None, ...]:
        x, out, *parameters = ctx.saved_tensors
        tie = parameters.pop() if ctx.job.again is not None else None
        if tied is not None and not torch.is_grad_enabled():
            grads = ctx.twice.differentiate_again(grad, ctx.job.wanted)
            return grads[0], None, None, *grads[1:]
        grad = torch.zeros_like(out) if grad is None else grad
        back = WayBack(x, ctx.records, ctx.lease, parameters)
        if not torch.is_grad_enabled():
            grads = back.differentiate(grad, ctx.job.wanted)
        else:
            begin_twice(ctx, back)
            grads = FusedAttentionBack.apply(grad, x, tie, back, ctx.job.again, *parameters)  # type: ignore[no-untyped-call]
        return grads[0], None, None, *grads[1:]


class FusedAttentionBack(torch.autograd.Function):
    """The gradient of `FusedAttention`, which can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, tie: Tensor, back: WayBack, wanted: Wanted, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.back = back
        ctx.set_materialize_grads(False)
        return back.differentiate(grad.detach(), wanted, keep=True)

    @staticmethod
    def backward(ctx: Any, turn_x: Tensor | None, *turns: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedAttention has no third derivative; take plain operations")
        by_grad = ctx.back.along(turn_x, turns)
        return by_grad, None, by_grad.new_empty(0), None, None, *(None for _ in turns)


def fused_attention(x: Tensor, plan: Plan, parameters: Sequence[Tensor], mode: Mode) -> Tensor:
    """`FusedAttention` of these, with the derivatives that `mode` asks for."""
    x, parameters = x.contiguous(), [p.contiguous() for p in parameters]
    if not torch.is_grad_enabled():
        return forward(x, plan, parameters, half=mode.half, keep=False)[0]
    again = wanted_of(x, parameters, mode.again) if mode.again is not None else None
    job = Job(wanted_of(x, parameters, mode.wanted), mode.half and again is None, again)
    out: Tensor = FusedAttention.apply(x, plan, job, *parameters)[0]  # type: ignore[no-untyped-call]
    return out
