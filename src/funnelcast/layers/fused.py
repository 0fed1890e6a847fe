"""A bank of networks, and their mixture by gates, as one hand-written autograd function around compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.layers.blas import FLOAT, sgemm_address
from funnelcast.layers.kernels import BANK, LAYER, SEEN, backward, forward
from funnelcast.layers.mode import Dropout
from funnelcast.layers.workspace import Lease


class Seen(NamedTuple):
    """Gate `step` sees `expert`; its weight is column `column` of the gate weights."""

    step: int
    expert: int
    column: int


def can_fuse(x: Tensor) -> bool:
    """Whether `FusedBank` has what it needs: float32 on the CPU, and a BLAS that can be called by address."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and sgemm_address() != 0


class FusedBank(torch.autograd.Function):
    """f_n(x) for every perceptron f_n with ReLU after each layer; or, with gates, m_t = Σ_n w_tn f_n(x).

    The backward pass holds no graph, so it raises under `create_graph`. `once_differentiable` would not do: what it
    returns leads nowhere, and a second derivative that has other paths too would lack this one without an error.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gates: Tensor | None,
        seen: tuple[Seen, ...],
        dropout: Sequence[Dropout],
        *parameters: Tensor,
    ) -> Tensor:
        """x (B, D) or (N, B, D); gates (B, K), columns as in `seen`; dropout per layer; weight (N, in, out) and bias
        (N, out) per layer -> (N, B, H), with gates (T, B, H). All in float32 on the CPU.
        """
        x, parameters = _by_rows(x), tuple(p.contiguous() for p in parameters)
        gates = gates.contiguous() if gates is not None else None
        networks, rows, width = len(parameters[0]), x.shape[-2], parameters[-1].shape[1]
        steps = 1 + max(s.step for s in seen) if seen else networks
        out = x.new_zeros(steps, rows, width) if seen else x.new_empty(steps, rows, width)
        widths = tuple(w.shape[2] for w in parameters[0::2])
        layers = np.zeros(len(dropout), LAYER)
        layers["width_in"], layers["width"] = (x.shape[-1], *widths[:-1]), widths
        layers["weight"], layers["bias"] = _addresses(parameters[0::2]), _addresses(parameters[1::2])
        layers["draws"] = [0 if d.draws is None else d.draws.data_ptr() for d in dropout]
        layers["limit"], layers["scale"] = [d.limit for d in dropout], [d.scale for d in dropout]
        lease = _lend_outputs(layers, widths, networks * rows, None if seen else out)
        bank = _bank(x, gates, networks)
        bank["mixed"] = out.data_ptr()
        forward(bank, layers, *_by_network(seen, networks))
        ctx.lease, ctx.layers, ctx.seen = lease, layers, seen
        ctx.save_for_backward(x, gates, out, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedBank has no second derivative; ask for plain operations: Mode(fused=False)")
        x, gates, _, *parameters = ctx.saved_tensors
        networks, rows, layers = len(parameters[0]), x.shape[-2], ctx.layers.copy()
        grad, grads = grad.contiguous(), [torch.empty_like(p) for p in parameters]
        grad_x = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        grad_gates = torch.empty_like(gates) if gates is not None else None
        scratch = Lease(2 * rows * int(layers["width"].max()))
        layers["grad_weight"], layers["grad_bias"] = _addresses(grads[0::2]), _addresses(grads[1::2])
        bank = _bank(x, gates, networks)
        bank["grad"], bank["scratch"] = grad.data_ptr(), scratch.memory.data_ptr()
        bank["scratch_step"] = rows * int(layers["width"].max()) * FLOAT
        if grad_x is not None:
            bank["grad_x"], bank["grad_x_step"] = grad_x.data_ptr(), _step(grad_x)
        if grad_gates is not None:
            bank["grad_gates"] = grad_gates.data_ptr()
        backward(bank, layers, *_by_network(ctx.seen, networks))
        return (grad_x, grad_gates, None, None, *grads)


def fused_bank(
    x: Tensor, dropout: Sequence[Dropout], parameters: Sequence[Tensor], gates: Tensor | None = None,
    seen: tuple[Seen, ...] = (),
) -> Tensor:  # fmt: skip
    """`FusedBank` of these."""
    out: Tensor = FusedBank.apply(x, gates, seen, dropout, *parameters)  # type: ignore[no-untyped-call]
    return out


def _by_rows(x: Tensor) -> Tensor:
    """Each network's rows one after the other in memory; that networks share them may stay."""
    return x if x.dim() == 3 and x[0].is_contiguous() else x.contiguous()


def _step(x: Tensor) -> int:
    """Bytes from one network's rows to the next one's."""
    return x.stride(0) * FLOAT if x.dim() == 3 else 0


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _bank(x: Tensor, gates: Tensor | None, networks: int) -> NDArray[np.void]:
    bank = np.zeros(1, BANK)
    bank["sgemm"], bank["networks"], bank["rows"] = sgemm_address(), networks, x.shape[-2]
    bank["x"], bank["x_step"] = x.data_ptr(), _step(x)
    if gates is not None:
        bank["gates"], bank["columns"] = gates.data_ptr(), gates.shape[1]
    return bank


def _lend_outputs(layers: NDArray[np.void], widths: tuple[int, ...], rows: int, last: Tensor | None) -> Lease:
    """Room for every layer's output, but for the last one's where the caller has it."""
    starts, size = _places(widths if last is None else widths[:-1], rows)
    lease = Lease(size)
    layers["output"][: len(starts)] = lease.memory.data_ptr() + starts
    if last is not None:
        layers["output"][-1] = last.data_ptr()
    return lease


@lru_cache
def _places(widths: tuple[int, ...], rows: int) -> tuple[NDArray[np.int64], int]:
    """Where matrices of `rows` begin in one memory, in bytes, each at 64; and the numbers that they take."""
    sizes = -(-np.array(widths, np.int64) * rows // 16) * 16
    return (np.cumsum(sizes) - sizes) * FLOAT, int(sizes.sum())


@cache
def _by_network(seen: tuple[Seen, ...], networks: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """`seen` in the order of networks, and where each network's begin."""
    ordered = sorted(seen, key=lambda s: s.expert)
    first = np.searchsorted([s.expert for s in ordered], np.arange(networks + 1))
    return np.array([(s.step, s.column) for s in ordered], SEEN), first
