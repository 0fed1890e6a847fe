"""Banks of perceptrons, and mixtures of their outputs by gates, as one autograd function around kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.kernels.cpu.bank_kernels import BLOCK, backward, forward
from funnelcast.kernels.cpu.bf16 import vnni_words
from funnelcast.kernels.cpu.buffers import Buffer, address, are_float32
from funnelcast.kernels.cpu.codegen import FLOAT, LANES
from funnelcast.kernels.cpu.dedup import deduplicated
from funnelcast.kernels.cpu.dropout import PER_WORD
from funnelcast.kernels.cpu.gemm import PANEL, gemm_tn_scratch
from funnelcast.kernels.cpu.graph import launch, once
from funnelcast.kernels.cpu.records import BANK, EDGE, LAYER

Edges = tuple[tuple[int, int, int], ...]
"""(gate, expert, column of the gate weights) of each gate that sees an expert."""
WIDE: Final = 64
"""Columns of a first layer, of all networks, from which on deduplicated inputs gain."""


class Dropout(NamedTuple):
    """Dropout after a layer; `seeds` (blocks,) int64 on the CPU, each of `rows` rows."""

    seeds: Tensor
    rows: int
    stream: int
    limit: int
    scale: float


class Spec(NamedTuple):
    """What a call of a bank is, beside its tensors."""

    dropout: Sequence[Dropout | None]
    edges: Edges = ()
    slope: float = 0.0
    linear: bool = False
    """Whether the last layer has no activation."""
    bf16: bool = False
    inverse: Tensor | None = None
    """(B, G) int32, the inverse index: rows of `tables` that add up to a row's part of the first layer."""


def mlp_bank(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, slope: float = 0.0,
    rates: Sequence[float] = (), key: Any = None, bf16: bool = False,
) -> Any:  # fmt: skip
    """`ops.mlp_bank`, without dropout after a leaky activation: the backward pass could not tell an output that was
    dropped from one below 0."""
    if slope and key is not None and any(rates):
        return NotImplemented
    return _run(x, weights, biases, None, Spec(_dropout(weights, rates, key), slope=slope, bf16=bf16))


def expert_mixture(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], gates: Tensor, edges: Edges, *,
    slope: float = 0.0, bf16: bool = False,
) -> Any:  # fmt: skip
    """`ops.expert_mixture`."""
    spec = Spec([None] * len(weights), edges, slope, bf16=bf16)
    return _run(x, weights, biases, gates, spec)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False, bf16: bool = False) -> Any:
    """`ops.linear`, as a bank of one network."""
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    rows = x if x.dim() == 2 else x.flatten(0, -2)
    spec = Spec([None], linear=not relu, bf16=bf16)
    out = _run(rows, [weight.t().unsqueeze(0)], [bias.unsqueeze(0)], None, spec)
    return out if out is NotImplemented else out.view(*x.shape[:-1], len(weight))


def _run(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], gates: Tensor | None, spec: Spec) -> Any:
    first, tables = weights[0], None
    if not are_float32(x, first):
        return NotImplemented
    if first.shape[2] % LANES == 0 and len(first) * first.shape[2] >= WIDE and (unique := deduplicated(x)) is not None:
        x, first, tables = unique.first_layer(x, first)
        spec = spec._replace(inverse=unique.inverse)
    x = x if x.dim() == 3 and x[0].is_contiguous() else x.contiguous()
    pairs = zip([first, *weights[1:]], biases, strict=True)
    parameters = [each.contiguous() for pair in pairs for each in pair]
    gates, tables = (None if each is None else each.contiguous() for each in (gates, tables))
    if not torch.is_grad_enabled():
        return _forward(x, gates, tables, parameters, spec, keep=False)[0]
    return _Bank.apply(x, gates, tables, spec, *parameters)  # type: ignore[no-untyped-call]


class _Bank(torch.autograd.Function):
    """x (B, D) or (N, B, D); gates (B, K); tables (N, C, H); weight (N, in, out) and bias (N, out) per layer -> (N, B,
    H), with gates (T, B, H); in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gates: Tensor | None, tables: Tensor | None, spec: Spec, *parameters: Tensor
    ) -> Tensor:
        out, ctx.layers, ctx.buffer = _forward(x, gates, tables, parameters, spec, keep=True)
        ctx.spec = spec
        ctx.save_for_backward(x, gates, tables, out, *parameters)  # the kernels read `out` of the last layer
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        once()
        x, gates, tables, _, *parameters = ctx.saved_tensors
        needs_grad_x, _, needs_grad_tables, _, *needs_grad = ctx.needs_input_grad
        weights, biases = parameters[0::2], parameters[1::2]
        make = torch.empty_like if x.shape[-2] else torch.zeros_like  # a sum over no rows is never written
        grad, grad_x = grad.contiguous(), x.new_empty(x.shape) if needs_grad_x else None
        grad_gates = torch.empty_like(gates) if gates is not None else None
        grad_tables = torch.zeros_like(tables) if tables is not None else None
        grads = [make(w) if any(needs_grad) or needs_grad_tables else None for w in weights]
        grads_bias = [make(b) for b in biases]
        layers = ctx.layers.copy()  # a graph still has those of before
        layers["grad_weight"], layers["grad_bias"] = [address(g) for g in grads], [address(g) for g in grads_bias]
        bank = _bank_of(x, gates, tables, len(weights[0]), ctx.spec)
        bank["grad"], bank["steps"], bank["grad_gates"] = grad.data_ptr(), len(grad), address(grad_gates)
        bank["grad_x"], bank["grad_x_step"], bank["grad_tables"] = address(grad_x), _step(grad_x), address(grad_tables)
        _launch(backward, bank, layers, ctx.spec, scratch_rows=BLOCK)
        pairs = zip(grads, grads_bias, strict=True)
        return grad_x, grad_gates, grad_tables, None, *(g if any(needs_grad) else None for both in pairs for g in both)


def _forward(
    x: Tensor, gates: Tensor | None, tables: Tensor | None, parameters: Sequence[Tensor], spec: Spec, *, keep: bool
) -> tuple[Tensor, NDArray[np.void], Buffer]:
    """The output, and what its gradient needs. `keep`: whether there will be one."""
    networks, rows, widths = len(parameters[0]), x.shape[-2], tuple(w.shape[2] for w in parameters[0::2])
    layers = _layers(x.shape[-1], widths, rows, spec.linear, spec.slope).copy()
    layers["weight"], layers["bias"] = [address(p) for p in parameters[0::2]], [address(p) for p in parameters[1::2]]
    for layer, drop in zip(layers, spec.dropout, strict=True):
        if drop is not None:
            layer["seeds"], layer["seed_rows"], layer["stream"] = drop.seeds.data_ptr(), drop.rows, drop.stream
            layer["limit"], layer["scale"] = drop.limit, drop.scale
    steps = 1 + max(gate for gate, _, _ in spec.edges) if spec.edges else networks
    out = x.new_empty(steps, rows, widths[-1])
    inner = widths if spec.edges else widths[:-1]
    held = networks * rows if keep else min(rows, BLOCK)
    buffer = Buffer([held * width for width in inner])
    layers["output"][: len(inner)] = buffer.addresses
    if not keep:
        layers["output_step"][: len(inner)], layers["output_row"][: len(inner)] = 0, 0
    if not spec.edges:
        layers["output"][-1] = out.data_ptr()
    bank = _bank_of(x, gates, tables, networks, spec)
    bank["mixture"], bank["steps"] = out.data_ptr(), steps
    _launch(forward, bank, layers, spec)
    return out, layers, buffer


def _launch(kernel: Any, bank: NDArray[np.void], layers: NDArray[np.void], spec: Spec, scratch_rows: int = 0) -> None:
    """Launch a kernel with the buffers that it needs."""
    networks, every = int(bank["networks"][0]), (int(layers["width_in"][0]), *layers["width"].tolist())
    scratch = scratch_rows * max(every[1:])
    vnni = max(BLOCK, *every) * vnni_words(max(every)) if spec.bf16 else 0
    draws = BLOCK * max(every) // 2 + PER_WORD if any(spec.dropout) else 0  # two draws to an element
    buffer = Buffer(
        [scratch, scratch, networks * _packed_size(every), gemm_tn_scratch(max(every), BLOCK), vnni, vnni, draws]
    )
    first, second, bank["packed"], bank["gemm_scratch"], bank["vnni"], last, bank["draws"] = buffer.addresses
    bank["scratch"], bank["scratch_step"], bank["vnni_step"] = first, second - first, last - bank["vnni"]
    launch(kernel, bank, layers, *_edges_by_network(spec.edges, networks))


def _bank_of(
    x: Tensor, gates: Tensor | None, tables: Tensor | None, networks: int, spec: Spec
) -> NDArray[np.void]:  # fmt: skip
    """A call with its input."""
    bank = np.zeros(1, BANK)
    bank["networks"], bank["rows"], bank["bf16"] = networks, x.shape[-2], spec.bf16
    bank["x"], bank["x_step"] = x.data_ptr(), _step(x)
    if tables is not None and spec.inverse is not None:
        bank["inverse"], bank["groups"] = spec.inverse.data_ptr(), spec.inverse.shape[1]
        bank["tables"], bank["table_rows"] = tables.data_ptr(), tables.shape[1]
    if gates is not None:
        bank["gates"], bank["columns"] = gates.data_ptr(), gates.shape[1]
    return bank


def _dropout(weights: Sequence[Tensor], rates: Sequence[float], key: Any) -> list[Dropout | None]:
    if key is None or not any(rates):
        return [None] * len(weights)
    return [Dropout(key.seeds, key.rows, key.next(), *key.limit(rate)) if rate else None for rate in rates]


def _step(x: Tensor | None) -> int:
    """Bytes from one network's rows to the next one's."""
    return x.stride(0) * FLOAT if x is not None and x.dim() == 3 else 0


@cache
def _packed_size(widths: tuple[int, ...]) -> int:
    """Elements of a network's weights in panels, transposed or not."""
    return sum(max(_size_of_panels(a, b), _size_of_panels(b, a)) for a, b in pairwise(widths))


def _size_of_panels(depth: int, columns: int) -> int:
    """Elements, or pairs of bfloat16, of a matrix (depth, columns) in panels, at most."""
    return depth * -(-columns // PANEL) * PANEL


@lru_cache
def _layers(columns: int, widths: tuple[int, ...], rows: int, linear: bool, slope: float) -> NDArray[np.void]:
    """What the records of all calls of a shape have in common."""
    layers = np.zeros(len(widths), LAYER)
    layers["width_in"], layers["width"] = (columns, *widths[:-1]), widths
    layers["output_step"] = [rows * width * FLOAT for width in widths]
    layers["output_row"] = [width * FLOAT for width in widths]
    layers["scale"], layers["slope"] = 1, slope
    if linear:
        layers["slope"][-1] = 1
    return layers


@cache
def _edges_by_network(edges: Edges, networks: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """`edges` in the order of networks, and where each network's begin."""
    ordered = sorted(edges, key=lambda edge: edge[1])
    first = np.searchsorted([expert for _, expert, _ in ordered], np.arange(networks + 1))
    return np.array([(gate, column) for gate, _, column in ordered], EDGE), first
