"""A bank of networks, and their mixture by gates, as one hand-written autograd function around compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from funnelcast.layers.calls import Job, Seen, Wanted, WayBack, bank_of, by_rows, layers_of, run
from funnelcast.layers.dropout import LoopDropout
from funnelcast.layers.kernels import BLOCK, forward
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import Mode
from funnelcast.layers.repeats import Repeats
from funnelcast.layers.tiles import LANES
from funnelcast.layers.workspace import lease_for

NARROW: Final = 64
"""Columns below which what repeats is not worth looking up."""


class Forward:
    """The way forward through a bank, done."""

    def __init__(self, x: Tensor, gates: Tensor | None, job: Job, parameters: Sequence[Tensor]) -> None:
        networks, rows, layers = len(parameters[0]), x.shape[-2], layers_of(x, parameters, job)
        widths, seen = tuple(w.shape[2] for w in parameters[0::2]), job.seen
        steps = 1 + max(s.step for s in seen) if seen else networks
        self.out = x.new_empty(steps, rows, widths[-1])
        inner = widths if seen else widths[:-1]
        held = networks * rows if job.keep else min(rows, BLOCK)
        self.lease = lease_for([held * width for width in inner])
        layers["output"][: len(inner)] = self.lease.places([held * width for width in inner])
        kept = [(networks, rows, width) for width in widths[:-1]] if job.again is not None else []
        self.kept = self.lease.parts(kept)
        if not job.keep:
            layers["output_step"][: len(inner)], layers["output_row"][: len(inner)] = 0, 0
        if not seen:
            layers["output"][-1] = self.out.data_ptr()
        bank = bank_of(x, gates, networks, job.repeats)
        bank["mixed"], bank["steps"] = self.out.data_ptr(), steps
        run(forward, bank, layers, job)
        self.layers = layers


class FusedBank(torch.autograd.Function):
    """f_n(x) for every perceptron f_n with (leaky) ReLU after each layer, or each but the last; or, with gates,
    m_t = Σ_n w_tn f_n(x).

    A gradient can be differentiated once more if `Job.again` says so beforehand. Every layer's output but the last is
    then one of this function's, and so is an empty tensor: by these, what the second derivative has to add arrives
    here, for one way back through the layers. Otherwise the backward pass holds no graph, so it raises under
    `create_graph`. `once_differentiable` would not do: what it returns leads nowhere, and a second derivative that has
    other paths too would lack this one without an error.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor | None, job: Job, *parameters: Tensor) -> tuple[Tensor, ...]:
        """x (B, D) or (N, B, D); gates (B, K); weight (N, in, out) and bias (N, out) per layer -> (N, B, H), with gates
        (T, B, H), and layers' outputs. All in float32 on the CPU, each network's numbers one after the other: what
        was copied here would have no second derivative.
        """
        done = Forward(x, gates, job, parameters)
        ties = [] if job.again is None else [*done.kept, x.new_empty(0)]
        ctx.lease, ctx.layers, ctx.job, ctx.ties, ctx.twice = done.lease, done.layers, job, len(ties), None
        ctx.save_for_backward(x, gates, done.out, *ties, *parameters)
        ctx.set_materialize_grads(False)
        return done.out, *ties

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *toward: Tensor | None) -> tuple[Tensor | None, ...]:
        x, gates, out, *rest = ctx.saved_tensors
        grad = torch.zeros_like(out) if grad is None else grad
        back = WayBack(x, gates, grad.detach(), ctx.job, ctx.layers, rest[ctx.ties :])
        if not torch.is_grad_enabled():
            before = None if all(each is None for each in toward) else ctx.twice
            grads = back.differentiate(ctx.job.wanted, toward[:-1], before=before)
        else:
            begin_twice(ctx, back)
            grads = FusedGradient.apply(x, gates, grad, back, *rest)  # type: ignore[no-untyped-call]
        return *grads[:2], None, *grads[2:]


def begin_twice(ctx: Any, back: Any) -> None:
    """Notes the way back that will be differentiated again. Raises RuntimeError where none may be."""
    if ctx.job.again is None:
        raise RuntimeError("what loops made has no second derivative; ask for one by Mode(again=…)")
    if ctx.twice is not None:
        raise RuntimeError("what loops made has no second derivative twice; make it once more")
    ctx.twice = back


class FusedGradient(torch.autograd.Function):
    """The gradient of `FusedBank`, which can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gates: Tensor | None, grad: Tensor, back: WayBack, *rest: Tensor
    ) -> tuple[Tensor | None, ...]:
        """`rest`: the layers' outputs that `FusedBank` returned, its empty tensor, and its parameters -> what
        `job.again` wants of the gradients by x, gates and parameters."""
        assert back.job.again is not None
        ctx.back = back
        ctx.set_materialize_grads(False)
        found: tuple[Tensor | None, ...] = back.differentiate(back.job.again, keep=True)
        return found

    @staticmethod
    def backward(ctx: Any, turn_x: Tensor | None, turn_gates: Tensor | None, *turns: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedBank has no third derivative; take plain operations")
        again = ctx.back.differentiate_again(turn_x, turn_gates, turns)
        ties = [*again.toward, again.grad.new_empty(0)]
        return again.grad_x, again.grad_gates, again.grad, None, *ties, *again.parameters


def fused_bank(
    x: Tensor,
    dropout: Sequence[LoopDropout],
    parameters: Sequence[Tensor],
    mode: Mode,
    gates: Tensor | None = None,
    seen: tuple[Seen, ...] = (),
    *,
    linear: bool = False,
    slope: float = 0.0,
) -> Tensor:
    """`FusedBank` of these, with the derivatives that `mode` asks for."""
    x, parameters = by_rows(x), [p.contiguous() for p in parameters]
    gates = gates.contiguous() if gates is not None else None
    keep = torch.is_grad_enabled()
    wanted = wanted_of(x, parameters, mode.wanted) if keep else Wanted(x=False, parameters=False)
    again = wanted_of(x, parameters, mode.again) if mode.again is not None else None
    half = mode.half and again is None
    repeats = mode.repeats if _can_repeat(x, parameters[0], mode.repeats, again) else None
    job = Job(dropout, seen, wanted, keep, linear, half, again, repeats, slope)
    if not keep:
        return Forward(x, gates, job, parameters).out
    out: Tensor = FusedBank.apply(x, gates, job, *parameters)[0]  # type: ignore[no-untyped-call]
    return out


def _can_repeat(x: Tensor, first: Tensor, repeats: Repeats | None, again: Wanted | None) -> bool:
    """Whether it is what repeats in x, and a first layer of these weights (N, in, out) gains by it."""
    if repeats is None or repeats.of is not x or first.shape[2] % LANES or len(first) * first.shape[2] < NARROW:
        return False
    return again is None or not again.x


def wanted_of(x: Tensor, parameters: Sequence[Tensor], leaves: Leaves | None) -> Wanted:
    """What a layer is differentiated by, so that derivatives reach `leaves`; none for all that can be asked for."""
    if leaves is None:
        return Wanted(x.requires_grad, any(p.requires_grad for p in parameters))
    return Wanted(leaves.lead_to(x), any(leaves.lead_to(p) for p in parameters))
