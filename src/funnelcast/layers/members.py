"""Members: several networks on one input, whose probabilities are averaged (deep ensembles, Lakshminarayanan et al.
2017; in one pass as TabM, Gorishniy et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.ops import Reach


class MemberTrunks(nn.Module):
    """A trunk for each member, all reading the same input."""

    def __init__(self, trunks: Sequence[nn.Module], steps: int) -> None:
        """`steps`: T of one member."""
        super().__init__()
        self.trunks, self.steps = nn.ModuleList(trunks), steps

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, D) -> (K × T, B, H), member by member."""
        made = [trunk(x, key) for trunk in self.trunks]
        return torch.cat([own.expand(self.steps, -1, -1) for own in made])  # one vector may be for all steps


class MemberAttentions(nn.Module):
    """Attention between the steps of each member."""

    def __init__(self, attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(attentions)

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(K × T, B, H) -> (K × T, B, H)."""
        parts = x.chunk(len(self.attentions))
        return torch.cat([attend(part, key) for attend, part in zip(self.attentions, parts, strict=True)])


def average(reach: Reach, members: int, parents: tuple[int, ...]) -> Reach:
    """The mean probabilities of members: logs (B × K, T), a row's members one after the other -> (B, T).

    `parents`: the step, or -1, that each step's `log_p` does not exceed, in any rounding.
    """
    log_p, log_q = (log.unflatten(0, (-1, members)).logsumexp(1) - math.log(members) for log in reach)
    columns: list[Tensor] = []
    for own, parent in zip(log_p.clamp(max=0).unbind(1), parents, strict=True):
        columns.append(own if parent < 0 else torch.minimum(own, columns[parent]))
    return Reach(torch.stack(columns, 1), log_q.clamp(max=0))
