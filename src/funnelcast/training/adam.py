"""Adam of dense parameters, and of just the rows of a table that a batch touches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from funnelcast.compiled import compiled_for_speed, fetch
from funnelcast.layers.calls import addresses
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.gates import sum_of
from funnelcast.layers.large_pages import on_large_pages
from funnelcast.layers.mode import is_simple
from funnelcast.layers.products import matrix
from funnelcast.layers.tiles import FLOAT
from funnelcast.runtime.threads import Workers, together
from funnelcast.training.move_row import BETAS, EPSILON, TINY, move_row
from funnelcast.training.row_decay import RowDecay

AHEAD: Final = 16
"""Rows that are fetched beforehand."""
PIECE: Final = 8192
"""Numbers of a dense parameter that are added up before they are moved, while they are in the cache."""
NUMBERS: Final = 1 << 16
"""Of dense parameters, that a thread moves at a time."""
SHARE: Final = 4096
"""Rows that a thread moves at a time."""
_NO_DECAY: Final = torch.empty(0, dtype=torch.int32), torch.zeros(1)


class Group(NamedTuple):
    """Parameters that move alike, but for their decay."""

    parameters: list[Tensor]
    learning_rate: float
    l2: float
    decays: tuple[float, ...] = ()
    """λ of each parameter's decoupled decay (Loshchilov & Hutter 2019): in a step it also loses learning_rate · λ of
    itself; none for 0 each."""


class DenseAdam:
    """Moments of parameters that move in every step, as torch.optim.Adam moves them, and where they decay as AdamW:
    that takes 0.3 ms around its work, in a step of 10 to 100."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Parameters whose numbers lie one after the other."""
        self.groups = groups
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        assert all(parameter.is_contiguous() for parameter in self.parameters)
        self.mean = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.square = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = 0
        ends = list(accumulate(len(group.parameters) for group in groups))
        spans = zip(groups, map(slice, [0, *ends], ends), strict=True)
        self._parts = [_Part(g, span, self.mean[span], self.square[span]) for g, span in spans if g.parameters]

    def step(self, by_piece: Sequence[list[Tensor]]) -> None:
        """By what the gradients of a batch's pieces add up to: of the groups' parameters, one after the other."""
        for share in self.shares(by_piece):
            share()

    def shares(self, by_piece: Sequence[list[Tensor]]) -> list[Callable[[], None]]:
        """What there is to do in such a step, for threads to share."""
        assert all(len(grads) == len(self.parameters) for grads in by_piece), "gradients are not of these parameters"
        self.steps += 1
        correction, spread = corrections(self.steps)
        every = (part.shares([grads[part.span] for grads in by_piece], correction, spread) for part in self._parts)
        return list(chain.from_iterable(every))

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


class _Part:
    """A group and its moments, which stay where they are in memory, so that no step has to ask."""

    def __init__(self, group: Group, span: slice, mean: list[Tensor], square: list[Tensor]) -> None:
        """`span`: where its parameters are among all."""
        self.group, self.span, self.moments = group, span, (mean, square)
        self.lost = np.zeros(len(group.parameters), np.float64)
        self.lost[: len(group.decays)] = np.multiply(group.learning_rate, group.decays)
        self.sizes = tuple(each.numel() for each in group.parameters)
        self.simple = all(map(is_simple, group.parameters))
        self._moments_at = [addresses(each) for each in self.moments]

    def shares(self, by_piece: list[list[Tensor]], correction: float, spread: float) -> list[Callable[[], None]]:
        """`by_piece`: gradients of its parameters."""
        parameters, l2, rate = self.group.parameters, self.group.l2, self.group.learning_rate / correction
        if not self.simple:
            return [partial(_move_plain, (parameters, *self.moments, *by_piece), self.lost.tolist(), l2, rate, spread)]
        held = [[each.contiguous() for each in grads] for grads in by_piece]
        fits = [tuple(each.numel() for each in grads) == self.sizes for grads in held]
        assert all(fits), "gradients are not of these parameters"
        places = np.array([addresses(parameters), *self._moments_at, *map(addresses, held)], np.int64)

        def move_some(pieces: NDArray[np.int64], held: object) -> None:
            """`held`: in memory for as long as the loop runs."""
            move_all(places, pieces, self.lost, l2, rate, spread)

        return [partial(move_some, pieces, held) for pieces in _shares(self.sizes)]


@cache
def _shares(sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Numbers of parameters of these sizes, for threads to share: (n, 3) each, which one, from where on, how many."""
    pieces = [(i, at, min(PIECE, size - at)) for i, size in enumerate(sizes) for at in range(0, size, PIECE)]
    shares = -(-sum(sizes) // NUMBERS)
    return [np.array(pieces[i::shares], np.int64).reshape(-1, 3) for i in range(shares)]


@torch.no_grad()
def _move_plain(own: Sequence[list[Tensor]], lost: list[float], l2: float, rate: float, spread: float) -> None:
    """`own`: parameters, means, squares, and the gradients of each piece; `lost`: the share of each parameter that
    decay takes."""
    weight, mean, square, *by_piece = own
    grad = [sum_of(grads) for grads in zip(*by_piece, strict=True)]
    g = torch._foreach_add(grad, weight, alpha=l2)
    torch._foreach_lerp_(mean, g, 1 - BETAS[0])
    torch._foreach_mul_(square, BETAS[1])
    torch._foreach_addcmul_(square, g, g, value=1 - BETAS[1])
    size = torch._foreach_sqrt(square)
    torch._foreach_mul_(size, spread)
    torch._foreach_add_(size, EPSILON)
    if any(lost):
        torch._foreach_mul_(weight, [1 - share for share in lost])
    torch._foreach_addcdiv_(weight, mean, size, value=-rate)
    for tensor in (*weight, *mean, *square):
        tensor.copy_(functional.hardshrink(tensor, TINY))


class RowAdam:
    """Moments (V, 2, E) of a table's rows, mean and square beside each other, as they are moved together. Rows that a
    batch does not touch stay as they are, and so do their moments.

    The count of steps, which corrects the moments' bias, is the table's, not a row's. Decay is that of `RowDecay`.
    """

    def __init__(self, table: EmbeddingTable, learning_rate: float, l2: float, decay: float = 0.0) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self.l2 = l2
        rows, width = table.weight.shape
        self.moments = on_large_pages(table.weight.new_empty(rows, 2, width)).zero_()
        self.decay = RowDecay(table.weight.detach(), learning_rate * decay) if decay else None
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
            to, own, from_rows, by = weight.numpy(), moments.numpy(), rows.numpy(), grad.numpy()
            size = max(1, len(rows) if workers is None else SHARE)
            last, lost = _NO_DECAY if self.decay is None else (self.decay.last, self.decay.lost(self.steps))
            decay = last.numpy(), lost.numpy(), self.steps

            def move_share(start: int) -> None:
                share = slice(start, start + size)
                move(to, own, from_rows[share], by[share], self.l2, rate, spread, *decay)

            together(workers, move_share, range(0, len(rows), size))
        else:
            rows = rows.long()
            shares = 0.0 if self.decay is None else self.decay.of(rows, self.steps)
            move_plain(weight, moments, rows, grad, self.l2, rate, spread, shares)

    @torch.no_grad()
    def settle(self) -> None:
        """Let all rows lose what is owed to decay, before they are measured or kept."""
        if self.decay is not None:
            self.decay.settle(self.table.weight, self.steps)

    def state(self) -> dict[str, Tensor]:
        """Moments and the count of steps by name, and for decay the step in which each row last moved."""
        state = {"moments": self.moments, "steps": torch.tensor(self.steps)}
        return state if self.decay is None else {**state, "last": self.decay.last}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.moments.copy_(state["moments"])
        self.steps = int(state["steps"])
        if self.decay is not None:
            self.decay.load(state["last"])


@compiled_for_speed
def move_all(places: Any, pieces: Any, lost: Any, l2: float, rate: float, spread: float) -> None:
    """In place, numbers whose addresses are in `places` (3 + P, n): of parameters, means, squares, and the gradients of
    P pieces of a batch. `pieces` (m, 3): which parameter, from which number on, and how many; `lost` (n,): the share of
    each that decay takes."""
    shrink, size, scale, sums = np.float32(l2), np.float32(rate), np.float32(spread), np.empty((1, PIECE), np.float32)
    for m in range(len(pieces)):
        i, at, numbers = pieces[m, 0], pieces[m, 1] * FLOAT, pieces[m, 2]
        own_lost = np.float32(lost[i])
        weight, mean = matrix(places[0, i] + at, 1, numbers), matrix(places[1, i] + at, 1, numbers)
        square, grad = matrix(places[2, i] + at, 1, numbers), matrix(places[3, i] + at, 1, numbers)
        for p in range(4, len(places)):
            more = matrix(places[p, i] + at, 1, numbers)
            for j in range(numbers):
                sums[0, j] = grad[0, j] + more[0, j]
            grad = sums
        for j in range(numbers):
            moved = _moved(weight[0, j], mean[0, j], square[0, j], grad[0, j], shrink, size, scale, own_lost)
            weight[0, j], mean[0, j], square[0, j] = moved


@compiled_for_speed
def move(
    weight: Any, moments: Any, rows: Any, grad: Any, l2: float, rate: float, spread: float, last: Any, lost: Any,
    step: int,
) -> None:  # fmt: skip
    """weight (V, E) and moments (V, 2, E) at `rows` (U,), in place and in one pass: each row is fetched from memory
    once. All lie in one piece. `last` (V,), the step in which each last moved, becomes this one, and lost (n,) is the
    share that decay takes in so many steps; (0,) for no decay."""
    shrink, size, scale = np.float32(l2), np.float32(rate), np.float32(spread)
    row, weights, means, grads = weight.shape[1] * FLOAT, weight.ctypes.data, moments.ctypes.data, grad.ctypes.data
    decays, own_lost = len(last) > 0, np.float32(0)
    for u in range(len(rows)):
        if u + AHEAD < len(rows):
            ahead = np.int64(rows[u + AHEAD]) * row
            fetch(weights + ahead)
            fetch(means + 2 * ahead)
            fetch(means + 2 * ahead + 2 * row - FLOAT)  # it may lie on two lines
            if decays:
                fetch(last.ctypes.data + np.int64(rows[u + AHEAD]) * FLOAT)
        at = np.int64(rows[u]) * row
        mean = means + 2 * at
        if decays:
            own_lost = lost[step - last[rows[u]]]
            last[rows[u]] = step
        move_row(weights + at, mean, mean + row, grads + u * row, weight.shape[1], shrink, size, scale, own_lost)


@compiled_for_speed
def _moved(weight: Any, mean: Any, square: Any, grad: Any, shrink: Any, size: Any, scale: Any, lost: Any) -> Any:
    """A number, its mean and its square, moved."""
    decay, fresh = np.float32(BETAS[1]), np.float32(1 - BETAS[1])
    pull, epsilon = np.float32(1 - BETAS[0]), np.float32(EPSILON)
    g = grad + shrink * weight
    m = mean + pull * (g - mean)
    s = decay * square + fresh * g * g
    w = weight - (size * m / (np.sqrt(s) * scale + epsilon) + lost * weight)
    return _without_tiny(w), _without_tiny(m), _without_tiny(s)


@compiled_for_speed
def _without_tiny(number: Any) -> Any:
    """The number, or 0 where its magnitude is at most `TINY`; nan stays."""
    return np.float32(0) if abs(number) <= np.float32(TINY) else number


def move_plain(
    weight: Tensor, moments: Tensor, rows: Tensor, grad: Tensor, l2: float, rate: float, spread: float, lost: Any = 0.0
) -> None:
    """Move rows as `move` does, in torch's operations, for any device and type. `lost`: the share of each row (U, 1)
    that decay takes."""
    g = grad.add(weight[rows], alpha=l2)
    m, s = moments[rows].unbind(1)
    m = m.lerp(g, 1 - BETAS[0])
    s = s.mul(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    moments[rows] = functional.hardshrink(torch.stack([m, s], 1), TINY)
    step = m / s.sqrt().mul_(spread).add_(EPSILON)
    weight[rows] = functional.hardshrink(weight[rows] - (rate * step + lost * weight[rows]), TINY)
