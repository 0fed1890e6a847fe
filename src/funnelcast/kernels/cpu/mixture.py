"""A network's output in the mixtures of the steps whose gates see it, forward and backward.

Compiled from Python, the backward pass goes through a block once for each step and once more for the activation; here a
row stays in registers meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.compiled import helper
from funnelcast.kernels.cpu.codegen import (
    FLOAT,
    I64,
    REAL,
    Chunk,
    assign,
    for_each_chunk,
    leaky_relu_by,
    load_scalar,
    variables,
)
from funnelcast.kernels.cpu.gemm import fill_zeros, of
from funnelcast.kernels.cpu.records import EDGE

_ZERO: Final = ir.Constant(REAL, 0.0)


def _mix(
    typing: Any, y: Any, mixture: Any, mixture_step: Any, gates: Any, edges: Any, count: Any, width: Any
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        y, mixture, mixture_step, gates, edges, count, width = values

        def add(chunk: Chunk) -> None:
            own = chunk.load(y)
            with _for_each_edge(builder, edges, count) as (step, column):
                weight = chunk.broadcast(load_scalar(builder, builder.add(gates, column)))
                row = builder.add(mixture, builder.mul(step, mixture_step))
                pairs = zip(own, chunk.load(row), strict=True)
                chunk.store([chunk.fma(weight, vector, before) for vector, before in pairs], row)

        for_each_chunk(builder, width, add)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code


def _unmix(
    typing: Any, y: Any, to: Any, grad: Any, grad_step: Any, gates: Any, grad_gates: Any, edges: Any, count: Any,
    width: Any, grad_bias: Any, scale: Any, slope: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        y, to, grad, grad_step, gates, grad_gates, edges, count, width, grad_bias, scale, slope = values

        def differentiate(chunk: Chunk) -> None:
            own = chunk.load(y)
            sums = variables(builder, [chunk.zeros] * len(own))
            with _for_each_edge(builder, edges, count) as (step, column):
                vectors, product = chunk.load(builder.add(grad, builder.mul(step, grad_step))), chunk.zeros
                for vector, output in zip(vectors, own, strict=True):
                    product = chunk.fma(vector, output, product)
                weight = chunk.broadcast(load_scalar(builder, builder.add(gates, column)))
                pairs = zip(vectors, sums, strict=True)
                assign(builder, [chunk.fma(weight, v, builder.load(total)) for v, total in pairs], sums)
                address = builder.inttoptr(builder.add(grad_gates, column), REAL.as_pointer())
                is_first = builder.icmp_signed("==", chunk.offset, I64(0))
                others = builder.select(is_first, _ZERO, builder.load(address))
                builder.store(builder.fadd(others, chunk.sum(product)), address)
            with builder.if_then(builder.icmp_signed("!=", to, I64(0))):
                scales, slopes = chunk.broadcast(scale), chunk.broadcast(slope)
                scaled = [builder.fmul(builder.load(total), scales) for total in sums]
                found = [leaky_relu_by(builder, *pair, slopes) for pair in zip(scaled, own, strict=True)]
                chunk.store(found, to)
                pairs = zip(found, chunk.load(grad_bias), strict=True)
                chunk.store([builder.fadd(*pair) for pair in pairs], grad_bias)

        for_each_chunk(builder, width, differentiate)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10, *[types.float32] * 2), code


@contextmanager
def _for_each_edge(builder: Any, edges: Any, count: Any) -> Iterator[tuple[Any, Any]]:
    """Code for each of `edges`: its step, and its column among gates in bytes."""
    with cgutils.for_range(builder, count) as loop:
        own = builder.add(edges, builder.mul(loop.index, I64(EDGE.itemsize)))
        pair = builder.inttoptr(own, I64.as_pointer())
        step, column = (builder.load(builder.gep(pair, [I64(i)])) for i in range(2))
        yield step, builder.mul(column, I64(FLOAT))


_mix_row, _unmix_row = intrinsic(_mix), intrinsic(_unmix)


@helper
def begin_mixture(bank: Any, start: int, rows: int, width: int) -> None:
    """Set the mixtures (T, B, H) of a block to 0."""
    for step in range(bank.steps):
        fill_zeros(of(bank.mixture, step, bank.rows, width) + start * width * FLOAT, rows, width)


@helper
def mix(bank: Any, output: int, start: int, rows: int, width: int, edges: Any) -> None:
    """Add a block of a network's output, times its gate weight, to the mixture of each step that sees it."""
    row, weights = width * FLOAT, bank.columns * FLOAT
    for r in range(rows):
        at = start + r
        to, own = bank.mixture + at * row, bank.gates + at * weights
        _mix_row(output + r * row, to, bank.rows * row, own, edges.ctypes.data, len(edges), width)


@helper
def unmix(bank: Any, layer: Any, n: int, to: int, start: int, rows: int, edges: Any) -> None:
    """The gradients of a network's gate weights for a block, and unless `to` is 0 that before the activation of its
    last layer; add up that of its bias. An output of 0 tells that the element was dropped."""
    width, row, weights = layer.width, layer.width * FLOAT, bank.columns * FLOAT
    y, bias = of(layer.output, n, bank.rows, width), of(layer.grad_bias, n, 1, width)
    for r in range(rows):
        at = start + r
        _unmix_row(
            y + at * row, to + r * row if to else 0, bank.grad + at * row, bank.rows * row, bank.gates + at * weights,
            bank.grad_gates + at * weights, edges.ctypes.data, len(edges), width, bias, layer.scale, layer.slope,
        )  # fmt: skip
