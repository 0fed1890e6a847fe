"""What the parts of a network do on some rows: which experts each step listens to, and how much to the step before."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.layers.attention import StepAttention
from funnelcast.layers.gates import GateBank, GatedExperts
from funnelcast.models.network import FunnelModel

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def gates(model: FunnelModel, rows: Batch, steps: tuple[str, ...]) -> dict[str, Any]:
    """Of the last level of gated experts, by step: mean share of each expert that it sees, and the mean entropy of the
    shares in nats, with the most that it can be. Empty without gates."""
    levels = [module for module in model.modules() if isinstance(module, GatedExperts)]
    if not levels:
        return {}
    last, found = levels[-1], dict[str, Any]()
    (shares,) = _outputs(model, rows, [last.gates])
    bank, owners = last.gates, last.owners.tolist()
    for t, step in enumerate(steps):
        gate = min(t, len(bank.widths) - 1)  # of a gate that all steps share
        seen = [edge for edge in bank.edges if edge[0] == gate]
        own = shares[:, [column for _, _, column in seen]]
        names = _expert_names([expert for _, expert, _ in seen], owners, t)
        means = own.mean(0).tolist()
        found[step] = {
            "entropy": float(torch.special.entr(own).sum(1).mean()),
            "most": math.log(len(seen)),
            "experts": [{"name": name, "share": share} for name, share in zip(names, means, strict=True)],
        }
    return found


@torch.no_grad()
def attention(model: FunnelModel, rows: Batch, steps: tuple[str, ...]) -> list[dict[str, Any]]:
    """By edge: the weight that a step gives what it is told by an earlier one, its mean and quantiles over the rows.
    Empty without attention."""
    shares: dict[tuple[int, int], list[Tensor]] = {}
    for module in model.modules():
        if isinstance(module, StepAttention):  # of each member
            (x,) = _inputs(model, rows, module)
            for edge, weight in module.shares(x).items():
                shares.setdefault(edge, []).append(weight)
    found = []
    for (source, target), weights in shares.items():
        of_members = torch.cat(weights).double()
        quantiles = torch.quantile(of_members, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
        edge_of = {"parent": steps[source], "child": steps[target]}
        found.append({**edge_of, "mean": float(of_members.mean()), "quantiles": quantiles})
    return found


def _expert_names(experts: list[int], owners: list[int], step: int) -> list[str]:
    """`own 1`, `shared 2`; without owners all are shared."""
    counts, names = {"own": 0, "shared": 0}, []
    for expert in experts:
        kind = "own" if owners and owners[expert] == step else "shared"
        counts[kind] += 1
        names.append(f"{kind} {counts[kind]}")
    return names


@torch.no_grad()
def _outputs(model: FunnelModel, rows: Batch, modules: list[GateBank]) -> list[Tensor]:
    kept: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _, inputs, output: kept.append(output)) for m in modules]
    _run(model, rows, hooks)
    return kept


@torch.no_grad()
def _inputs(model: FunnelModel, rows: Batch, module: nn.Module) -> list[Tensor]:
    kept: list[Tensor] = []
    hooks = [module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))]
    _run(model, rows, hooks)
    return kept


def _run(model: FunnelModel, rows: Batch, hooks: list[Any]) -> None:
    try:
        model(rows.to(model.device))
    finally:
        for hook in hooks:
            hook.remove()
