"""What a recipe puts between the embedding and the towers of a network, for one member or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from funnelcast.layers.gates import NoTrunk
from funnelcast.layers.members import MemberAttentions, MemberTrunks


class Parts(NamedTuple):
    """The layers of a network between its embedding and its towers, and around these."""

    trunk: nn.Module
    width: int
    """H of what it makes of a row: (T, B, H), (1, B, H) where all steps share it, or (B, H) as it was read."""
    attention: nn.Module | None = None
    """Between the steps' vectors before the towers."""
    top_attention: nn.Module | None = None
    """The same after the towers."""


def joined(members: Sequence[Parts], steps: int) -> Parts:
    """The parts of several members as those of one network."""

    def attentions(name: str) -> nn.Module | None:
        own = [getattr(each, name) for each in members]
        return None if own[0] is None else MemberAttentions(own)

    first = members[0]
    trunk = first.trunk if isinstance(first.trunk, NoTrunk) else MemberTrunks([each.trunk for each in members], steps)
    return first._replace(trunk=trunk, attention=attentions("attention"), top_attention=attentions("top_attention"))
