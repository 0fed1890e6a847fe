"""AITM, adaptive information transfer multi-task (Xi et al., KDD 2021, doi 10.1145/3447548.3467071)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from funnelcast.layers.attention import StepAttention
from funnelcast.layers.gates import NoTrunk
from funnelcast.models.base import Parallel
from funnelcast.models.network import NetworkRecipe
from funnelcast.models.parts import Parts
from funnelcast.models.penalties import Penalty, RiseAlongEdges
from funnelcast.models.reading import Width
from funnelcast.schema.funnel import Funnel


class AITM(NetworkRecipe):
    """Towers on shared embeddings whose tops tell the next step what they know, and a calibrator of the probabilities.

    q_t = tower_t(x); z_t = Σ softmax(⟨Q u, K u⟩ / √k) V u over u in {relu(W z_parent + b), q_t}; p(t) = σ(w_t z_t);
    loss = Σ_t CE(y_t, p(t)) + α mean over rows of Σ_t max(p(t) − p(parent), 0) (eq. 1 to 8).

    The preset `aitm` has the paper's training settings too. Parameters: T towers, per edge k² + k, per step with an
    edge into it 3 k².
    """

    name: Literal["aitm"] = "aitm"
    """The recipe."""
    tower: tuple[Width, ...] = Field(default=(128, 64, 32), min_length=1)
    """Widths of a tower's layers, which read the embedding; attention follows, then a linear layer to one number."""
    calibrator: float = Field(default=0.6, ge=0, le=1e6)
    """α, the weight of the penalty on a step that is likelier than the step before it."""

    parallel: ClassVar[Parallel] = "with an edge"
    why_not_parallel: ClassVar[str] = "transfers information along an edge"

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        top = StepAttention(self.tower[-1], funnel.edges)
        return Parts(NoTrunk(), width, top_attention=top)

    def penalties(self) -> tuple[Penalty, ...]:
        """The calibrator, where a step can be likelier than the one before it."""
        return (RiseAlongEdges(self.calibrator),) if self.calibrator and self.head == "independent" else ()
