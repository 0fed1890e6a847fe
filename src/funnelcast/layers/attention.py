"""Attention between the steps of a funnel, in AITM's form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from funnelcast.layers.fused_attention import Plan, fused_attention
from funnelcast.layers.linear import linear_by
from funnelcast.layers.mode import EVALUATE, Mode, is_simple


class StepAttention(nn.Module):
    """What earlier steps know, weighed against what a step knows itself.

    A step's tokens are its own vector and, for each edge into it, relu(W p + b) of the earlier step's attended
    vector p. With q_i, k_i, v_i linear in token u_i, the step's new vector is Σ_i softmax_i(⟨q_i, k_i⟩ / √H) v_i.
    Steps without an edge into them pass unchanged. Xi et al. 2021 (AITM), eq. 4-6; C_ij = at(x_i ‖ x_j) in MAN.
    """

    def __init__(self, width: int, edges: Sequence[tuple[int, int]]) -> None:
        """`edges`: (from, to) with from < to, by target."""
        super().__init__()
        self.sources: dict[int, list[int]] = {}
        for source, target in edges:
            self.sources.setdefault(target, []).append(source)
        self.information = nn.ModuleDict({f"{i}_{j}": nn.Linear(width, width) for i, j in edges})
        self.query, self.key, self.value = (self._per_target(width) for _ in range(3))
        ends = accumulate(len(sources) for sources in self.sources.values())
        self._plan = Plan(tuple(self.sources), tuple(ends), tuple(chain.from_iterable(self.sources.values())))

    def _per_target(self, width: int) -> nn.ModuleDict:
        return nn.ModuleDict({str(target): nn.Linear(width, width, bias=False) for target in self.sources})

    def forward(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(T, B, H) -> (T, B, H)."""
        if not (mode.fused and is_simple(x) and self.sources):
            return torch.stack(self._attend(x, mode)[0])
        return fused_attention(x, self._plan, self._parameters_of_loops(), mode)

    def _parameters_of_loops(self) -> list[Tensor]:
        """By edge its weight and bias, then by target S of ⟨Q u, K u⟩ = ⟨u S, u⟩, and V."""
        layers = [self.information[f"{source}_{t}"] for t, sources in self.sources.items() for source in sources]
        parameters = [p for layer in layers for p in (_weight(layer), layer.bias) if isinstance(p, Tensor)]
        for name in map(str, self.sources):
            parameters += [_weight(self.key[name]).t() @ _weight(self.query[name]), _weight(self.value[name])]
        return parameters

    def shares(self, x: Tensor) -> dict[tuple[int, int], Tensor]:
        """By edge the weight (B,) of what the earlier step tells, of x (T, B, H)."""
        weights = self._attend(x, EVALUATE)[1]
        return {(s, target): weights[target][i] for target, own in self.sources.items() for i, s in enumerate(own)}

    def _attend(self, x: Tensor, mode: Mode) -> tuple[list[Tensor], dict[int, Tensor]]:
        """The steps' new vectors, and by target the weights (tokens, B)."""
        attended = list(x.unbind())
        shares: dict[int, Tensor] = {}
        for target in self.sources:
            shares[target], tokens = self.weigh(attended, target, mode)
            mixed = (shares[target].unsqueeze(-1) * tokens).sum(0)
            attended[target] = linear_by(mode, mixed, _weight(self.value[str(target)]))
        return attended, shares

    def weigh(self, vectors: Sequence[Tensor], target: int, mode: Mode = EVALUATE) -> tuple[Tensor, Tensor]:
        """Weights (tokens, B) of a step's tokens, and the tokens (tokens, B, H), its own last.

        ⟨Q u, K u⟩ = ⟨Qᵀ K u, u⟩: one product with the tokens instead of two; and Σ w V u = V Σ w u.
        """
        told = [self._tell(vectors[source], f"{source}_{target}", mode) for source in self.sources[target]]
        tokens = torch.stack([*told, vectors[target]])
        query, key = _weight(self.query[str(target)]), _weight(self.key[str(target)])
        scores = (linear_by(mode, tokens, query.t() @ key) * tokens).sum(-1) / math.sqrt(tokens.shape[-1])
        return scores.softmax(dim=0), tokens

    def _tell(self, vector: Tensor, edge: str, mode: Mode) -> Tensor:
        layer = self.information[edge]
        assert isinstance(layer, nn.Linear)
        return linear_by(mode, vector, layer.weight, layer.bias, rectified=True)


class NoAttention(nn.Module):
    """Vectors as they are."""

    def forward(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(T, B, H) -> (T, B, H)."""
        return x


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight
