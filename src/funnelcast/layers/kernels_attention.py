"""Compiled loops of attention between steps: all targets of a block of rows while it is in cache.

With p_i the sources' vectors, a target's tokens are u_i = relu(p_i W_iᵀ + b_i) and last its own vector. With S and V
its `score` and `value`, shares a = softmax(⟨u_i S, u_i⟩ / √H) and m = Σ a_i u_i, its new vector is m Vᵀ. Back from the
gradient h of m, with c_i = a_i (⟨h, u_i⟩ - Σ_j a_j ⟨h, u_j⟩) / √H, u_i has a_i h + c_i u_i S + c_i u_i Sᵀ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.halves import pack_pairs, pack_turned_pairs
from funnelcast.layers.kernels import BLOCK, depth_of, product, turned_product
from funnelcast.layers.products import NOTHING, matrix, of, pack, packed_size
from funnelcast.layers.tiles import FLOAT


@compiled_for_speed
def attend(calls: Any, targets: Any, edges: Any) -> None:
    """Fills `out`, every target's `shares`, `mixed` and `scored`, and every edge's `told` and `scored`."""
    call = calls[0]
    width, size = call.width, call.width * FLOAT
    pack_all(call, targets, edges, 1)
    for start in range(0, call.rows, BLOCK):
        rows, kept = min(BLOCK, call.rows - start), start * size if call.keep else 0
        for step in range(call.steps):
            copy(rows_of(call, call.x, step, start), rows_of(call, call.out, step, start), rows, width)
        for t in range(len(targets)):
            target, own = targets[t], rows_of(call, call.x, targets[t].step, start)
            score, value = panels(call, target.last + 2 * t), panels(call, target.last + 2 * t + 1)
            for i in range(target.first, target.last):
                told, source = edges[i].told + kept, rows_of(call, call.out, edges[i].source, start)
                product(call, source, panels(call, i + 2 * t), told, rows, width, width, NOTHING)
                _rectify(told, edges[i].bias, rows, width)
                product(call, told, score, edges[i].scored + kept, rows, width, width, NOTHING)
            product(call, own, score, target.scored + kept, rows, width, width, NOTHING)
            _mix(call, target, edges, own, kept, start if call.keep else 0, rows)
            out = rows_of(call, call.out, target.step, start)
            product(call, target.mixed + kept, value, out, rows, width, width, NOTHING)


@compiled_for_speed
def attend_back(calls: Any, targets: Any, edges: Any) -> None:
    """Fills `grad_x` from `grad`, and every gradient of a weight and a bias that has room."""
    call = calls[0]
    width, size = call.width, call.width * FLOAT
    pack_all(call, targets, edges, 0)
    for i in range(len(edges)):
        if edges[i].grad_bias:
            matrix(edges[i].grad_bias, 1, width)[:] = np.float32(0)
    for start in range(0, call.rows, BLOCK):
        rows, later = min(BLOCK, call.rows - start), 1 if start else 0
        for step in range(call.steps):
            copy(rows_of(call, call.grad, step, start), rows_of(call, call.grad_x, step, start), rows, width)
        for t in range(len(targets) - 1, -1, -1):
            target, own = targets[t], rows_of(call, call.grad_x, targets[t].step, start)
            mixed = target.mixed + start * size
            g = place_of(call, target.grad_out, 0, start)
            h = place_of(call, target.grad_mixed, 1, start)
            copy(own, g, rows, width)
            if target.grad_value:
                turned_product(call, mixed, g, target.grad_value, width, rows, width, later)
            product(call, g, panels(call, target.last + 2 * t + 1), h, rows, width, width, NOTHING)
            _slopes(call, target, edges, h, start, rows)
            for i in range(target.first, target.last):
                to = _token_back(call, target, t, edges, i, h, start, rows)
                _back_by_edge(call, edges[i], panels(call, i + 2 * t), to, start, rows)
            copy(_token_back(call, target, t, edges, target.last, h, start, rows), own, rows, width)


@compiled_for_speed
def _token_back(call: Any, target: Any, t: int, edges: Any, i: int, h: int, start: int, rows: int) -> Any:
    """Where the gradient of a block of a token is, of an edge or, with i = `target.last`, the target's own; and that of
    `score` by it."""
    width, skipped = call.width, start * call.width * FLOAT
    to: Any = of(call.scratch, 2, BLOCK, width)
    if i < target.last:
        to = place_of(call, edges[i].grad_told, 2, start)
    of_scored = of(call.scratch, 3, BLOCK, width)
    u, scored = token_at(target, edges, i, rows_of(call, call.x, target.step, start), skipped)
    n = i - target.first
    shares = matrix(of(target.shares, n, 1, call.rows) + start * FLOAT, 1, rows)
    slopes = matrix(slopes_at(call, target, n, start), 1, rows)
    token, turned, own = matrix(u, rows, width), matrix(scored, rows, width), matrix(h, rows, width)
    grad, grad_scored = matrix(to, rows, width), matrix(of_scored, rows, width)
    for r in range(rows):
        share, slope = shares[0, r], slopes[0, r]
        for j in range(width):
            grad[r, j] = share * own[r, j] + slope * turned[r, j]
            grad_scored[r, j] = slope * token[r, j]
    if target.grad_score:
        turned_product(call, u, of_scored, target.grad_score, width, rows, width, 1 if start or n else 0)
    product(call, of_scored, panels(call, target.last + 2 * t), to, rows, width, width, 1)
    return to


@compiled_for_speed
def _back_by_edge(call: Any, edge: Any, weight: int, grad: int, start: int, rows: int) -> None:
    """Adds what a token's gradient makes of the source's, the weight's and the bias's."""
    width, size = call.width, call.width * FLOAT
    mask(edge.told + start * size, grad, rows, width)
    if edge.grad_weight:
        add_rows(grad, edge.grad_bias, rows, width)
        source = rows_of(call, call.out, edge.source, start)
        turned_product(call, source, grad, edge.grad_weight, width, rows, width, 1 if start else 0)
    product(call, grad, weight, rows_of(call, call.grad_x, edge.source, start), rows, width, width, 1)


@compiled_for_speed
def _mix(call: Any, target: Any, edges: Any, own: int, kept: int, first: int, rows: int) -> None:
    """A block's `shares` and `mixed`; `kept` bytes and `first` rows are before it in what targets and edges keep."""
    width, tokens = call.width, target.last - target.first + 1
    held, scale = call.rows if call.keep else BLOCK, np.float32(1 / math.sqrt(call.width))
    mixed = matrix(target.mixed + kept, rows, width)
    for i in range(target.first, target.last + 1):
        u, scored = token_at(target, edges, i, own, kept)
        dots(u, scored, of(target.shares, i - target.first, 1, held) + first * FLOAT, scale, rows, width)
    _softmax(target.shares + first * FLOAT, held, tokens, rows)
    mixed[:] = np.float32(0)
    for i in range(target.first, target.last + 1):
        u, _ = token_at(target, edges, i, own, kept)
        shares = matrix(of(target.shares, i - target.first, 1, held) + first * FLOAT, 1, rows)
        token = matrix(u, rows, width)
        for r in range(rows):
            share = shares[0, r]
            for j in range(width):
                mixed[r, j] += share * token[r, j]


@compiled_for_speed
def dots(x: int, y: int, to: int, scale: Any, rows: int, width: int) -> None:
    """The rows' inner products, times `scale`."""
    a, b, out = matrix(x, rows, width), matrix(y, rows, width), matrix(to, 1, rows)
    for r in range(rows):
        total = np.float32(0)
        for j in range(width):
            total += a[r, j] * b[r, j]
        out[0, r] = scale * total


@compiled_for_speed
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


@compiled_for_speed
def _slopes(call: Any, target: Any, edges: Any, h: int, start: int, rows: int) -> None:
    """A block's c."""
    width, tokens = call.width, target.last - target.first + 1
    scale = np.float32(1 / math.sqrt(call.width))
    own_token, skipped = rows_of(call, call.x, target.step, start), start * width * FLOAT
    for n in range(tokens):
        u, _ = token_at(target, edges, target.first + n, own_token, skipped)
        dots(h, u, slopes_at(call, target, n, start), np.float32(1), rows, width)
    for r in range(rows):
        mean = np.float32(0)
        for n in range(tokens):
            share = matrix(of(target.shares, n, 1, call.rows), 1, call.rows)[0, start + r]
            mean += share * matrix(slopes_at(call, target, n, start), 1, rows)[0, r]
        for n in range(tokens):
            share = matrix(of(target.shares, n, 1, call.rows), 1, call.rows)[0, start + r]
            slopes = matrix(slopes_at(call, target, n, start), 1, rows)
            slopes[0, r] = scale * share * (slopes[0, r] - mean)


@compiled_for_speed
def place_of(call: Any, kept: int, n: int, start: int) -> Any:
    """Where a block of `kept` (B, H) is, or the n-th scratch space where it is not kept."""
    return kept + start * call.width * FLOAT if kept else of(call.scratch, n, BLOCK, call.width)


@compiled_for_speed
def slopes_at(call: Any, target: Any, n: int, start: int) -> Any:
    """Where a block of the n-th token's c is."""
    if target.slopes:
        return of(target.slopes, n, 1, call.rows) + start * FLOAT
    return of(call.scratch, 5, BLOCK, call.width) + n * BLOCK * FLOAT


@compiled_for_speed
def token_at(target: Any, edges: Any, i: int, own: int, kept: int) -> Any:
    """Where a block of a token begins, and of it times `score`: of an edge `kept` bytes into what it keeps; with
    i = `target.last` the target's own."""
    if i < target.last:
        return edges[i].told + kept, edges[i].scored + kept
    return own, target.scored + kept


@compiled_for_speed
def pack_all(call: Any, targets: Any, edges: Any, forth: int) -> None:
    """Every matrix in panels: by target its edges' weights, `score` and `value`. `forth` 1 for the way forward."""
    for t in range(len(targets)):
        target = targets[t]
        for i in range(target.first, target.last):
            pack_matrix(call, edges[i].weight, forth, call.packed, i + 2 * t)
        pack_matrix(call, target.score, 1 - forth, call.packed, target.last + 2 * t)
        pack_matrix(call, target.value, forth, call.packed, target.last + 2 * t + 1)


@compiled_for_speed
def pack_matrix(call: Any, w: int, turned: int, packed: int, n: int) -> None:
    """The n-th of all matrices."""
    width, to = call.width, panels(call, n) - call.packed + packed
    if call.half and turned:
        pack_turned_pairs(w, width, width, to, call.paired)
    elif call.half:
        pack_pairs(w, width, width, to)
    elif turned:
        pack(w, FLOAT, width * FLOAT, width, width, to)
    else:
        pack(w, width * FLOAT, FLOAT, width, width, to)


@compiled_for_speed
def panels(call: Any, n: int) -> Any:
    """Where the n-th of all matrices is in panels."""
    return call.packed + n * packed_size(depth_of(call, call.width), call.width)


@compiled_for_speed
def rows_of(call: Any, x: int, step: int, start: int) -> Any:
    """Where a step's rows begin in (T, B, H)."""
    return of(x, step, call.rows, call.width) + start * call.width * FLOAT


@compiled_for_speed
def _rectify(x: int, bias: int, rows: int, width: int) -> None:
    """In place, the positive part of x + bias."""
    y, b = matrix(x, rows, width), matrix(bias, 1, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + b[0, j]
            y[r, j] = np.float32(0) if value <= 0 else value


@compiled_for_speed
def mask(y: int, x: int, rows: int, width: int) -> None:
    """In place, 0 for x where y is not above 0."""
    a, b = matrix(y, rows, width), matrix(x, rows, width)
    for r in range(rows):
        for j in range(width):
            b[r, j] = np.float32(0) if a[r, j] <= 0 else b[r, j]


@compiled_for_speed
def add_rows(x: int, to: int, rows: int, width: int) -> None:
    """Adds the sum of x's rows."""
    a, b = matrix(x, rows, width), matrix(to, 1, width)
    for r in range(rows):
        for j in range(width):
            b[0, j] += a[r, j]


@compiled_for_speed
def copy(x: int, to: int, rows: int, width: int) -> None:
    """All numbers."""
    a, b = matrix(x, rows, width), matrix(to, rows, width)
    for r in range(rows):
        for j in range(width):
            b[r, j] = a[r, j]
