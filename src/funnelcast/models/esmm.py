"""ESMM, entire space multi-task model (Ma et al., SIGIR 2018, doi 10.1145/3209978.3210104)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from funnelcast.layers.gates import NoTrunk
from funnelcast.models.base import Head, Parallel
from funnelcast.models.network import NetworkRecipe
from funnelcast.models.parts import Parts
from funnelcast.models.reading import Rate, Width
from funnelcast.schema.funnel import Funnel


class ESMM(NetworkRecipe):
    """Towers on shared embeddings, pCTCVR = pCTR · pCVR, both supervised over the entire space (eq. 1 and 2).

    p(step) = Π σ(tower_s(x)) over the step and all before it; loss = Σ_t CE(y_t, p(t)), so that
    pCVR = σ(tower_conversion(x)) has no loss of its own.

    The paper's own towers are `tower = [360, 200, 80]` on embeddings of 18; the default is what AITM's paper compares
    with. Parameters: T towers.
    """

    name: Literal["esmm"] = "esmm"
    """The recipe."""
    head: Head = "chain"
    """`chain`: the product that makes it ESMM; `independent`: a sigmoid per step, its towers alone."""
    tower: tuple[Width, ...] = Field(default=(128, 64, 32), min_length=1)
    """Widths of a tower's layers, which read the embedding; a linear layer to one number follows."""
    tower_dropout: tuple[Rate, ...] = ()
    """Dropout after each layer of a tower; [] for none, as in the paper."""

    parallel: ClassVar[Parallel] = "never"
    why_not_parallel: ClassVar[str] = "multiplies probabilities along one funnel"

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        return Parts(NoTrunk(), width)
