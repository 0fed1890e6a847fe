"""Shared bottom (Caruana 1997): one network that every step reads, a tower per step. The control for experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import SharedTrunk
from funnelcast.models.network import ExpertRecipe
from funnelcast.models.parts import Parts
from funnelcast.schema.funnel import Funnel


class SharedBottom(ExpertRecipe):
    """logit_t = tower_t(f(x)).

    Parameters: one network, T towers.
    """

    name: Literal["shared_bottom"] = "shared_bottom"
    """The recipe."""

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        bottom = MLPBank(1, width, self.expert, slope=self.slope)
        return Parts(SharedTrunk(bottom), bottom.width)
