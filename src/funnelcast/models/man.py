"""MAN, the Multi-task Attention Network (Luo et al., IASC 36(3), 2023, doi 10.32604/iasc.2023.036622)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from funnelcast.layers.attention import StepAttention
from funnelcast.layers.gates import extraction_levels
from funnelcast.models.base import Head
from funnelcast.models.network import ExpertRecipe
from funnelcast.models.parts import Parts
from funnelcast.schema.funnel import Funnel


class MAN(ExpertRecipe):
    """Shared and own experts with a gate per step, attention along the funnel, a tower per step.

    x = embedding; m_t = Σ_n softmax(G_t x)_n f_n(x) over own and shared experts; c_t = at(c_parent ‖ m_t);
    logit_t = tower_t(c_t); pCTCVR = σ(logit_click) σ(logit_conversion).

    Parameters: those of PLE; where steps exchange vectors of k, per edge k² + k, per step with an edge into it 3 k².
    """

    name: Literal["man"] = "man"
    """The recipe."""
    head: Head = "chain"
    """`chain`: a step's probability is the product of the conditional ones before it; `independent`: a sigmoid of its
    own."""
    experts_per_step: int = Field(default=4, ge=1, le=1024)
    """Experts that one step sees."""
    shared_experts: int = Field(default=4, ge=0, le=1024)
    """Experts that every step sees."""
    levels: int = Field(default=1, ge=1, le=16)
    """Levels of experts and gates; two or more are stacked as in PLE."""
    attention: Literal["gated", "tower_top", "none"] = "gated"
    """Where steps exchange what they know: between gates and towers, after the towers, or nowhere."""

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        steps, own, shared = len(funnel.names), self.experts_per_step, self.shared_experts
        return Parts(
            extraction_levels(width, self.expert, steps, own, shared, self.levels, self.slope),
            self.expert[-1],
            StepAttention(self.expert[-1], funnel.edges) if self.attention == "gated" else None,
            StepAttention(self.tower[-1], funnel.edges) if self.attention == "tower_top" else None,
        )
