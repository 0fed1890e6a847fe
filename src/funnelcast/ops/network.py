"""The operations of a network's layers. Shapes: B rows, T steps, N networks, H hidden, K gate weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from funnelcast.ops.dispatch import op
from funnelcast.ops.dropout import DropoutKey, dropout

Edges = tuple[tuple[int, int, int], ...]
"""(gate, expert, column of the gate weights) of each gate that sees an expert."""
Field = tuple[int, int, int, int]
"""(column of a batch's ids, number of ids, first column of x, width) of a field of one id."""


@op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """Return x Wᵀ + b, or its positive part; x (…, in), weight (out, in), bias (out,) -> (…, out)."""
    y = functional.linear(x, weight, bias)
    return y.relu() if relu else y


def linear_bank(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W_n + b_n of N layers; x (B, in) or (N, B, in), weight (N, in, out), bias (N, out) -> (N, B, out)."""
    x = x.expand(len(weight), -1, -1) if x.dim() == 2 else x
    added = bias.unsqueeze(1) if bias is not None else x.new_zeros(())
    if weight.shape[2] == 1:  # a sum is faster than a product with one column
        return (x * weight.transpose(1, 2)).sum(2, keepdim=True) + added
    return torch.baddbmm(added, x, weight)


@op
def mlp_bank(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, slope: float = 0.0,
    rates: Sequence[float] = (), key: DropoutKey | None = None,
) -> Tensor:  # fmt: skip
    """Return f_n(x) of N perceptrons: h = dropout(leaky_relu(h W_i + b_i)) layer by layer.

    Args:
        x: (B, in), or (N, B, in) with an input for each.
        weights: (N, in, out) by layer.
        biases: (N, out) by layer.
        slope: of the activation below 0; 0 for ReLU.
        rates: of dropout after each layer, or none.
        key: of the dropout masks; none for no dropout.

    Returns:
        (N, B, out) of the last layer.
    """
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = functional.leaky_relu(linear_bank(x, weight, bias), slope)
        x = dropout(x, rates[i], key) if rates else x
    return x


@op
def expert_mixture(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], gates: Tensor, edges: Edges, *, slope: float = 0.0
) -> Tensor:
    """Return m_t = Σ_n g_tn f_n(x), over the experts n that gate t sees.

    Args:
        x, weights, biases, slope: of the experts f_n, as of `mlp_bank`.
        gates: (B, K), one column for each of `edges`.
        edges: (gate, expert, column).

    Returns:
        (T, B, H) for T gates.
    """
    outputs = mlp_bank(x, weights, biases, slope=slope).unbind()
    terms: dict[int, list[Tensor]] = {}
    for gate, expert, column in edges:
        terms.setdefault(gate, []).append(gates[:, column : column + 1] * outputs[expert])
    return torch.stack([torch.stack(terms[gate]).sum(0) for gate in sorted(terms)])


@op
def softmax_gates(logits: Tensor, widths: Sequence[int]) -> Tensor:
    """Return a softmax over the first `widths[0]` columns, one over the next `widths[1]`, …; (B, K) -> (B, K)."""
    if len(set(widths)) == 1:
        return logits.view(-1, len(widths), widths[0]).softmax(dim=2).flatten(1)
    return torch.cat([each.softmax(dim=1) for each in logits.split(list(widths), dim=1)], dim=1)


def step_attention(
    x: Tensor, sources: Mapping[int, Sequence[int]], transfers: Sequence[tuple[Tensor, Tensor]],
    query: Sequence[Tensor], key: Sequence[Tensor], value: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Return the steps' vectors after attention to earlier steps (Xi et al. 2021, eq. 4-6), for each target.

        u_i = relu(W_i p_i + b_i) of its sources' new vectors p_i, and last its own vector,
        a = softmax_i(⟨Q u_i, K u_i⟩ / √H),   v = Σ_i a_i V u_i.

    Args:
        x: (T, B, H).
        sources: by target, in ascending order, the earlier steps that it attends to. Others pass unchanged.
        transfers: (W, b) by target and source, in the order of `sources`.
        query, key, value: (H, H) by target.

    Returns:
        (T, B, H).
    """
    return torch.stack(attend(x, sources, transfers, query, key, value)[0])


def attend(
    x: Tensor, sources: Mapping[int, Sequence[int]], transfers: Sequence[tuple[Tensor, Tensor]],
    query: Sequence[Tensor], key: Sequence[Tensor], value: Sequence[Tensor],
) -> tuple[list[Tensor], dict[int, Tensor]]:  # fmt: skip
    """Return the new vectors (B, H) of `step_attention` by step, and by target the weights a (tokens, B).

    ⟨Q u, K u⟩ = ⟨Qᵀ K u, u⟩ is one product with the tokens instead of two, and Σ a V u = V Σ a u.
    """
    vectors, remaining = list(x.unbind()), iter(transfers)
    shares: dict[int, Tensor] = {}
    for i, (target, own) in enumerate(sources.items()):
        pairs = [(vectors[source], next(remaining)) for source in own]
        tokens = torch.stack([*(linear(p, *transfer, relu=True) for p, transfer in pairs), vectors[target]])
        scores = (linear(tokens, query[i].t() @ key[i]) * tokens).sum(-1) / math.sqrt(x.shape[-1])
        shares[target] = scores.softmax(dim=0)
        vectors[target] = linear((shares[target].unsqueeze(-1) * tokens).sum(0), value[i])
    return vectors, shares


@op
def self_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return softmax(Q Kᵀ / √d + mask) V; query, key and value (N, B, heads, L, d), mask (B, 1, 1, L)."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return (scores + mask).softmax(-1) @ value


@op
def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x_tb · w_t + c_t; x (T, B, H) or (B, H), weight (T, H, 1), bias (T, 1) -> (B, T)."""
    return linear_bank(x, weight, bias).squeeze(-1).t()


@op
def deduplicate(x: Tensor, ids: Tensor | None, fields: tuple[Field, ...]) -> Tensor:
    """Return x (B, D), of which a backend may now know which rows have equal vectors of which fields.

    The gradient by x may then have, in the columns of a field, the sum over rows of an id in one of these rows: added
    up by ids, as embeddings are, it is the same.

    Args:
        x: begins with vectors that were looked up for `ids`.
        ids: (B, F); none where rows of the same ids may differ.
        fields: what of x is a field of one id.
    """
    return x
