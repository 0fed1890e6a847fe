"""A step's tokens weighed by their scores and added up, in one compiled pass each way, with two derivatives.

Of tokens u_i and z_i = u_i S, each (B, H), with c = 1 / √H, and of a gradient m̄ of the mixture m:

    s_i = c ⟨z_i, u_i⟩,   w = softmax(s),   m = Σ w_i u_i,   a_i = ⟨m̄, u_i⟩,   t_i = w_i (a_i − Σ_j w_j a_j),
    ∂z_i = c t_i u_i,   ∂u_i = w_i m̄ + c t_i z_i,

and of gradients Z_i, U_i of these two, with e_i = c (⟨Z_i, u_i⟩ + ⟨U_i, z_i⟩), A = Σ w_j a_j, E = Σ w_j e_j,
d_i = w_i (e_i − E), o_i = a_i (e_i − E) − A e_i + ⟨U_i, m̄⟩ and r_i = w_i (o_i − Σ_j w_j o_j):

    ∂m̄ = Σ (d_i u_i + w_i U_i),   ∂u_i = c t_i Z_i + d_i m̄ + c r_i z_i,   ∂z_i = c t_i U_i + c r_i u_i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.calls import addresses
from funnelcast.layers.products import matrix
from funnelcast.layers.tape import perform
from funnelcast.layers.tiles import FLOAT


def fused_tokens(tokens: Sequence[Tensor], scored: Sequence[Tensor]) -> Tensor:
    """The mixture (B, H) of tokens u_i by z_i, in float32 on the CPU; twice differentiable."""
    mixed: Tensor = FusedTokens.apply(*tokens, *scored)  # type: ignore[no-untyped-call]
    return mixed


class FusedTokens(torch.autograd.Function):
    """Of the tokens u_i, then the z_i -> (B, H)."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        given = tuple(each.contiguous() for each in given)
        mixed, shares = torch.empty_like(given[0]), given[0].new_empty(len(given[0]), len(given) // 2)
        perform(mix, _places(given), shares.numpy(), mixed.detach().numpy())
        ctx.save_for_backward(shares, *given)
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return FusedTokensBack.apply(grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class FusedTokensBack(torch.autograd.Function):
    """The gradients of `FusedTokens` by what it is given, which can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, shares: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        grad = grad.contiguous()
        found = tuple(torch.empty_like(each) for each in given)
        perform(mix_back, _places(given), shares.numpy(), grad.detach().numpy(), _places(found))
        ctx.save_for_backward(grad, shares, *given)
        return found

    @staticmethod
    def backward(ctx: Any, *turns: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedTokens has no third derivative; take plain operations")
        grad, shares, *given = ctx.saved_tensors
        turns = tuple(turn.contiguous() for turn in turns)
        by_grad, found = torch.empty_like(grad), [torch.empty_like(each) for each in given]
        places = (_places(turns), by_grad.numpy(), _places(found))
        perform(mix_twice, _places(given), shares.numpy(), grad.numpy(), *places)
        return by_grad, None, *found


def _places(tensors: Sequence[Tensor]) -> NDArray[np.int64]:
    return np.array(addresses(tensors), np.int64)


@compiled_for_speed
def mix(given: Any, shares: Any, mixed: Any) -> None:
    """Fills `shares` (B, n), the w_i, and `mixed` (B, H)."""
    rows, tokens = shares.shape
    width = mixed.shape[1]
    scale = np.float32(1 / math.sqrt(width))
    for b in range(rows):
        most = np.float32(-np.inf)
        for i in range(tokens):
            shares[b, i] = scale * _product(_row(given[tokens + i], b, width), _row(given[i], b, width))
            most = max(most, shares[b, i])
        total = np.float32(0)
        for i in range(tokens):
            shares[b, i] = math.exp(shares[b, i] - most)
            total += shares[b, i]
        for j in range(width):
            mixed[b, j] = 0
        for i in range(tokens):
            shares[b, i] /= total
            u = _row(given[i], b, width)
            for j in range(width):
                mixed[b, j] += shares[b, i] * u[j]


@compiled_for_speed
def mix_back(given: Any, shares: Any, grad: Any, found: Any) -> None:
    """Fills the gradients at `found` from grad (B, H)."""
    rows, tokens = shares.shape
    width = grad.shape[1]
    scale, a = np.float32(1 / math.sqrt(width)), np.empty(tokens, np.float32)
    for b in range(rows):
        own, mean = grad[b], np.float32(0)
        for i in range(tokens):
            a[i] = _product(own, _row(given[i], b, width))
            mean += shares[b, i] * a[i]
        for i in range(tokens):
            w, t = shares[b, i], scale * shares[b, i] * (a[i] - mean)
            u, z = _row(given[i], b, width), _row(given[tokens + i], b, width)
            by_u, by_z = _row(found[i], b, width), _row(found[tokens + i], b, width)
            for j in range(width):
                by_u[j] = w * own[j] + t * z[j]
                by_z[j] = t * u[j]


@compiled_for_speed
def mix_twice(given: Any, shares: Any, grad: Any, turns: Any, by_grad: Any, found: Any) -> None:
    """Fills `by_grad` (B, H) and the gradients at `found` from those at `turns`, of what `mix_back` made."""
    rows, tokens = shares.shape
    width = grad.shape[1]
    scale = np.float32(1 / math.sqrt(width))
    a, e, o = np.empty((3, tokens), np.float32)
    for b in range(rows):
        own, mean_a, mean_e, mean_o = grad[b], np.float32(0), np.float32(0), np.float32(0)
        for i in range(tokens):
            u, z = _row(given[i], b, width), _row(given[tokens + i], b, width)
            turn_u, turn_z = _row(turns[i], b, width), _row(turns[tokens + i], b, width)
            a[i], o[i] = _product(own, u), _product(own, turn_u)
            e[i] = scale * (_product(turn_z, u) + _product(turn_u, z))
            mean_a += shares[b, i] * a[i]
            mean_e += shares[b, i] * e[i]
        for i in range(tokens):
            o[i] += a[i] * (e[i] - mean_e) - mean_a * e[i]
            mean_o += shares[b, i] * o[i]
        for j in range(width):
            by_grad[b, j] = 0
        for i in range(tokens):
            w = shares[b, i]
            t, d, r = scale * w * (a[i] - mean_a), w * (e[i] - mean_e), scale * w * (o[i] - mean_o)
            u, z = _row(given[i], b, width), _row(given[tokens + i], b, width)
            turn_u, turn_z = _row(turns[i], b, width), _row(turns[tokens + i], b, width)
            by_u, by_z = _row(found[i], b, width), _row(found[tokens + i], b, width)
            for j in range(width):
                by_grad[b, j] += d * u[j] + w * turn_u[j]
                by_u[j] = t * turn_z[j] + d * own[j] + r * z[j]
                by_z[j] = t * turn_u[j] + r * u[j]


@compiled_for_speed
def _row(place: int, b: int, width: int) -> Any:
    return matrix(place + b * width * FLOAT, 1, width)[0]


@compiled_for_speed
def _product(x: Any, y: Any) -> Any:
    total = np.float32(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total
