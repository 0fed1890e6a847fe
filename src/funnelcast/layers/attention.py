"""Attention between the steps of a funnel, in AITM's form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
        attended = list(x.unbind())
        for target in self.sources:
            weights, values = self.weigh(attended, target)
            attended[target] = (weights.unsqueeze(-1) * values).sum(0)
        return torch.stack(attended)

    def weigh(self, vectors: Sequence[Tensor], target: int) -> tuple[Tensor, Tensor]:
        """Weights (tokens, B) and values (tokens, B, H) of a step's tokens, its own last."""
        told = [self.information[f"{source}_{target}"](vectors[source]).relu() for source in self.sources[target]]
        tokens = torch.stack([*told, vectors[target]])
        query, key, value = (part[str(target)](tokens) for part in (self.query, self.key, self.value))
        scores = (query * key).sum(-1) / math.sqrt(tokens.shape[-1])
        return scores.softmax(dim=0), value
