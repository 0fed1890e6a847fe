"""Adam of dense parameters, and of just the rows of a table that a batch touches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.runtime.threads import Workers, parallel_map
from funnelcast.training.row_decay import RowDecay

ELEMENTS: Final = 1 << 16
"""Of dense parameters, about, that a thread moves at a time."""
SHARE: Final = 4096
"""Rows that a thread moves at a time."""


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
        """Contiguous parameters."""
        self.groups = groups
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        assert all(parameter.is_contiguous() for parameter in self.parameters)
        self.mean = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.square = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = 0

    def step(self, by_microbatch: Sequence[list[Tensor]]) -> None:
        """By what the gradients of a batch's microbatches add up to: of the groups' parameters, one after the other."""
        for share in self.shares(by_microbatch):
            share()

    def shares(self, by_microbatch: Sequence[list[Tensor]]) -> list[Callable[[], None]]:
        """What there is to do in such a step, for threads to share."""
        sizes = [parameter.shape for parameter in self.parameters]
        assert all([grad.shape for grad in grads] == sizes for grads in by_microbatch), (
            "gradients are not of these parameters"
        )
        self.steps += 1
        correction, scale = ops.bias_corrections(self.steps)
        jobs, start = list[Callable[[], None]](), 0
        for group in self.groups:
            end = start + len(group.parameters)
            for share in _shares(start, [parameter.numel() for parameter in group.parameters]):
                jobs.append(partial(self._move, group, share, by_microbatch, group.learning_rate / correction, scale))
            start = end
        return jobs

    @torch.no_grad()
    def _move(
        self, group: Group, own: list[int], by_microbatch: Sequence[list[Tensor]], rate: float, scale: float
    ) -> None:
        """`own`: numbers of parameters of a group."""
        first = self.parameters[own[0]]
        decays = group.decays or (0.0,) * len(group.parameters)
        start = next(i for i, each in enumerate(self.parameters) if each is group.parameters[0])
        weight, mean, square = ([every[i] for i in own] for every in (self.parameters, self.mean, self.square))
        grads = [[microbatch[i] for i in own] for microbatch in by_microbatch]
        decay = [group.learning_rate * decays[i - start] for i in own]
        with ops.compute(first.device, dtype=first.dtype):
            ops.adam(weight, mean, square, grads, rate=rate, scale=scale, l2=group.l2, decay=decay)

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


def _shares(first: int, sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of parameters, from `first` on, of which a thread moves some at a time."""
    shares, total = list[list[int]](), 0
    for i, size in enumerate(sizes):
        if not shares or total + size > ELEMENTS:
            shares.append([])
            total = 0
        shares[-1].append(first + i)
        total += size
    return shares


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
        self.moments = table.weight.new_zeros(rows, 2, width)
        self.decay = RowDecay(table.weight.detach(), learning_rate * decay) if decay else None
        self.steps = 0

    @torch.no_grad()
    def step(self, rows: Tensor, grad: Tensor, workers: Workers | None = None) -> None:
        """Rows (U,) distinct, grad (U, E); `workers`: threads that share the rows."""
        self.steps += 1
        correction, scale = ops.bias_corrections(self.steps)
        rate, weight, decay = self.learning_rate / correction, self.table.weight.detach(), self.decay
        last, lost = (None, None) if decay is None else (decay.last, decay.lost(self.steps))

        def move(start: int) -> None:
            share = slice(start, start + size)
            with ops.compute(weight.device, dtype=weight.dtype):
                ops.adam_rows(
                    weight, self.moments, rows[share], grad[share], rate=rate, scale=scale, l2=self.l2, last=last,
                    lost=lost, step=self.steps,
                )  # fmt: skip

        size = max(1, len(rows) if workers is None or weight.device.type != "cpu" else SHARE)
        parallel_map(workers, move, range(0, len(rows), size))

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
