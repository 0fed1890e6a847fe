"""Shared bottom (Caruana 1997): one network that every step reads, a tower per step. The control for experts."""

from __future__ import annotations

from typing import Literal

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import SharedTrunk
from funnelcast.models.network import ExpertRecipe, FunnelModel
from funnelcast.schema.funnel import Funnel


class SharedBottom(ExpertRecipe):
    """logit_t = tower_t(f(x)).

    Parameters: one network, T towers.
    """

    name: Literal["shared_bottom"] = "shared_bottom"
    """The recipe."""

    def build(self, inputs: InputSpec, funnel: Funnel) -> FunnelModel:
        reading = self.read(inputs)
        bottom = MLPBank(1, reading.width, self.expert)
        return self.assemble(reading, SharedTrunk(bottom), bottom.width, funnel)
