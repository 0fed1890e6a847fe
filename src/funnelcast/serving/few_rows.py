"""A network for few rows at a time: its passes are recorded, as what is around products takes as long as these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import Seed
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.heads import Reach
from funnelcast.layers.mode import FAST, HALF
from funnelcast.layers.passes import Passes, put_numbers
from funnelcast.models.network import FunnelModel

FEW: Final = 512
"""Rows that are few."""
SIZES: Final = 8
"""Numbers of rows of which passes are recorded."""


class Looked(NamedTuple):
    """Rows, looked up."""

    x: Embedded
    half: bool
    seeds: Sequence[Seed] = ()

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same in rows that are recorded as one, beside shapes; none for what cannot be."""
        return (self.half,) if self.x.can_record else None

    @property
    def numbers(self) -> list[Tensor]:
        return [self.x.flat] if self.x.ids is None else [self.x.flat, self.x.ids]

    def put(self, there: Looked) -> None:
        put_numbers(self, there)

    def copy(self) -> Looked:
        """In memory of its own."""
        return self._replace(x=self.x.copied())


class FewRows:
    """A network on the CPU, whose tensors stay where they are. Threads may score at once."""

    def __init__(self, model: FunnelModel) -> None:
        self.model, self.parents, self.device = model, model.parents, model.device
        self.passes = Passes[Looked, Reach]([*model.parameters(), *model.buffers()], kinds=SIZES)

    def score(self, batch: Batch, *, half: bool = False) -> Reach:
        """As the model's own, bit for bit."""
        with torch.inference_mode(mode=False), torch.no_grad():  # a recorded pass is written to outside of it
            return self.passes(Looked(self.model.embedding(batch, FAST), half), self._pass)

    def _pass(self, rows: Looked) -> Reach:
        return self.model.network(rows.x, HALF if rows.half else FAST)
