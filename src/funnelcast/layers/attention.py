"""Attention between the steps of a funnel, in AITM's form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


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

    def _per_target(self, width: int) -> nn.ModuleDict:
        return nn.ModuleDict({str(target): nn.Linear(width, width, bias=False) for target in self.sources})

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, H) -> (T, B, H)."""
        return torch.stack(self._attend(x)[0])

    def shares(self, x: Tensor) -> dict[tuple[int, int], Tensor]:
        """By edge the weight (B,) of what the earlier step tells, of x (T, B, H)."""
        weights = self._attend(x)[1]
        return {(s, target): weights[target][i] for target, own in self.sources.items() for i, s in enumerate(own)}

    def _attend(self, x: Tensor) -> tuple[list[Tensor], dict[int, Tensor]]:
        """The steps' new vectors, and by target the weights (tokens, B)."""
        attended, shares = list(x.unbind()), dict[int, Tensor]()
        for target in self.sources:
            shares[target], tokens = self.weigh(attended, target)
            attended[target] = self.value[str(target)]((shares[target].unsqueeze(-1) * tokens).sum(0))
        return attended, shares

    def weigh(self, vectors: Sequence[Tensor], target: int) -> tuple[Tensor, Tensor]:
        """Weights (tokens, B) of a step's tokens, and the tokens (tokens, B, H), its own last.

        ⟨Q u, K u⟩ = ⟨Qᵀ K u, u⟩: one product with the tokens instead of two; and Σ w V u = V Σ w u.
        """
        told = [self.information[f"{source}_{target}"](vectors[source]).relu() for source in self.sources[target]]
        tokens = torch.stack([*told, vectors[target]])
        query, key = self.query[str(target)].weight, self.key[str(target)].weight
        assert isinstance(query, Tensor) and isinstance(key, Tensor)
        scores = (linear(tokens, query.t() @ key) * tokens).sum(-1) / math.sqrt(tokens.shape[-1])
        return scores.softmax(dim=0), tokens
