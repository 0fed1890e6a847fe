"""Adam of dense parameters, and of rows of a table, each element read and written once.

A compiler moves rows as short as an embedding's element by element, and each takes a root and a quotient: `_move_row`
is code that holds a row in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.buffers import address, are_float32, arrays
from funnelcast.kernels.cpu.codegen import FLOAT, HALVING, Chunk, for_each_chunk
from funnelcast.kernels.cpu.gemm import matrix
from funnelcast.kernels.cpu.sparse import prefetch

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
TINY: Final = 1e-30
"""As in `ops.adam`, which says why."""
CHUNK: Final = 8192
"""Elements of a dense parameter whose gradients are added up before they move, while in cache."""
AHEAD: Final = 16
"""Rows that are prefetched before they are moved."""


def adam(
    parameters: Sequence[Tensor], means: Sequence[Tensor], squares: Sequence[Tensor], grads: Sequence[Sequence[Tensor]],
    *, rate: float, scale: float, l2: float, decay: Sequence[float],
) -> Any:  # fmt: skip
    """`ops.adam`."""
    if not are_float32(*parameters):
        return NotImplemented
    held = [[each.contiguous() for each in own] for own in grads]
    every = [parameters, means, squares, *held]
    addresses = np.array([[address(each) for each in own] for own in every], np.int64)
    sizes = np.array([each.numel() for each in parameters], np.int64)
    _move_all(addresses, sizes, np.array(decay, np.float32), l2, rate, scale)
    return True


@compiled_for_speed
def _move_all(addresses: Any, sizes: Any, decay: Any, l2: float, rate: float, scale: float) -> None:
    """Addresses (3 + P, n): of parameters, means, squares, and the gradients of P microbatches."""
    shrink, size, scales, sums = np.float32(l2), np.float32(rate), np.float32(scale), np.empty((1, CHUNK), np.float32)
    for i in range(len(sizes)):
        for start in range(0, sizes[i], CHUNK):
            at, count = start * FLOAT, min(CHUNK, sizes[i] - start)
            weight, mean = matrix(addresses[0, i] + at, 1, count), matrix(addresses[1, i] + at, 1, count)
            square, grad = matrix(addresses[2, i] + at, 1, count), matrix(addresses[3, i] + at, 1, count)
            for p in range(4, len(addresses)):
                more = matrix(addresses[p, i] + at, 1, count)
                for j in range(count):
                    sums[0, j] = grad[0, j] + more[0, j]
                grad = sums
            for j in range(count):
                moved = _moved(weight[0, j], mean[0, j], square[0, j], grad[0, j], shrink, size, scales, decay[i])
                weight[0, j], mean[0, j], square[0, j] = moved


@compiled_for_speed
def _moved(weight: Any, mean: Any, square: Any, grad: Any, shrink: Any, size: Any, scale: Any, lost: Any) -> Any:
    decay, fresh = np.float32(BETAS[1]), np.float32(1 - BETAS[1])
    pull, epsilon = np.float32(1 - BETAS[0]), np.float32(EPSILON)
    g = grad + shrink * weight
    m = mean + pull * (g - mean)
    s = decay * square + fresh * g * g
    w = weight - (size * m / (np.sqrt(s) * scale + epsilon) + lost * weight)
    return _without_tiny(w), _without_tiny(m), _without_tiny(s)


@compiled_for_speed
def _without_tiny(number: Any) -> Any:
    """The number, or 0 where its magnitude is at most `TINY`; nan stays."""
    return np.float32(0) if abs(number) <= np.float32(TINY) else number


def adam_rows(
    weight: Tensor, moments: Tensor, rows: Tensor, grad: Tensor, *, rate: float, scale: float, l2: float,
    last: Tensor | None, lost: Tensor | None, step: int,
) -> Any:  # fmt: skip
    """`ops.adam_rows`."""
    if not are_float32(weight):
        return NotImplemented
    none = np.empty(0, np.int32), np.zeros(1, np.float32)
    decays = none if last is None or lost is None else arrays(last, lost)
    tensors = arrays(weight, moments, rows, grad.contiguous())
    _move_rows(*tensors, l2, rate, scale, *decays, step)  # type: ignore[call-arg]
    return True


@compiled_for_speed
def _move_rows(
    weight: Any, moments: Any, rows: Any, grad: Any, l2: float, rate: float, scale: float, last: Any, lost: Any,
    step: int,
) -> None:  # fmt: skip
    """Last (V,): the step in which each row last moved; (0,) for no decay."""
    shrink, size, scales = np.float32(l2), np.float32(rate), np.float32(scale)
    row, weights, means, grads = weight.shape[1] * FLOAT, weight.ctypes.data, moments.ctypes.data, grad.ctypes.data
    decays, own_lost = len(last) > 0, np.float32(0)
    for u in range(len(rows)):
        if u + AHEAD < len(rows):
            ahead = np.int64(rows[u + AHEAD]) * row
            prefetch(weights + ahead)
            prefetch(means + 2 * ahead)
            prefetch(means + 2 * ahead + 2 * row - FLOAT)  # it may lie on two lines
            if decays:
                prefetch(last.ctypes.data + np.int64(rows[u + AHEAD]) * FLOAT)
        at = np.int64(rows[u]) * row
        mean = means + 2 * at
        if decays:
            own_lost = lost[step - last[rows[u]]]
            last[rows[u]] = step
        _move_row(weights + at, mean, mean + row, grads + u * row, weight.shape[1], shrink, size, scales, own_lost)


def _row_code(
    typing: Any, weight: Any, mean: Any, square: Any, grad: Any, width: Any, shrink: Any, size: Any, scale: Any,
    lost: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        weight, mean, square, grad, width, shrink, size, scale, lost = values

        def move(chunk: Chunk) -> None:
            def constant(number: float) -> Any:
                return chunk.broadcast(context.get_constant(types.float32, number))

            (w,), (m,), (s,), (g,) = map(chunk.load, (weight, mean, square, grad))
            g = chunk.fma(chunk.broadcast(shrink), w, g)
            m = chunk.fma(constant(1 - BETAS[0]), builder.fsub(g, m), m)
            fresh = builder.fmul(builder.fmul(constant(1 - BETAS[1]), g), g)
            s = chunk.fma(constant(BETAS[1]), s, fresh)
            root = chunk.fma(chunk.unary("sqrt", s), chunk.broadcast(scale), constant(EPSILON))
            step = builder.fdiv(builder.fmul(chunk.broadcast(size), m), root)
            w = builder.fsub(w, chunk.fma(chunk.broadcast(lost), w, step))
            for vector, row in ((w, weight), (m, mean), (s, square)):
                is_tiny = builder.fcmp_ordered("<=", chunk.unary("fabs", vector), constant(TINY))  # not so for nan
                chunk.store([builder.select(is_tiny, chunk.zeros, vector)], row)

        for_each_chunk(builder, width, move, HALVING)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5, *[types.float32] * 4), code


_move_row: Final = intrinsic(_row_code)
"""Move `width` elements at the addresses of a weight, its mean and its square, in place, by a gradient at a fourth.
`shrink`: how much of the weight is added to the gradient; `size`: the rate; `scale`: that of the root of the square;
`lost`: the share of the weight that decay takes."""
