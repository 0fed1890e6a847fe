"""Adam of dense parameters, and of just the rows of a table that a batch touches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, fetch
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.gates import sum_of
from funnelcast.layers.large_pages import on_large_pages
from funnelcast.layers.mode import is_simple
from funnelcast.layers.products import matrix
from funnelcast.layers.tiles import FLOAT
from funnelcast.threads import Workers, together
from funnelcast.training.move_row import BETAS, EPSILON, move_row

AHEAD: Final = 16
"""Rows that are fetched beforehand."""
PIECE: Final = 8192
"""Numbers of a dense parameter that are added up before they are moved, while they are in the cache."""
NUMBERS: Final = 1 << 16
"""Of dense parameters, that a thread moves at a time."""
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

    def step(self, by_piece: Sequence[Sequence[Tensor]]) -> None:
        """By what the gradients of a batch's pieces add up to: of the groups' parameters, one after the other."""
        for share in self.shares(by_piece):
            share()

    def shares(self, by_piece: Sequence[Sequence[Tensor]]) -> Iterator[Callable[[], None]]:
        """What there is to do in such a step, for threads to share."""
        assert all(len(grads) == len(self.parameters) for grads in by_piece), "gradients are not of these parameters"
        self.steps += 1
        correction, spread = corrections(self.steps)
        start = 0
        for group in self.groups:
            part = slice(start, start + len(group.parameters))
            own = [list(each[part]) for each in (self.parameters, self.mean, self.square, *by_piece)]
            parts = _parts_of_group if all(map(is_simple, own[0])) else _group_plain
            yield from parts(own, group.l2, group.learning_rate / correction, spread)
            start = part.stop

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


def _parts_of_group(own: Sequence[list[Tensor]], l2: float, rate: float, spread: float) -> list[Callable[[], None]]:
    """`own`: parameters, means, squares, and the gradients of each piece."""
    held = [*own[:3], *([each.contiguous() for each in grads] for grads in own[3:])]
    sizes = [each.numel() for each in held[0]]
    assert all(sizes == [each.numel() for each in grads] for grads in held[3:]), "gradients are not of these parameters"
    places = np.array([[tensor.data_ptr() for tensor in tensors] for tensors in held], np.int64)

    def move_some(pieces: NDArray[np.int64], held: object) -> None:
        """`held`: in memory for as long as the loop runs."""
        move_all(places, pieces, l2, rate, spread)

    return [partial(move_some, pieces, held) for pieces in _shares(tuple(sizes))]


@cache
def _shares(sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Numbers of parameters of these sizes, for threads to share: (n, 3) each, which one, from where on, how many."""
    pieces = [(i, at, min(PIECE, size - at)) for i, size in enumerate(sizes) for at in range(0, size, PIECE)]
    shares = -(-sum(sizes) // NUMBERS)
    return [np.array(pieces[i::shares], np.int64).reshape(-1, 3) for i in range(shares)]


def _group_plain(own: Sequence[list[Tensor]], l2: float, rate: float, spread: float) -> list[Callable[[], None]]:
    return [partial(_move_group_plain, own, l2, rate, spread)]


@torch.no_grad()
def _move_group_plain(own: Sequence[list[Tensor]], l2: float, rate: float, spread: float) -> None:
    weight, mean, square, *by_piece = own
    grad = [sum_of(grads) for grads in zip(*by_piece, strict=True)]
    g = torch._foreach_add(grad, weight, alpha=l2)
    torch._foreach_lerp_(mean, g, 1 - BETAS[0])
    torch._foreach_mul_(square, BETAS[1])
    torch._foreach_addcmul_(square, g, g, value=1 - BETAS[1])
    size = torch._foreach_sqrt(square)
    torch._foreach_mul_(size, spread)
    torch._foreach_add_(size, EPSILON)
    torch._foreach_addcdiv_(weight, mean, size, value=-rate)


class RowAdam:
    """Moments (V, 2, E) of a table's rows, mean and square beside each other, as they are moved together. Rows that a
    batch does not touch stay as they are, and so do their moments.

    The count of steps, which corrects the moments' bias, is the table's, not a row's.
    """

    def __init__(self, table: EmbeddingTable, learning_rate: float, l2: float) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self.l2 = l2
        rows, width = table.weight.shape
        self.moments = on_large_pages(table.weight.new_empty(rows, 2, width)).zero_()
        self.steps = 0

    @torch.no_grad()
    def step(self, rows: Tensor, grad: Tensor, workers: Workers | None = None) -> None:
        """rows (U,) distinct, grad (U, E); `workers`: threads that share the rows."""
        self.steps += 1
        correction, spread = corrections(self.steps)
        rate = self.learning_rate / correction
        weight, moments = self.table.weight.detach(), self.moments
        if is_simple(grad):
            assert weight.is_contiguous() and grad.is_contiguous()

            def move_share(share: tuple[Tensor, Tensor]) -> None:
                rows, grad = share
                move(weight.numpy(), moments.numpy(), rows.numpy(), grad.numpy(), self.l2, rate, spread)

            size = max(1, len(rows) if workers is None else SHARE)
            together(workers, move_share, list(zip(rows.split(size), grad.split(size), strict=True)))
        else:
            move_plain(weight, moments, rows.long(), grad, self.l2, rate, spread)

    def state(self) -> dict[str, Tensor]:
        """Moments and the count of steps by name."""
        return {"moments": self.moments, "steps": torch.tensor(self.steps)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.moments.copy_(state["moments"])
        self.steps = int(state["steps"])


@compiled_for_speed
def move_all(places: Any, pieces: Any, l2: float, rate: float, spread: float) -> None:
    """In place, numbers whose addresses are in `places` (3 + P, n): of parameters, means, squares, and the gradients of
    P pieces of a batch. `pieces` (m, 3): which parameter, from which number on, and how many."""
    shrink, size, scale, sums = np.float32(l2), np.float32(rate), np.float32(spread), np.empty((1, PIECE), np.float32)
    for m in range(len(pieces)):
        i, at, numbers = pieces[m, 0], pieces[m, 1] * FLOAT, pieces[m, 2]
        weight, mean = matrix(places[0, i] + at, 1, numbers), matrix(places[1, i] + at, 1, numbers)
        square, grad = matrix(places[2, i] + at, 1, numbers), matrix(places[3, i] + at, 1, numbers)
        if len(places) > 4:
            sums[0, :numbers] = grad[0]
            for p in range(4, len(places)):
                sums[0, :numbers] += matrix(places[p, i] + at, 1, numbers)[0]
            grad = sums
        for j in range(numbers):
            moved = _moved(weight[0, j], mean[0, j], square[0, j], grad[0, j], shrink, size, scale)
            weight[0, j], mean[0, j], square[0, j] = moved


@compiled_for_speed
def move(weight: Any, moments: Any, rows: Any, grad: Any, l2: float, rate: float, spread: float) -> None:
    """weight (V, E) and moments (V, 2, E) at `rows` (U,), in place and in one pass: each row is fetched from memory
    once. All lie in one piece."""
    shrink, size, scale = np.float32(l2), np.float32(rate), np.float32(spread)
    row, weights, means, grads = weight.shape[1] * FLOAT, weight.ctypes.data, moments.ctypes.data, grad.ctypes.data
    for u in range(len(rows)):
        if u + AHEAD < len(rows):
            ahead = np.int64(rows[u + AHEAD]) * row
            fetch(weights + ahead)
            fetch(means + 2 * ahead)
            fetch(means + 2 * ahead + 2 * row - FLOAT)  # it may lie on two lines
        at = np.int64(rows[u]) * row
        mean = means + 2 * at
        move_row(weights + at, mean, mean + row, grads + u * row, weight.shape[1], shrink, size, scale)


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
    weight: Tensor, moments: Tensor, rows: Tensor, grad: Tensor, l2: float, rate: float, spread: float
) -> None:
    """`move` in torch's operations, for any device and type."""
    g = grad.add(weight[rows], alpha=l2)
    m, s = moments[rows].unbind(1)
    m = m.lerp(g, 1 - BETAS[0])
    s = s.mul(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    moments[rows] = torch.stack([m, s], 1)
    weight.index_add_(0, rows, m / s.sqrt().mul_(spread).add_(EPSILON), alpha=-rate)
