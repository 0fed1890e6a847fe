"""Gates: softmax mixtures of expert outputs, each gate over the experts that it may see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.layers.banks import MLPBank

Visible = list[list[bool]]
"""(gates, experts): whether a gate sees an expert."""


def all_seen(gates: int, experts: int) -> Visible:
    """Every gate sees every expert."""
    return [[True] * experts for _ in range(gates)]


def own_and_shared(steps: int, own: int, shared: int) -> Visible:
    """Visibility (steps, steps × own + shared): step t sees its own experts and the shared ones, which come last."""
    owner = owners_of(steps, own, 0)
    return [[o == step for o in owner] + [True] * shared for step in range(steps)]


def owners_of(steps: int, own: int, shared: int) -> list[int]:
    """Whose each expert is: of a step, or shared, which counts as one more step."""
    return [step for step in range(steps) for _ in range(own)] + [steps] * shared


class GateBank(nn.Module):
    """Gates over the experts that each sees: w_t(x) = softmax(W_t x + b_t)."""

    def __init__(self, width_in: int, visible: Sequence[Sequence[bool]]) -> None:
        """`visible` (T, N): whether gate t sees expert n."""
        super().__init__()
        self.widths = [sum(row) for row in visible]
        self.logits = nn.ModuleList(nn.Linear(width_in, width) for width in self.widths)
        pairs = [(t, n) for t, row in enumerate(visible) for n, sees in enumerate(row) if sees]
        self.edges: ops.Edges = tuple((gate, expert, column) for column, (gate, expert) in enumerate(pairs))
        """(gate, expert, column) of each gate that sees an expert."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D), or (G, B, D) with an input of its own for each gate, G >= T -> (B, K): the weights of `edges`, one
        column each; those of one gate sum to 1."""
        if x.dim() == 3:
            logits = torch.cat([gate(own) for gate, own in zip(self.logits, x.unbind(), strict=False)], dim=1)
        else:  # all in one product, as each alone is too narrow for a fast one
            layers = [gate for gate in self.logits if isinstance(gate, nn.Linear)]
            weight, bias = torch.cat([gate.weight for gate in layers]), torch.cat([gate.bias for gate in layers])
            logits = ops.linear(x, weight, bias)
        return ops.softmax_gates(logits, self.widths)


class GatedExperts(nn.Module):
    """Mixtures of experts: m_t = Σ_n w_tn(x) f_n(x). The trunk of OMoE, MMoE and MAN, and a level of PLE's."""

    def __init__(self, experts: MLPBank, gates: GateBank, owners: Sequence[int] = ()) -> None:
        """`owners`: which of several inputs each expert reads, where there are several."""
        super().__init__()
        self.experts = experts
        self.gates = gates
        self.owners: Tensor
        self.register_buffer("owners", torch.tensor(owners, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, D), or (G, B, D) with one input per owner and gate -> (T, B, H)."""
        gates, experts = self.gates(x), self.experts
        x = x.index_select(0, self.owners) if x.dim() == 3 else x
        return ops.expert_mixture(x, experts.weights, experts.biases, gates, self.gates.edges, slope=experts.slope)


class ExtractionLevels(nn.Module):
    """PLE's trunk: level upon level of gated experts, each reading what the level before made for its owner.

    Below the last level a gate more mixes all experts into what the shared experts of the next level read.
    """

    def __init__(self, levels: Sequence[GatedExperts]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, D) -> (T, B, H)."""
        for level in self.levels:
            x = level(x, key)
        return x


def extraction_levels(
    width_in: int, expert: Sequence[int], steps: int, own: int, shared: int, levels: int, slope: float = 0.0
) -> nn.Module:
    """`levels` levels of `own` experts per step and `shared` ones, each with layers of the widths `expert`; `slope` as
    `MLPBank` has it."""
    built = []
    for level in range(levels):
        visible = own_and_shared(steps, own, shared)
        if level < levels - 1 and shared:
            visible += all_seen(1, steps * own + shared)
        experts = MLPBank(steps * own + shared, width_in, expert, slope=slope)
        built.append(GatedExperts(experts, GateBank(width_in, visible), owners_of(steps, own, shared)))
        width_in = expert[-1]
    return built[0] if levels == 1 else ExtractionLevels(built)


class OwnExperts(nn.Module):
    """The trunk of single-task models: a network per step, each reading the columns of the input that are its own."""

    def __init__(self, experts: MLPBank, columns: Sequence[Sequence[int]]) -> None:
        """`columns` (T, D): of the input, per network of the bank."""
        super().__init__()
        self.experts = experts
        self.columns: Tensor
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, all columns) -> (T, B, H)."""
        own = torch.stack([x.index_select(1, columns) for columns in self.columns])
        experts: Tensor = self.experts(own, key)
        return experts


class SharedTrunk(nn.Module):
    """The trunk of shared bottom: one network that every step reads."""

    def __init__(self, experts: MLPBank) -> None:
        """`experts`: a bank of one."""
        super().__init__()
        self.experts = experts

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, D) -> (1, B, H)."""
        shared: Tensor = self.experts(x, key)
        return shared


class NoTrunk(nn.Module):
    """Towers read the input itself."""

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, D) -> (B, D)."""
        return x
