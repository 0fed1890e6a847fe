"""PLE, progressive layered extraction (Tang et al., RecSys 2020, doi 10.1145/3383313.3412236)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from funnelcast.layers.gates import extraction_levels
from funnelcast.models.network import ExpertRecipe
from funnelcast.models.parts import Parts
from funnelcast.schema.funnel import Funnel


class PLE(ExpertRecipe):
    """Levels of shared and own experts; one level is CGC.

    With x_t⁰ = x for every step t and for the shared part s, level l makes
    x_tˡ = Σ_n softmax(G_tˡ x_tˡ⁻¹)_n f_nˡ(x_ownerˡ⁻¹) over own and shared experts, and, below the last level, x_sˡ by
    the same formula over all experts. logit_t = tower_t(x_tᴸ).

    Parameters: per level (T·own + shared) experts and T gates of own + shared outputs, below the last level one more
    gate of T·own + shared.
    """

    name: Literal["ple"] = "ple"
    """The recipe."""
    experts_per_step: int = Field(default=4, ge=1, le=1024)
    """Experts that one step sees, per level."""
    shared_experts: int = Field(default=4, ge=0, le=1024)
    """Experts that every step sees, per level."""
    levels: int = Field(default=1, ge=1, le=16)
    """Levels of experts and gates."""

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        steps, own, shared = len(funnel.names), self.experts_per_step, self.shared_experts
        return Parts(
            extraction_levels(width, self.expert, steps, own, shared, self.levels, self.slope), self.expert[-1]
        )
