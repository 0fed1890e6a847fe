"""Adam on just the rows of a table that a batch touches."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, fetch
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.mode import is_simple

BETAS = (0.9, 0.999)
EPSILON = 1e-8
AHEAD: Final = 16
"""Rows that are fetched beforehand."""
SHARE: Final = 4096
"""Rows that a thread moves at a time."""


class RowAdam:
    """Moments of a table's rows. Rows that a batch does not touch stay as they are, and so do their moments.

    The count of steps, which corrects the moments' bias, is the table's, not a row's.
    """

    def __init__(self, table: EmbeddingTable, learning_rate: float, l2: float) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self.l2 = l2
        self.mean = torch.zeros_like(table.weight)
        self.square = torch.zeros_like(table.weight)
        self.steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rows: Tensor, grad: Tensor, workers: Executor | None = None) -> None:
        """rows (U,) distinct, grad (U, E); `workers`: threads that share the rows."""
        self.steps += 1
        count = int(self.steps)
        rate = self.learning_rate / (1 - BETAS[0] ** count)
        spread = 1 / math.sqrt(1 - BETAS[1] ** count)
        tables = (self.table.weight.detach(), self.mean, self.square)
        if is_simple(grad):
            weight, mean, square = (table.numpy() for table in tables)

            def move_share(rows: Tensor, grad: Tensor) -> None:
                move(weight, mean, square, rows.numpy(), grad.numpy(), self.l2, rate, spread)

            run, size = (map, len(rows)) if workers is None else (workers.map, SHARE)
            list(run(move_share, rows.split(max(1, size)), grad.split(max(1, size))))
        else:
            move_plain(*tables, rows.long(), grad, self.l2, rate, spread)

    def state(self) -> dict[str, Tensor]:
        """Moments and the count of steps by name."""
        return {"mean": self.mean, "square": self.square, "steps": self.steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


@compiled_for_speed
def move(
    weight: Any, mean: Any, square: Any, rows: Any, grad: Any, l2: float, rate: float, spread: float
) -> None:  # fmt: skip
    """weight, mean and square (V, E) at `rows` (U,), in place and in one pass: each row is fetched from memory once."""
    decay, fresh = np.float32(BETAS[1]), np.float32(1 - BETAS[1])
    pull, epsilon = np.float32(1 - BETAS[0]), np.float32(EPSILON)
    shrink, size, scale = np.float32(l2), np.float32(rate), np.float32(spread)
    width, tables = weight.shape[1], (weight.ctypes.data, mean.ctypes.data, square.ctypes.data)
    for u in range(len(rows)):
        if u + AHEAD < len(rows):
            for table in tables:
                fetch(table + np.int64(rows[u + AHEAD]) * width * weight.itemsize)
        row_weight, row_mean, row_square, row_grad = weight[rows[u]], mean[rows[u]], square[rows[u]], grad[u]
        for j in range(len(row_grad)):
            g = row_grad[j] + shrink * row_weight[j]
            m = row_mean[j] + pull * (g - row_mean[j])
            s = decay * row_square[j] + fresh * g * g
            row_mean[j], row_square[j] = m, s
            row_weight[j] -= size * m / (np.sqrt(s) * scale + epsilon)


def move_plain(
    weight: Tensor, mean: Tensor, square: Tensor, rows: Tensor, grad: Tensor, l2: float, rate: float, spread: float
) -> None:
    """`move` in torch's operations, for any device and type."""
    g = grad.add(weight[rows], alpha=l2)
    m = mean[rows].lerp_(g, 1 - BETAS[0])
    s = square[rows].mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    mean[rows], square[rows] = m, s
    weight.index_add_(0, rows, m / s.sqrt().mul_(spread).add_(EPSILON), alpha=-rate)
