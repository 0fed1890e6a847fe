"""Gates: softmax mixtures of expert outputs, each gate over the experts that it may see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.fused import Seen, can_fuse, fused_bank
from funnelcast.layers.mode import EVALUATE, Mode


def own_and_shared(steps: int, own: int, shared: int) -> list[list[bool]]:
    """Visibility (steps, steps × own + shared): step t sees its own experts and the shared ones, which come last."""
    owner = [step for step in range(steps) for _ in range(own)]
    return [[o == step for o in owner] + [True] * shared for step in range(steps)]


class GateBank(nn.Module):
    """One gate per step over the experts that it sees: w_t(x) = softmax(W_t x + b_t)."""

    def __init__(self, width_in: int, visible: Sequence[Sequence[bool]]) -> None:
        """`visible` (T, N): whether gate t sees expert n."""
        super().__init__()
        self.logits = nn.ModuleList(nn.Linear(width_in, sum(row)) for row in visible)
        pairs = [(t, n) for t, row in enumerate(visible) for n, sees in enumerate(row) if sees]
        self.seen = tuple(Seen(step, expert, column) for column, (step, expert) in enumerate(pairs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, K): the weights of `seen`, one column each; those of one step sum to 1."""
        return torch.cat([gate(x).softmax(dim=1) for gate in self.logits], dim=1)


class GatedExperts(nn.Module):
    """The trunk of OMoE, MMoE, PLE and MAN: m_t = Σ_n w_tn(x) f_n(x)."""

    def __init__(self, experts: MLPBank, gates: GateBank) -> None:
        super().__init__()
        self.experts = experts
        self.gates = gates

    def forward(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(B, D) -> (T, B, H)."""
        weights, steps = self.gates(x), len(self.gates.logits)
        if mode.fused and can_fuse(x):
            return fused_bank(x, *self.experts.for_fused(len(x), mode), weights, self.gates.seen)
        outputs, columns = self.experts(x, mode).unbind(), weights.unsqueeze(2).unbind(1)
        terms = [(s.step, columns[s.column] * outputs[s.expert]) for s in self.gates.seen]
        return torch.stack([sum_of([term for t, term in terms if t == step]) for step in range(steps)])


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Of one term or more, all of one shape."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class SharedTrunk(nn.Module):
    """The trunk of shared bottom: one network that every step reads."""

    def __init__(self, experts: MLPBank) -> None:
        """`experts`: a bank of one."""
        super().__init__()
        self.experts = experts

    def forward(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(B, D) -> (B, H), the same for all steps."""
        shared: Tensor = self.experts(x, mode)
        return shared.squeeze(0)
