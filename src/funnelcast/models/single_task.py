"""Single task: a network per step that shares nothing, embeddings neither. The control for negative transfer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import OwnExperts
from funnelcast.models.network import ExpertRecipe, FunnelModel
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

    def build(self, inputs: InputSpec, funnel: Funnel) -> FunnelModel:
        steps = len(funnel.names)
        reading = self.read(inputs, copies=1 if self.shared_embedding else steps)
        columns = [reading.pooling.columns(step) for step in range(steps)]
        experts = MLPBank(steps, len(columns[0]), self.expert)
        return self.assemble(reading, OwnExperts(experts, columns), experts.width, funnel)
