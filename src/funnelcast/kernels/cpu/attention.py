"""Attention along the edges of a funnel, as one autograd function around kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from funnelcast.kernels.cpu.attention_kernels import attend, attend_backward
from funnelcast.kernels.cpu.bank import size_of_panels
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.kernels.cpu.bf16 import vnni_words
from funnelcast.kernels.cpu.buffers import Buffer, address, are_float32
from funnelcast.kernels.cpu.gemm import gemm_tn_scratch
from funnelcast.kernels.cpu.graph import launch, once
from funnelcast.kernels.cpu.records import ATTENTION, TARGET, TRANSFER


class _Records(NamedTuple):
    """A call of the kernels. Parameters: by transfer W (out, in) and b (H,), by target S (in, out) and V (out, in)."""

    call: NDArray[np.void]
    targets: NDArray[np.void]
    transfers: NDArray[np.void]

    def set(self, name: str, tensors: Sequence[Tensor | None]) -> None:
        """Let tensors like the parameters be their `name`d ones, such as `grad_`."""
        each = [address(tensor) for tensor in tensors]
        by_transfer, by_target = each[: 2 * len(self.transfers)], each[2 * len(self.transfers) :]
        self.transfers[f"{name}weight"], self.transfers[f"{name}bias"] = by_transfer[0::2], by_transfer[1::2]
        self.targets[f"{name}score"], self.targets[f"{name}value"] = by_target[0::2], by_target[1::2]

    def allocate(self, rows: int) -> Buffer:
        """Buffers for (B, H) and (tokens, B) of transfers and targets, of B = `rows`."""
        size, tokens = rows * int(self.call["width"][0]), (self.targets["last"] - self.targets["first"] + 1).tolist()
        fields = [(self.transfers, "token"), (self.transfers, "scored"), (self.targets, "scored")]
        fields.append((self.targets, "mixture"))
        buffer = Buffer([size for records, _ in fields for _ in records] + [rows * each for each in tokens])
        addresses = iter(buffer.addresses)
        for records, name in [*fields, (self.targets, "shares")]:
            records[name] = list(islice(addresses, len(records)))
        return buffer

    def launch(self, kernel: Any) -> None:
        """Launch a kernel with the buffers that it needs."""
        call, width = self.call, int(self.call["width"][0])
        packed = (len(self.transfers) + 2 * len(self.targets)) * size_of_panels(width, width)
        vnni = max(BLOCK, width) * vnni_words(width) if call["bf16"][0] else 0
        scratch = BLOCK * (5 * width + 3 * (1 + len(self.transfers)))
        buffer = Buffer([packed, gemm_tn_scratch(width, BLOCK), vnni, vnni, scratch])
        call["packed"], call["gemm_scratch"], call["vnni"], last, call["scratch"] = buffer.addresses
        call["vnni_step"] = last - call["vnni"]
        launch(kernel, *self)


def step_attention(
    x: Tensor, sources: Mapping[int, Sequence[int]], transfers: Sequence[tuple[Tensor, Tensor]],
    query: Sequence[Tensor], key: Sequence[Tensor], value: Sequence[Tensor], *, bf16: bool = False,
) -> Any:  # fmt: skip
    """`ops.step_attention`. ⟨Q u, K u⟩ = ⟨u S, u⟩ with S = Kᵀ Q: one product with the tokens instead of two."""
    if not sources or not are_float32(x, value[0]):
        return NotImplemented
    parameters = [p.contiguous() for pair in transfers for p in pair]
    for q, k, v in zip(query, key, value, strict=True):
        parameters += [(k.t() @ q).contiguous(), v.contiguous()]
    plan = tuple((target, tuple(own)) for target, own in sources.items())
    if not torch.is_grad_enabled():
        return _forward(x.contiguous(), plan, parameters, bf16=bf16, keep=False)[0]
    return _Attention.apply(x.contiguous(), plan, bf16, *parameters)  # type: ignore[no-untyped-call]


_Plan = tuple[tuple[int, tuple[int, ...]], ...]


def _forward(
    x: Tensor, plan: _Plan, parameters: Sequence[Tensor], *, bf16: bool, keep: bool
) -> tuple[Tensor, _Records, Buffer]:
    """The new vectors (T, B, H), and what their gradient needs. `keep`: whether there will be one."""
    out, sources = torch.empty_like(x), list(chain.from_iterable(own for _, own in plan))
    records = _Records(np.zeros(1, ATTENTION), np.zeros(len(plan), TARGET), np.zeros(len(sources), TRANSFER))
    call, targets, transfers = records
    call["steps"], call["rows"], call["width"] = x.shape
    call["x"], call["out"], call["bf16"], call["keep"] = x.data_ptr(), out.data_ptr(), bf16, keep
    ends = list(accumulate(len(own) for _, own in plan))
    targets["step"], targets["last"], transfers["source"] = [target for target, _ in plan], ends, sources
    targets["first"][1:] = ends[:-1]
    records.set("", parameters)
    buffer = records.allocate(x.shape[1] if keep else BLOCK)
    records.launch(attend)
    return out, records, buffer


class _Attention(torch.autograd.Function):
    """x (T, B, H) in float32 and parameters as of `_Records` -> (T, B, H)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan, bf16: bool, *parameters: Tensor) -> Tensor:
        out, ctx.records, ctx.buffer = _forward(x, plan, parameters, bf16=bf16, keep=True)
        ctx.save_for_backward(x, out, *parameters)  # the kernels read `out` of sources
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        once()
        x, _, *parameters = ctx.saved_tensors
        records, grad, grad_x = _Records(*(each.copy() for each in ctx.records)), grad.contiguous(), torch.empty_like(x)
        make = torch.empty_like if x.shape[1] else torch.zeros_like  # a sum over no rows is never written
        grads = [make(p) if any(ctx.needs_input_grad[3:]) else None for p in parameters]
        records.set("grad_", grads)
        records.call["grad"], records.call["grad_x"] = grad.data_ptr(), grad_x.data_ptr()
        records.launch(attend_backward)
        edges = 2 * len(records.transfers)  # kernels make gradients of W and V as (in, out)
        is_out_in = [i % 2 == (0 if i < edges else 1) for i in range(len(grads))]
        return (
            grad_x,
            None,
            None,
            *(g.t() if g is not None and is_out_in[i] else g for i, g in enumerate(grads)),
        )


def self_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Any:
    """`ops.self_attention`, by torch's own kernel."""
    q, k, v = (each.flatten(0, 1) for each in (query, key, value))
    mask = mask.repeat(query.shape[0], 1, 1, 1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).reshape(query.shape)
