"""Attention between the steps of a funnel, in AITM's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from funnelcast import ops


class _Arguments(NamedTuple):
    """Of `ops.step_attention`, after x."""

    sources: dict[int, list[int]]
    transfers: list[tuple[Tensor, Tensor]]
    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]


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

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(T, B, H) -> (T, B, H)."""
        return ops.step_attention(x, *self._arguments()) if self.sources else x

    def shares(self, x: Tensor) -> dict[tuple[int, int], Tensor]:
        """By edge the weight (B,) of the earlier step's token, of x (T, B, H)."""
        weights = ops.attend(x, *self._arguments())[1]
        return {(s, target): weights[target][i] for target, own in self.sources.items() for i, s in enumerate(own)}

    def _arguments(self) -> _Arguments:
        edges = [(source, target) for target, own in self.sources.items() for source in own]
        layers = [self.information[f"{source}_{target}"] for source, target in edges]
        transfers = [(_tensor(layer.weight), _tensor(layer.bias)) for layer in layers]
        parts = ([_tensor(part[str(t)].weight) for t in self.sources] for part in (self.query, self.key, self.value))
        return _Arguments(self.sources, transfers, *parts)


class NoAttention(nn.Module):
    """Vectors as they are."""

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(T, B, H) -> (T, B, H)."""
        return x


def _tensor(parameter: object) -> Tensor:
    assert isinstance(parameter, Tensor)
    return parameter
