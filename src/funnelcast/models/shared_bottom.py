"""Shared bottom (Caruana 1997): one network that every step reads, a tower per step. The control for MAN."""

from __future__ import annotations

from typing import Literal

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import SharedTrunk
from funnelcast.models.base import FunnelModel, Recipe, embedding_of, towers_of
from funnelcast.schema.funnel import Funnel


class SharedBottom(Recipe):
    """logit_t = tower_t(f(x))."""

    name: Literal["shared_bottom"] = "shared_bottom"
    """The recipe."""
    head: Literal["chain", "independent"] = "independent"
    """`independent`: a sigmoid per step; `chain`: a product of conditional probabilities."""

    def build(self, inputs: InputSpec, funnel: Funnel) -> FunnelModel:
        embedding = embedding_of(self, inputs)
        bottom = MLPBank(1, embedding.width, self.expert)
        trunk = SharedTrunk(bottom)
        return FunnelModel(embedding, trunk, towers_of(self, funnel, bottom.width), funnel, self.head)
