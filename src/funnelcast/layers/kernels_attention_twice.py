"""Compiled loops of attention's second derivative, a block of rows at a time.

`attend_back` makes the gradient of ⟨g, A(θ)⟩ by all that attention A is of, θ. Of a gradient θ' of that gradient, the
one by g is A', how A changes along θ', and the one by θ is how the gradient of ⟨g, A⟩ changes along θ': all that
`attend` and `attend_back` do, by the product rule. A gradient g' of A from elsewhere, whose own gradient by θ is to be
added, is g changing by g'.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.kernels_attention import (
    add_rows,
    copy,
    dots,
    mask,
    pack_all,
    pack_matrix,
    panels,
    rows_of,
    slopes_at,
    token_at,
)
from funnelcast.layers.products import NOTHING, matrix, of, times, turned_times
from funnelcast.layers.tiles import FLOAT


@compiled_for_speed
def attend_along(calls: Any, targets: Any, edges: Any) -> None:
    """Fills `turn_out`, and every `turn_…` of what `attend` filled of targets and edges."""
    call = calls[0]
    width = call.width
    _pack_both(call, targets, edges, 1)
    for start in range(0, call.rows, BLOCK):
        rows, kept = min(BLOCK, call.rows - start), start * width * FLOAT
        for step in range(call.steps):
            copy(rows_of(call, call.turn_x, step, start), rows_of(call, call.turn_out, step, start), rows, width)
        for t in range(len(targets)):
            target, score = targets[t], targets[t].last + 2 * t
            for i in range(target.first, target.last):
                edge, told, turned = edges[i], edges[i].told + kept, edges[i].turn_told + kept
                source = rows_of(call, call.out, edge.source, start)
                turn = rows_of(call, call.turn_out, edge.source, start)
                _times_both(call, source, turn, i + 2 * t, turned, rows, NOTHING)
                _rectify_along(told, turned, edge.turn_bias, rows, width)
                _times_both(call, told, turned, score, edge.turn_scored + kept, rows, NOTHING)
            own, turn = rows_of(call, call.x, target.step, start), rows_of(call, call.turn_x, target.step, start)
            _times_both(call, own, turn, score, target.turn_scored + kept, rows, NOTHING)
            _mix_along(call, target, edges, start, rows)
            out = rows_of(call, call.turn_out, target.step, start)
            _times_both(call, target.mixed + kept, target.turn_mixed + kept, score + 1, out, rows, NOTHING)


@compiled_for_speed
def attend_twice(calls: Any, targets: Any, edges: Any) -> None:
    """Fills `grad_x`, and every gradient of a weight and a bias that has room, from `turn_grad`; after `attend_back`,
    which kept what it made, and `attend_along`."""
    call = calls[0]
    width = call.width
    _pack_both(call, targets, edges, 0)
    for i in range(len(edges)):
        if edges[i].grad_bias:
            matrix(edges[i].grad_bias, 1, width)[:] = np.float32(0)
    for start in range(0, call.rows, BLOCK):
        rows, kept = min(BLOCK, call.rows - start), start * width * FLOAT
        for step in range(call.steps):
            copy(rows_of(call, call.turn_grad, step, start), rows_of(call, call.grad_x, step, start), rows, width)
        for t in range(len(targets) - 1, -1, -1):
            target, own, score = targets[t], rows_of(call, call.grad_x, targets[t].step, start), targets[t].last + 2 * t
            g, turn = target.grad_out + kept, _space(call, 0)
            copy(own, turn, rows, width)
            if target.grad_value:
                mixed, turn_mixed = target.mixed + kept, target.turn_mixed + kept
                _add_both(call, mixed, turn_mixed, g, turn, target.grad_value, rows, 1 if start else 0)
            _times_both(call, g, turn, score + 1, _space(call, 1), rows, NOTHING)
            _slopes_along(call, target, edges, start, rows)
            for i in range(target.first, target.last):
                grad = _token_twice(call, target, edges, i, score, start, rows)
                _edge_twice(call, edges[i], i + 2 * t, grad, start, rows)
            copy(_token_twice(call, target, edges, target.last, score, start, rows), own, rows, width)


@compiled_for_speed
def _token_twice(call: Any, target: Any, edges: Any, i: int, score: int, start: int, rows: int) -> Any:
    """Where it is how the gradient of a block of a token changes; adds that of `score` by it. As `_token_back`."""
    width, n = call.width, i - target.first
    to, first, second = _space(call, 2), _space(call, 3), _space(call, 4)
    u, s, turn_u, turn_s = _token_at(call, target, edges, i, start)
    shares, turn_shares = _numbers(call, target.shares, n, start), _numbers(call, target.turn_shares, n, start)
    slopes, turn_slopes = matrix(slopes_at(call, target, n, start), 1, rows), matrix(_dots_at(call, n), 1, rows)
    token, turn_token = matrix(u, rows, width), matrix(turn_u, rows, width)
    scored, turn_scored = matrix(s, rows, width), matrix(turn_s, rows, width)
    own, turn_own = matrix(target.grad_mixed + start * width * FLOAT, rows, width), matrix(_space(call, 1), rows, width)
    grad, of_scored, turn_of_scored = matrix(to, rows, width), matrix(first, rows, width), matrix(second, rows, width)
    for r in range(rows):
        a, turn_a, c, turn_c = shares[r], turn_shares[r], slopes[0, r], turn_slopes[0, r]
        for j in range(width):
            grad[r, j] = turn_a * own[r, j] + a * turn_own[r, j] + turn_c * scored[r, j] + c * turn_scored[r, j]
            of_scored[r, j] = c * token[r, j]
            turn_of_scored[r, j] = turn_c * token[r, j] + c * turn_token[r, j]
    if target.grad_score:
        _add_both(call, u, turn_u, first, second, target.grad_score, rows, 1 if start or n else 0)
    _times_both(call, first, second, score, to, rows, 1)
    return to


@compiled_for_speed
def _edge_twice(call: Any, edge: Any, n: int, grad: int, start: int, rows: int) -> None:
    """Adds what a token's changing gradient makes of the source's, the weight's and the bias's. As `_back_by_edge`."""
    width, kept = call.width, start * call.width * FLOAT
    mask(edge.told + kept, grad, rows, width)
    before = edge.grad_told + kept
    if edge.grad_weight:
        add_rows(grad, edge.grad_bias, rows, width)
        source, turn = rows_of(call, call.out, edge.source, start), rows_of(call, call.turn_out, edge.source, start)
        _add_both(call, source, turn, before, grad, edge.grad_weight, rows, 1 if start else 0)
    _times_both(call, before, grad, n, rows_of(call, call.grad_x, edge.source, start), rows, 1)


@compiled_for_speed
def _mix_along(call: Any, target: Any, edges: Any, start: int, rows: int) -> None:
    """A block's `turn_shares` and `turn_mixed`."""
    width, tokens = call.width, target.last - target.first + 1
    scale, mixed = np.float32(1 / math.sqrt(width)), matrix(target.turn_mixed + start * width * FLOAT, rows, width)
    for n in range(tokens):
        u, s, turn_u, turn_s = _token_at(call, target, edges, target.first + n, start)
        dots(u, turn_s, _dots_at(call, n), scale, rows, width)
        dots(turn_u, s, _dots_at(call, tokens + n), scale, rows, width)
    for r in range(rows):
        mean = np.float32(0)
        for n in range(tokens):
            slope = _dot(call, n, r) + _dot(call, tokens + n, r)
            mean += _numbers(call, target.shares, n, start)[r] * slope
        for n in range(tokens):
            slope, share = _dot(call, n, r) + _dot(call, tokens + n, r), _numbers(call, target.shares, n, start)[r]
            _numbers(call, target.turn_shares, n, start)[r] = share * (slope - mean)
    mixed[:] = np.float32(0)
    for n in range(tokens):
        u, _, turn_u, _ = _token_at(call, target, edges, target.first + n, start)
        token, turn_token = matrix(u, rows, width), matrix(turn_u, rows, width)
        shares, turn_shares = _numbers(call, target.shares, n, start), _numbers(call, target.turn_shares, n, start)
        for r in range(rows):
            a, turn_a = shares[r], turn_shares[r]
            for j in range(width):
                mixed[r, j] += turn_a * token[r, j] + a * turn_token[r, j]


@compiled_for_speed
def _slopes_along(call: Any, target: Any, edges: Any, start: int, rows: int) -> None:
    """How a block's c changes: each token's `_dots_at` its number. As `_slopes`."""
    width, tokens = call.width, target.last - target.first + 1
    h, turn_h = target.grad_mixed + start * width * FLOAT, _space(call, 1)
    scale, one = np.float32(1 / math.sqrt(width)), np.float32(1)
    for n in range(tokens):
        u, _, turn_u, _ = _token_at(call, target, edges, target.first + n, start)
        dots(turn_h, u, _dots_at(call, n), one, rows, width)
        dots(h, turn_u, _dots_at(call, tokens + n), one, rows, width)
        dots(h, u, _dots_at(call, 2 * tokens + n), one, rows, width)
    for r in range(rows):
        mean, turn_mean = np.float32(0), np.float32(0)
        for n in range(tokens):
            a, turn_a = _numbers(call, target.shares, n, start)[r], _numbers(call, target.turn_shares, n, start)[r]
            mean += a * _dot(call, 2 * tokens + n, r)
            turn_mean += turn_a * _dot(call, 2 * tokens + n, r) + a * (_dot(call, n, r) + _dot(call, tokens + n, r))
        for n in range(tokens):
            a, turn_a = _numbers(call, target.shares, n, start)[r], _numbers(call, target.turn_shares, n, start)[r]
            turn = _dot(call, n, r) + _dot(call, tokens + n, r)
            changed = turn_a * (_dot(call, 2 * tokens + n, r) - mean) + a * (turn - turn_mean)
            matrix(_dots_at(call, n), 1, rows)[0, r] = scale * changed


@compiled_for_speed
def _rectify_along(y: int, turn: int, bias: int, rows: int, width: int) -> None:
    """In place, how the positive part `y` of something changes, from how that does but for its `bias`."""
    own, b = matrix(turn, rows, width), matrix(bias, 1, width)
    for r in range(rows):
        for j in range(width):
            own[r, j] += b[0, j]
    mask(y, turn, rows, width)


@compiled_for_speed
def _times_both(call: Any, x: int, turn: int, n: int, to: int, rows: int, keep: int) -> None:
    """How x times the n-th matrix changes, + keep · what is there."""
    width, matrix_n = call.width, panels(call, n)
    times(turn, matrix_n, to, rows, width, width, keep, call.room, 0)
    times(x, matrix_n - call.packed + call.turn_packed, to, rows, width, width, 1, call.room, 0)


@compiled_for_speed
def _add_both(call: Any, x: int, turn_x: int, g: int, turn_g: int, to: int, rows: int, keep: int) -> None:
    """How Xᵀ G changes, + keep · what is there."""
    turned_times(x, turn_g, to, call.width, rows, call.width, keep, call.room, 0)
    turned_times(turn_x, g, to, call.width, rows, call.width, 1, call.room, 0)


@compiled_for_speed
def _pack_both(call: Any, targets: Any, edges: Any, forth: int) -> None:
    """Every matrix in panels, and every gradient of its gradient, as (in, out)."""
    pack_all(call, targets, edges, forth)
    for t in range(len(targets)):
        target, score = targets[t], targets[t].last + 2 * t
        for i in range(target.first, target.last):
            pack_matrix(call, edges[i].turn_weight, 1 - forth, call.turn_packed, i + 2 * t)
        pack_matrix(call, target.turn_score, 1 - forth, call.turn_packed, score)
        pack_matrix(call, target.turn_value, 1 - forth, call.turn_packed, score + 1)


@compiled_for_speed
def _token_at(call: Any, target: Any, edges: Any, i: int, start: int) -> Any:
    """Where a block of a token begins, and of it times `score`, and how each changes."""
    kept = start * call.width * FLOAT
    u, s = token_at(target, edges, i, rows_of(call, call.x, target.step, start), kept)
    if i < target.last:
        return u, s, edges[i].turn_told + kept, edges[i].turn_scored + kept
    return u, s, rows_of(call, call.turn_x, target.step, start), target.turn_scored + kept


@compiled_for_speed
def _numbers(call: Any, x: int, n: int, start: int) -> Any:
    """A block of the n-th token's of (tokens, B)."""
    return matrix(of(x, n, 1, call.rows) + start * FLOAT, 1, min(BLOCK, call.rows - start))[0]


@compiled_for_speed
def _space(call: Any, n: int) -> Any:
    """Scratch space for a block's rows."""
    return of(call.scratch, n, BLOCK, call.width)


@compiled_for_speed
def _dots_at(call: Any, n: int) -> Any:
    """Scratch space for a block's numbers, after five for rows."""
    return _space(call, 5) + n * BLOCK * FLOAT


@compiled_for_speed
def _dot(call: Any, n: int, r: int) -> Any:
    return matrix(_dots_at(call, n), 1, BLOCK)[0, r]
