"""A network for few rows at a time: captured, as what is around products takes as long as these."""

from __future__ import annotations

from typing import Final

import torch

from funnelcast.data.batch import Batch
from funnelcast.layers.embedding import Embedded
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Captured, Precision, Reach

FEW: Final = 512
"""Rows that are few."""
SIZES: Final = 8
"""Numbers of rows for which it is captured."""


class FewRows:
    """A network on the CPU, whose tensors stay where they are. Threads may score at once."""

    def __init__(self, model: FunnelModel) -> None:
        self.model, self.parents, self.device = model, model.parents, model.device
        self.captured = Captured(self._reach, [*model.parameters(), *model.buffers()], SIZES)

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach:
        """As the model's own, bit for bit."""
        # a graph's memory is written to outside of inference mode
        with torch.inference_mode(mode=False), torch.no_grad(), self.model.compute(precision=precision, order=0):
            return self.captured((self.model.embedding(batch), precision))

    def _reach(self, inputs: tuple[Embedded, Precision]) -> Reach:
        return self.model.network(inputs[0])
