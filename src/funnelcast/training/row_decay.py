"""Decoupled weight decay of a table's rows, by the steps since each was last moved."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

_LEAST: Final = 1024
"""Steps of which the loss is known from the start."""


class RowDecay:
    """AdamW's decay of every row in every step, made up for when a row moves.

    A row w that moves in step t, and before in step s, becomes

        (1 - η λ)^(t - s) w - η m̂ / (√v̂ + ε),

    and at the end of an epoch each row is multiplied by the factor that is still owed. So the decay of an epoch is the
    same for all ids, as the regularisation in DIN is (Zhou et al. 2018, section 5.1); a rare id, which few batches
    move, ends nearer to 0 than a frequent one. A batch reads a row before it has lost what is owed.

    It depends on steps alone, not on workers, and its state is a number per row.
    """

    def __init__(self, weight: Tensor, rate: float) -> None:
        """Weight (V, E); `rate`: η λ, below 1."""
        self.rate = rate
        self.last = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        """(V,) the step in which each row last moved."""
        self._settled, self._lost = 0, self._powers(weight.new_empty(_LEAST))

    def lost(self, step: int) -> Tensor:
        """Return (n,) the share 1 - (1 - η λ)^k of a row that k steps take, for every k that may be owed in a step."""
        needed = step - self._settled + 1
        if len(self._lost) < needed:
            self._lost = self._powers(self._lost.new_empty(2 * needed))
        return self._lost

    def settle(self, weight: Tensor, step: int) -> None:
        """Let all rows (V, E) lose what is owed after a step, in place."""
        weight.addcmul_(weight, self.lost(step)[step - self.last][:, None], value=-1)
        self.last.fill_(step)
        self._settled = step

    def load(self, last: Tensor) -> None:
        """Take over `last` of another one."""
        self.last.copy_(last)
        self._settled = int(last.min()) if len(last) else 0

    def _powers(self, empty: Tensor) -> Tensor:
        shares = -np.expm1(np.arange(len(empty)) * np.log1p(-self.rate))  # exact where the share is small
        return torch.from_numpy(shares).to(empty)
