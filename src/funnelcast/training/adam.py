"""Adam of dense parameters, and of just the rows of a table that a batch touches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, fetch
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.large_pages import on_large_pages
from funnelcast.layers.mode import is_simple
from funnelcast.layers.products import matrix
from funnelcast.threads import together

BETAS = (0.9, 0.999)
EPSILON = 1e-8
AHEAD: Final = 16
"""Rows that are fetched beforehand."""
SHARE: Final = 4096
"""Rows that a thread moves at a time."""


class Group(NamedTuple):
    """Parameters that move alike."""

    parameters: Sequence[Tensor]
    learning_rate: float
    l2: float


class DenseAdam:
    """Moments of parameters that move in every step, as torch.optim.Adam moves them: that takes 0.3 ms around its work,
    in a step of 10 to 100."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Parameters whose numbers lie one after the other."""
        self.groups = groups
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        assert all(parameter.is_contiguous() for parameter in self.parameters)
        self.mean = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.square = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor]) -> None:
        """`grads` of the groups' parameters, one after the other."""
        assert len(grads) == len(self.parameters), "gradients are not of these parameters"
        self.steps += 1
        correction, spread = corrections(self.steps)
        tensors, start = (self.parameters, grads, self.mean, self.square), 0
        for group in self.groups:
            end = start + len(group.parameters)
            own = [list(each[start:end]) for each in tensors]
            move = _move_group if all(map(is_simple, own[0])) else _move_group_plain
            move(own, group.l2, group.learning_rate / correction, spread)
            start = end

    def state(self) -> list[dict[str, Tensor]]:
        """Of each parameter, under the names that torch.optim.Adam has for it."""
        steps = [torch.tensor(float(self.steps)) for _ in self.parameters]
        parts = zip(steps, self.mean, self.square, strict=True)
        return [dict(zip(("step", "exp_avg", "exp_avg_sq"), part, strict=True)) for part in parts]

    def load(self, state: Sequence[dict[str, Tensor]]) -> None:
        """Take over what `state` gave."""
        for mean, square, own in zip(self.mean, self.square, state, strict=True):
            mean.copy_(own["exp_avg"])
            square.copy_(own["exp_avg_sq"])
            self.steps = int(own["step"])


def corrections(steps: int) -> tuple[float, float]:
    """What the moments' bias after so many steps asks for: a divisor of the rate, and a factor of the spread."""
    return 1 - BETAS[0] ** steps, 1 / math.sqrt(1 - BETAS[1] ** steps)


def _move_group(own: Sequence[list[Tensor]], l2: float, rate: float, spread: float) -> None:
    weight, grad, mean, square = own
    grad = [each.contiguous() for each in grad]  # held for as long as the loop runs
    sizes = [each.numel() for each in weight]
    assert sizes == [each.numel() for each in grad], "gradients are not of these parameters"
    places = [[tensor.data_ptr() for tensor in tensors] for tensors in (weight, grad, mean, square)]
    move_all(np.array(places, np.int64), np.array(sizes, np.int64), l2, rate, spread)


def _move_group_plain(own: Sequence[list[Tensor]], l2: float, rate: float, spread: float) -> None:
    weight, grad, mean, square = own
    g = torch._foreach_add(grad, weight, alpha=l2)
    torch._foreach_lerp_(mean, g, 1 - BETAS[0])
    torch._foreach_mul_(square, BETAS[1])
    torch._foreach_addcmul_(square, g, g, value=1 - BETAS[1])
    size = torch._foreach_sqrt(square)
    torch._foreach_mul_(size, spread)
    torch._foreach_add_(size, EPSILON)
    torch._foreach_addcdiv_(weight, mean, size, value=-rate)


class RowAdam:
    """Moments of a table's rows. Rows that a batch does not touch stay as they are, and so do their moments.

    The count of steps, which corrects the moments' bias, is the table's, not a row's.
    """

    def __init__(self, table: EmbeddingTable, learning_rate: float, l2: float) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self.l2 = l2
        self.mean, self.square = (on_large_pages(torch.empty_like(table.weight)).zero_() for _ in range(2))
        self.steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rows: Tensor, grad: Tensor, workers: Executor | None = None) -> None:
        """rows (U,) distinct, grad (U, E); `workers`: threads that share the rows."""
        self.steps += 1
        correction, spread = corrections(int(self.steps))
        rate = self.learning_rate / correction
        tables = (self.table.weight.detach(), self.mean, self.square)
        if is_simple(grad):
            weight, mean, square = (table.numpy() for table in tables)

            def move_share(share: tuple[Tensor, Tensor]) -> None:
                rows, grad = share
                move(weight, mean, square, rows.numpy(), grad.numpy(), self.l2, rate, spread)

            size = max(1, len(rows) if workers is None else SHARE)
            together(workers, move_share, list(zip(rows.split(size), grad.split(size), strict=True)))
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
def move_all(places: Any, sizes: Any, l2: float, rate: float, spread: float) -> None:
    """In place, numbers whose addresses are in `places` (4, n): parameters, gradients, means and squares, so many as
    `sizes` (n,) says."""
    shrink, size, scale = np.float32(l2), np.float32(rate), np.float32(spread)
    for i in range(len(sizes)):
        weight, grad = matrix(places[0, i], 1, sizes[i]), matrix(places[1, i], 1, sizes[i])
        mean, square = matrix(places[2, i], 1, sizes[i]), matrix(places[3, i], 1, sizes[i])
        for j in range(sizes[i]):
            moved = _moved(weight[0, j], mean[0, j], square[0, j], grad[0, j], shrink, size, scale)
            weight[0, j], mean[0, j], square[0, j] = moved


@compiled_for_speed
def move(
    weight: Any, mean: Any, square: Any, rows: Any, grad: Any, l2: float, rate: float, spread: float
) -> None:  # fmt: skip
    """weight, mean and square (V, E) at `rows` (U,), in place and in one pass: each row is fetched from memory once."""
    shrink, size, scale = np.float32(l2), np.float32(rate), np.float32(spread)
    width, tables = weight.shape[1], (weight.ctypes.data, mean.ctypes.data, square.ctypes.data)
    for u in range(len(rows)):
        if u + AHEAD < len(rows):
            for table in tables:
                fetch(table + np.int64(rows[u + AHEAD]) * width * weight.itemsize)
        row_weight, row_mean, row_square, row_grad = weight[rows[u]], mean[rows[u]], square[rows[u]], grad[u]
        for j in range(len(row_grad)):
            moved = _moved(row_weight[j], row_mean[j], row_square[j], row_grad[j], shrink, size, scale)
            row_weight[j], row_mean[j], row_square[j] = moved


@compiled_for_speed
def _moved(weight: Any, mean: Any, square: Any, grad: Any, shrink: Any, size: Any, scale: Any) -> Any:
    """A number, its mean and its square, moved."""
    decay, fresh = np.float32(BETAS[1]), np.float32(1 - BETAS[1])
    pull, epsilon = np.float32(1 - BETAS[0]), np.float32(EPSILON)
    g = grad + shrink * weight
    m = mean + pull * (g - mean)
    s = decay * square + fresh * g * g
    return weight - size * m / (np.sqrt(s) * scale + epsilon), m, s


def move_plain(
    weight: Tensor, mean: Tensor, square: Tensor, rows: Tensor, grad: Tensor, l2: float, rate: float, spread: float
) -> None:
    """`move` in torch's operations, for any device and type."""
    g = grad.add(weight[rows], alpha=l2)
    m = mean[rows].lerp_(g, 1 - BETAS[0])
    s = square[rows].mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    mean[rows], square[rows] = m, s
    weight.index_add_(0, rows, m / s.sqrt().mul_(spread).add_(EPSILON), alpha=-rate)
