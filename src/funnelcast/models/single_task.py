"""Single task: a network per step that shares nothing, embeddings neither. The control for negative transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import OwnExperts
from funnelcast.models.network import ExpertRecipe
from funnelcast.models.parts import Parts
from funnelcast.schema.funnel import Funnel


class SingleTask(ExpertRecipe):
    """logit_t = tower_t(f_t(x_t)), x_t the embedding of step t.

    With `loss_space = "given_parent"` it is the classical CVR model, trained on clicks. The steps are trained in one
    run and stop at one epoch, by the stage's metric.

    Parameters: T embeddings, T networks, T towers.
    """

    name: Literal["single_task"] = "single_task"
    """The recipe."""
    shared_embedding: bool = False
    """Let the steps share embeddings, as some libraries' single-task models do."""

    @model_validator(mode="after")
    def _check_sharing(self) -> Self:
        if self.shared_embedding and self.embedding == "none":
            raise ValueError("shared_embedding has no effect with embedding = 'none'; take one of them out")
        return self

    def copies(self, funnel: Funnel) -> int:
        return 1 if self.shared_embedding else len(funnel.names)

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        steps = len(funnel.names)
        own = list(columns) if len(columns) == steps else [columns[0]] * steps
        experts = MLPBank(steps, len(own[0]), self.expert, slope=self.slope)
        return Parts(OwnExperts(experts, own), experts.width)
