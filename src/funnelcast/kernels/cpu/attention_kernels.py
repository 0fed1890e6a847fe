"""Kernels of attention between steps: all targets of a block of rows while it is in cache.

With p_i the sources' vectors, a target's tokens are u_i = relu(p_i W_iᵀ + b_i) and last its own vector. With S and V
its `score` and `value`, shares a = softmax(⟨u_i S, u_i⟩ / √H) and m = Σ a_i u_i, its new vector is m Vᵀ. Backward from
the gradient h of m, with c_i = a_i (⟨h, u_i⟩ - Σ_j a_j ⟨h, u_j⟩) / √H, u_i has a_i h + c_i u_i S + c_i u_i Sᵀ.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled_for_speed, helper
from funnelcast.kernels.cpu.bank_kernels import BLOCK, depth_of, product, product_tn
from funnelcast.kernels.cpu.bf16 import pack_vnni, pack_vnni_transposed
from funnelcast.kernels.cpu.codegen import FLOAT
from funnelcast.kernels.cpu.gemm import OVERWRITE, copy_rows, fill_zeros, matrix, of, pack, packed_size

ADD: Final[Any] = np.int64(1)
FORWARD: Final[Any] = np.int64(1)
BACKWARD: Final[Any] = np.int64(0)
"""For a number of Python's, numba would compile what takes it once more."""


@compiled_for_speed
def attend(calls: Any, targets: Any, transfers: Any) -> None:
    """Fills `out`, every target's `shares`, `mixture` and `scored`, and every transfer's `token` and `scored`."""
    call = calls[0]
    width, size = call.width, call.width * FLOAT
    _pack_all(call, targets, transfers, FORWARD)
    for start in range(0, call.rows, BLOCK):
        rows, kept = min(BLOCK, call.rows - start), start * size if call.keep else 0
        for step in range(call.steps):
            copy_rows(_rows_of(call, call.x, step, start), _rows_of(call, call.out, step, start), rows, width)
        for t in range(len(targets)):
            target, own = targets[t], _rows_of(call, call.x, targets[t].step, start)
            score, value = _panels(call, target.last + 2 * t), _panels(call, target.last + 2 * t + 1)
            for i in range(target.first, target.last):
                token, source = transfers[i].token + kept, _rows_of(call, call.out, transfers[i].source, start)
                _product(call, source, _panels(call, i + 2 * t), token, rows, OVERWRITE)
                _bias_relu(token, transfers[i].bias, rows, width)
                _product(call, token, score, transfers[i].scored + kept, rows, OVERWRITE)
            _product(call, own, score, target.scored + kept, rows, OVERWRITE)
            _mix(call, target, transfers, own, kept, start if call.keep else 0, rows)
            out = _rows_of(call, call.out, target.step, start)
            _product(call, target.mixture + kept, value, out, rows, OVERWRITE)


@compiled_for_speed
def attend_backward(calls: Any, targets: Any, transfers: Any) -> None:
    """Fills `grad_x` from `grad`, and every gradient of a weight and a bias that has scratch."""
    call = calls[0]
    width, size = call.width, call.width * FLOAT
    _pack_all(call, targets, transfers, BACKWARD)
    for i in range(len(transfers)):
        if transfers[i].grad_bias:
            fill_zeros(transfers[i].grad_bias, 1, width)
    for start in range(0, call.rows, BLOCK):
        rows, later = min(BLOCK, call.rows - start), 1 if start else 0
        for step in range(call.steps):
            copy_rows(_rows_of(call, call.grad, step, start), _rows_of(call, call.grad_x, step, start), rows, width)
        for t in range(len(targets) - 1, -1, -1):
            target, own = targets[t], _rows_of(call, call.grad_x, targets[t].step, start)
            mixture = target.mixture + start * size
            g = of(call.scratch, 0, BLOCK, width)
            h = of(call.scratch, 1, BLOCK, width)
            copy_rows(own, g, rows, width)
            if target.grad_value:
                _product_tn(call, mixture, g, target.grad_value, rows, later)
            _product(call, g, _panels(call, target.last + 2 * t + 1), h, rows, OVERWRITE)
            _slopes(call, target, transfers, h, start, rows)
            for i in range(target.first, target.last):
                to = _token_backward(call, target, t, transfers, i, h, start, rows)
                _transfer_backward(call, transfers[i], _panels(call, i + 2 * t), to, start, rows)
            copy_rows(_token_backward(call, target, t, transfers, target.last, h, start, rows), own, rows, width)


@helper
def _token_backward(call: Any, target: Any, t: int, transfers: Any, i: int, h: int, start: int, rows: int) -> Any:
    """Make the gradients of a block of a token and of `score`, and return where the first one is. The token is of a
    transfer or, with i = `target.last`, the target's own."""
    width, skipped = call.width, start * call.width * FLOAT
    to = of(call.scratch, 2, BLOCK, width)
    of_scored = of(call.scratch, 3, BLOCK, width)
    u, scored = _token_at(target, transfers, i, _rows_of(call, call.x, target.step, start), skipped)
    n = i - target.first
    shares = matrix(of(target.shares, n, 1, call.rows) + start * FLOAT, 1, rows)
    slopes = matrix(_slopes_at(call, n), 1, rows)
    token, transposed, own = matrix(u, rows, width), matrix(scored, rows, width), matrix(h, rows, width)
    grad, grad_scored = matrix(to, rows, width), matrix(of_scored, rows, width)
    for r in range(rows):
        share, slope = shares[0, r], slopes[0, r]
        for j in range(width):
            grad[r, j] = share * own[r, j] + slope * transposed[r, j]
            grad_scored[r, j] = slope * token[r, j]
    if target.grad_score:
        _product_tn(call, u, of_scored, target.grad_score, rows, 1 if start or n else 0)
    _product(call, of_scored, _panels(call, target.last + 2 * t), to, rows, ADD)
    return to


@helper
def _transfer_backward(call: Any, transfer: Any, weight: int, grad: int, start: int, rows: int) -> None:
    """Adds what a token's gradient makes of the source's, the weight's and the bias's."""
    width, size = call.width, call.width * FLOAT
    _mask(transfer.token + start * size, grad, rows, width)
    if transfer.grad_weight:
        _add_rows(grad, transfer.grad_bias, rows, width)
        source = _rows_of(call, call.out, transfer.source, start)
        _product_tn(call, source, grad, transfer.grad_weight, rows, 1 if start else 0)
    _product(call, grad, weight, _rows_of(call, call.grad_x, transfer.source, start), rows, ADD)


@helper
def _mix(call: Any, target: Any, transfers: Any, own: int, kept: int, first: int, rows: int) -> None:
    """A block's `shares` and `mixture`; `kept` bytes and `first` rows are before it in the buffers."""
    width, tokens = call.width, target.last - target.first + 1
    held, scale = call.rows if call.keep else BLOCK, np.float32(1 / math.sqrt(call.width))
    mixture = matrix(target.mixture + kept, rows, width)
    for i in range(target.first, target.last + 1):
        u, scored = _token_at(target, transfers, i, own, kept)
        _dots(u, scored, of(target.shares, i - target.first, 1, held) + first * FLOAT, scale, rows, width)
    _softmax(target.shares + first * FLOAT, held, tokens, rows)
    fill_zeros(target.mixture + kept, rows, width)
    for i in range(target.first, target.last + 1):
        u, _ = _token_at(target, transfers, i, own, kept)
        shares = matrix(of(target.shares, i - target.first, 1, held) + first * FLOAT, 1, rows)
        token = matrix(u, rows, width)
        for r in range(rows):
            share = shares[0, r]
            for j in range(width):
                mixture[r, j] += share * token[r, j]


@helper
def _dots(x: int, y: int, to: int, scale: Any, rows: int, width: int) -> None:
    """The rows' inner products, times `scale`."""
    a, b, out = matrix(x, rows, width), matrix(y, rows, width), matrix(to, 1, rows)
    for r in range(rows):
        total = np.float32(0)
        for j in range(width):
            total += a[r, j] * b[r, j]
        out[0, r] = scale * total


@helper
def _softmax(scores: int, held: int, tokens: int, rows: int) -> None:
    """In place, over the tokens, each with `held` numbers to the next one's."""
    for r in range(rows):
        most, total = matrix(scores, 1, rows)[0, r], np.float32(0)
        for n in range(1, tokens):
            most = max(most, matrix(scores + n * held * FLOAT, 1, rows)[0, r])
        for n in range(tokens):
            own = matrix(scores + n * held * FLOAT, 1, rows)
            own[0, r] = math.exp(own[0, r] - most)
            total += own[0, r]
        for n in range(tokens):
            matrix(scores + n * held * FLOAT, 1, rows)[0, r] /= total


@helper
def _slopes(call: Any, target: Any, transfers: Any, h: int, start: int, rows: int) -> None:
    """A block's c."""
    width, tokens = call.width, target.last - target.first + 1
    scale = np.float32(1 / math.sqrt(call.width))
    own_token, skipped = _rows_of(call, call.x, target.step, start), start * width * FLOAT
    for n in range(tokens):
        u, _ = _token_at(target, transfers, target.first + n, own_token, skipped)
        _dots(h, u, _slopes_at(call, n), np.float32(1), rows, width)
    for r in range(rows):
        mean = np.float32(0)
        for n in range(tokens):
            share = matrix(of(target.shares, n, 1, call.rows), 1, call.rows)[0, start + r]
            mean += share * matrix(_slopes_at(call, n), 1, rows)[0, r]
        for n in range(tokens):
            share = matrix(of(target.shares, n, 1, call.rows), 1, call.rows)[0, start + r]
            slopes = matrix(_slopes_at(call, n), 1, rows)
            slopes[0, r] = scale * share * (slopes[0, r] - mean)


@helper
def _slopes_at(call: Any, n: int) -> Any:
    """Where a block of the n-th token's c is."""
    return of(call.scratch, 5, BLOCK, call.width) + n * BLOCK * FLOAT


@helper
def _token_at(target: Any, transfers: Any, i: int, own: int, kept: int) -> Any:
    """Where a block of a token begins, and of it gemm `score`: of an transfer `kept` bytes into what it keeps; with
    i = `target.last` the target's own."""
    if i < target.last:
        return transfers[i].token + kept, transfers[i].scored + kept
    return own, target.scored + kept


@helper
def _pack_all(call: Any, targets: Any, transfers: Any, forth: int) -> None:
    """Every matrix in panels: by target its transfers' weights, `score` and `value`. `forth`: FORWARD or BACKWARD."""
    for t in range(len(targets)):
        target = targets[t]
        for i in range(target.first, target.last):
            _pack_matrix(call, transfers[i].weight, forth, call.packed, i + 2 * t)
        _pack_matrix(call, target.score, 1 - forth, call.packed, target.last + 2 * t)
        _pack_matrix(call, target.value, forth, call.packed, target.last + 2 * t + 1)


@helper
def _pack_matrix(call: Any, w: int, transposed: int, packed: int, n: int) -> None:
    """The n-th of all matrices."""
    width, to = call.width, _panels(call, n) - call.packed + packed
    if call.bf16 and transposed:
        pack_vnni_transposed(w, width, width, to, call.vnni)
    elif call.bf16:
        pack_vnni(w, width, width, to)
    elif transposed:
        pack(w, FLOAT, width * FLOAT, width, width, to)
    else:
        pack(w, width * FLOAT, FLOAT, width, width, to)


@helper
def _product(call: Any, x: int, packed: int, y: int, rows: int, beta: int) -> None:
    product(x, packed, y, rows, call.width, call.width, beta, call.gemm_scratch, call.vnni, call.bf16)


@helper
def _product_tn(call: Any, x: int, g: int, w: int, rows: int, beta: int) -> None:
    width, scratch = call.width, call.gemm_scratch
    product_tn(x, g, w, width, rows, width, beta, scratch, call.vnni, call.vnni_step, call.bf16)


@helper
def _panels(call: Any, n: int) -> Any:
    """Where the n-th of all matrices is in panels."""
    return call.packed + n * packed_size(depth_of(call, call.width), call.width)


@helper
def _rows_of(call: Any, x: int, step: int, start: int) -> Any:
    """Where a step's rows begin in (T, B, H)."""
    return of(x, step, call.rows, call.width) + start * call.width * FLOAT


@helper
def _bias_relu(x: int, bias: int, rows: int, width: int) -> None:
    """In place, the positive part of x + bias."""
    y, b = matrix(x, rows, width), matrix(bias, 1, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + b[0, j]
            y[r, j] = np.float32(0) if value <= 0 else value


@helper
def _mask(y: int, x: int, rows: int, width: int) -> None:
    """In place, 0 for x where y is not above 0."""
    a, b = matrix(y, rows, width), matrix(x, rows, width)
    for r in range(rows):
        for j in range(width):
            b[r, j] = np.float32(0) if a[r, j] <= 0 else b[r, j]


@helper
def _add_rows(x: int, to: int, rows: int, width: int) -> None:
    """Adds the sum of x's rows."""
    a, b = matrix(x, rows, width), matrix(to, 1, width)
    for r in range(rows):
        for j in range(width):
            b[0, j] += a[r, j]
