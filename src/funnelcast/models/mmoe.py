"""MMoE, multi-gate mixture of experts (Ma et al., KDD 2018, doi 10.1145/3219819.3220007)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import GateBank, GatedExperts, all_seen
from funnelcast.models.network import ExpertRecipe
from funnelcast.models.parts import Parts
from funnelcast.schema.funnel import Funnel


class MMoE(ExpertRecipe):
    """Shared experts and a gate per step: m_t = Σ_n softmax(G_t x)_n f_n(x); logit_t = tower_t(m_t).

    Parameters: N experts, T gates of N outputs, T towers.
    """

    name: Literal["mmoe"] = "mmoe"
    """The recipe."""
    experts: int = Field(default=8, ge=1, le=1024)
    """Experts, which every step sees."""

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        experts = MLPBank(self.experts, width, self.expert, slope=self.slope)
        gates = GateBank(width, all_seen(len(funnel.names), self.experts))
        return Parts(GatedExperts(experts, gates), experts.width)
