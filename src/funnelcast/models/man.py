"""MAN, the Multi-task Attention Network (Luo et al., IASC 36(3), 2023, doi 10.32604/iasc.2023.036622)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.attention import StepAttention
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import GateBank, GatedExperts, own_and_shared
from funnelcast.models.base import FunnelModel, Recipe, embedding_of, towers_of
from funnelcast.schema.funnel import Funnel


class MAN(Recipe):
    """Shared and own experts with a gate per step, attention along the funnel, a tower per step.

    x = embedding; m_t = Σ_n softmax(G_t x)_n f_n(x) over own and shared experts; c_t = at(c_parent ‖ m_t);
    logit_t = tower_t(c_t); pCTCVR = σ(logit_click) σ(logit_conversion).
    """

    name: Literal["man"] = "man"
    """The recipe."""
    experts_per_step: int = Field(default=4, ge=1, le=1024)
    """Experts that one step sees."""
    shared_experts: int = Field(default=4, ge=0, le=1024)
    """Experts that every step sees."""
    attention: Literal["gated", "tower_top", "none"] = "gated"
    """Where steps exchange what they know: between gates and towers, after the towers, or nowhere."""

    def build(self, inputs: InputSpec, funnel: Funnel) -> FunnelModel:
        steps = len(funnel.names)
        embedding = embedding_of(self, inputs)
        experts = MLPBank(steps * self.experts_per_step + self.shared_experts, embedding.width, self.expert)
        gates = GateBank(embedding.width, own_and_shared(steps, self.experts_per_step, self.shared_experts))
        gated, top = self.attention == "gated", self.attention == "tower_top"
        return FunnelModel(
            embedding,
            GatedExperts(experts, gates),
            towers_of(self, funnel, experts.width),
            funnel,
            self.head,
            attention=StepAttention(experts.width, funnel.edges) if gated else None,
            top_attention=StepAttention(self.tower[-1], funnel.edges) if top else None,
        )
