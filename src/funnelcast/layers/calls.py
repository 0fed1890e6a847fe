"""Calls of the compiled loops over a bank: what they are told of tensors, and the ways back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.layers.dropout import PER_NUMBER, LoopDropout, scale_of
from funnelcast.layers.halves import MULTIPLE, pairs
from funnelcast.layers.kernels import BLOCK, backward
from funnelcast.layers.kernels_twice import backward_twice
from funnelcast.layers.products import PANEL, turned_room
from funnelcast.layers.records import BANK, LAYER, SEEN
from funnelcast.layers.repeats import NO_GROUPS, Repeats
from funnelcast.layers.tape import perform
from funnelcast.layers.tiles import FLOAT
from funnelcast.layers.workspace import lease_for, lend


class Seen(NamedTuple):
    """Gate `step` sees `expert`; its weight is column `column` of the gate weights."""

    step: int
    expert: int
    column: int


class Wanted(NamedTuple):
    """The derivatives of a pass that are asked for, beside those by its gates."""

    x: bool
    parameters: bool


class Job(NamedTuple):
    """What a pass is of."""

    dropout: Sequence[LoopDropout]
    """Per layer."""
    seen: tuple[Seen, ...]
    """Pairs of gate and expert in the order of the gates' columns; () without gates."""
    wanted: Wanted
    keep: bool = True
    """Whether there will be a gradient, for which every layer's output is kept."""
    linear: bool = False
    """Whether the last layer has no activation."""
    half: bool = False
    """Whether products are of bfloat16; then there is one derivative."""
    again: Wanted | None = None
    """What the gradient is by that will be differentiated once more; none for one derivative."""
    repeats: Repeats | None = None
    """What repeats in x; then no gradient by x is differentiated once more."""
    slope: float = 0.0
    """Of the activation below 0; a leaky ReLU has no dropout."""

    @property
    def groups(self) -> NDArray[np.void]:
        return NO_GROUPS if self.repeats is None else self.repeats.groups


class Again(NamedTuple):
    """Gradients of a gradient, but for those that another way back goes on with."""

    grad_x: Tensor | None
    grad_gates: Tensor | None
    grad: Tensor
    toward: list[Tensor | None]
    """By the layers' outputs, but the last."""
    parameters: list[Tensor | None]


class WayBack:
    """Back through a bank, once or twice."""

    def __init__(
        self, x: Tensor, gates: Tensor | None, grad: Tensor, job: Job, layers: NDArray[np.void], parameters: Any
    ) -> None:
        """`grad`: of what the bank returned; `layers`: as the way forward left them."""
        self.x, self.gates, self.grad, self.job = x, gates, grad.contiguous(), job
        self.layers, self.parameters = _copy(layers), parameters
        self.networks, self.rows = len(parameters[0]), x.shape[-2]
        self.turn_gates: Tensor | None = None
        self.begun: tuple[Tensor | None, list[Tensor | None]] = None, [None for _ in parameters[0::2]]
        """Gradients by x and weights, which another way back adds its own to."""

    def differentiate(
        self,
        wanted: Wanted,
        toward: Sequence[Tensor | None] = (),
        *,
        keep: bool = False,
        before: WayBack | None = None,
    ) -> tuple[Tensor | None, ...]:
        """The gradients by x, gates and parameters; none where none is wanted. `toward`: those of the layers' outputs
        from elsewhere; `keep` what `differentiate_again` needs; `before`: a way back that was differentiated again, to
        which these add theirs."""
        weights, biases = self.parameters[0::2], self.parameters[1::2]
        begun_x, begun = self.begun if before is None else before.begun
        grad_x = (self.x.new_empty(self.x.shape) if begun_x is None else begun_x) if wanted.x else None
        grad_gates = torch.empty_like(self.gates) if self.gates is not None else None
        make = torch.empty_like if self.rows else torch.zeros_like  # a sum over no rows is never written
        by_weight = [make(w) if grad is None else grad for w, grad in zip(weights, begun, strict=True)]
        grads = [grad if wanted.parameters else None for grad in by_weight]
        grads_bias = [make(p) for p in biases]
        kept = keep and any(wanted)
        if kept:
            self.lease, self.deltas = lend(self._shapes())
        layers = self.layers
        layers["grad_weight"], layers["grad_bias"] = addresses(grads), addresses(grads_bias)
        layers["delta"] = addresses(self.deltas) if kept else 0
        layers["toward"][: len(toward)] = addresses(toward)
        layers["adds"], adds_x = [grad is not None for grad in begun], begun_x is not None
        made = {"grad_x": grad_x, "grad_gates": grad_gates}
        if before is not None and before.turn_gates is not None:
            made |= {"before": before.grad, "before_gates": before.turn_gates}
        self._call(backward, made, BLOCK, adds_x=adds_x)
        pairs = zip(grads, grads_bias, strict=True)
        return grad_x, grad_gates, *(each if wanted.parameters else None for pair in pairs for each in pair)

    def differentiate_again(
        self, turn_x: Tensor | None, turn_gates: Tensor | None, turns: Sequence[Tensor | None]
    ) -> Again:
        """From the gradients of what `differentiate` returned."""
        own = any(turn is not None for turn in turns)
        pairs = zip(turns, self.parameters, strict=True)
        given = (
            [torch.zeros_like(p) if turn is None else turn.contiguous() for turn, p in pairs] if own else list(turns)
        )
        turn_x, turn_gates = (None if turn is None else turn.contiguous() for turn in (turn_x, turn_gates))
        grad_x = self.x.new_empty(self.x.shape) if own and self.job.wanted.x else None
        grad_gates = torch.zeros_like(self.gates) if self.gates is not None else None
        runs, weights = self.rows and (own or turn_x is not None or turn_gates is not None), self.parameters[0::2]
        turn_grad = torch.empty_like(self.grad) if runs else torch.zeros_like(self.grad)
        self.turn_gates = turn_gates
        self.room, rooms = lend(self._shapes()[:-1] if own else [])
        toward: list[Tensor | None] = [*rooms] if own else [None for _ in weights[1:]]
        make = torch.empty_like if self.rows else torch.zeros_like
        grads = [make(w) if turn_x is not None or (own and i) else None for i, w in enumerate(weights)]
        layers = self.layers = _copy(self.layers)  # a tape still has those of before
        layers["turn_weight"], layers["turn_bias"] = addresses(given[0::2]), addresses(given[1::2])
        layers["toward"][:-1], layers["grad_weight"] = addresses(toward), addresses(grads)
        if runs:
            turned = {"turn_x": turn_x, "turn_gates": turn_gates, "turn_grad": turn_grad}
            self._call(backward_twice, {"grad_x": grad_x, "grad_gates": grad_gates, **turned}, self.rows)
        if self.job.repeats is None:  # of these, x is taken apart and put together
            self.begun, grad_x, grads = (grad_x, grads), None, [None for _ in grads]
        return Again(grad_x, grad_gates, turn_grad, toward, [each for grad in grads for each in (grad, None)])

    def _shapes(self) -> list[tuple[int, int, int]]:
        return [(self.networks, self.rows, w.shape[2]) for w in self.parameters[0::2]]

    def _call(self, kernel: Any, tensors: dict[str, Tensor | None], scratch_rows: int, *, adds_x: bool = False) -> None:
        bank = bank_of(self.x, self.gates, self.networks, self.job.repeats)
        bank["grad"], bank["steps"], bank["adds_x"] = self.grad.data_ptr(), len(self.grad), adds_x
        for name, tensor in tensors.items():
            bank[name] = _address(tensor)
        for name in ("grad_x", "turn_x"):
            bank[f"{name}_step"] = _step(tensors.get(name))
        run(kernel, bank, self.layers, self.job, scratch_rows)


def run(kernel: Any, bank: NDArray[np.void], layers: NDArray[np.void], job: Job, rows: int = 0) -> None:
    """Runs a loop with the spaces that it needs; `rows` of the scratch."""
    networks, widths, half = int(bank["networks"][0]), layers["width"].tolist(), int(job.half)
    size = rows * max(widths)
    every = (int(layers["width_in"][0]) if job.repeats is None else job.repeats.of.shape[1], *widths)
    paired = max(BLOCK, *every) * pairs(max(every)) if half else 0
    drawn = BLOCK * max(widths) // 2 + PER_NUMBER if layers["seeds"].any() else 0  # two draws to a number
    room = turned_room(max(every), max(rows, BLOCK))
    sizes = [size, size, networks * _packed_size(every), room, paired, paired, drawn]
    sizes += _sizes_of(job.repeats, bank, every) if job.repeats is not None else []
    lease = lease_for(sizes)
    first, second, bank["packed"], bank["room"], bank["paired"], last, bank["draws"], *more = lease.places(sizes)
    bank["scratch_step"], bank["paired_step"], bank["half"] = second - first, last - bank["paired"], half
    bank["scratch"] = first
    if job.repeats is not None:
        bank["sums"], bank["first_weight"], bank["first_grad"], bank["grad_vectors"], dense = more
        bank["grad_whole"], bank["grad_x"] = bank["grad_x"], dense if bank["grad_x"][0] else 0
    perform(kernel, bank, layers, *by_network(job.seen, networks), job.groups)


def _sizes_of(repeats: Repeats, bank: NDArray[np.void], widths: Sequence[int]) -> list[int]:
    """Numbers in the spaces for what repeats: `sums`, `first_weight`, `first_grad`, `grad_vectors`, and where it is
    wanted, `grad_x`."""
    first, rows = widths[0] * widths[1], int(bank["rows"][0]) if bank["grad_x"][0] else 0
    return [int(bank["networks"][0]) * repeats.count * widths[1], first, first, len(repeats.vectors), rows * widths[0]]


@cache
def _packed_size(widths: tuple[int, ...]) -> int:
    """Numbers of a network's weights in panels, turned or not."""
    return sum(max(size_of_panels(a, b), size_of_panels(b, a)) for a, b in pairwise(widths))


def size_of_panels(depth: int, columns: int) -> int:
    """Numbers, or pairs of them, of a matrix (depth, columns) in panels, at most."""
    return max(depth, MULTIPLE) * -(-columns // PANEL) * PANEL


def by_rows(x: Tensor) -> Tensor:
    """Each network's rows one after the other in memory; that networks share them may stay."""
    return x if x.dim() == 3 and x[0].is_contiguous() else x.contiguous()


def _step(x: Tensor | None) -> int:
    """Bytes from one network's rows to the next one's."""
    return x.stride(0) * FLOAT if x is not None and x.dim() == 3 else 0


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    """Where their numbers begin; 0 for none."""
    return [_address(tensor) for tensor in tensors]


def arrays_of(*tensors: Tensor) -> list[Any]:
    """Their numbers, for loops."""
    return [tensor.detach().numpy() for tensor in tensors]


def layers_of(x: Tensor, parameters: Sequence[Tensor], job: Job) -> NDArray[np.void]:
    """The layers of a bank, without room for their outputs."""
    columns = (x if job.repeats is None else job.repeats.dense).shape[-1]
    widths = tuple(w.shape[2] for w in parameters[0::2])
    layers = _copy(_layers(columns, widths, x.shape[-2], job.linear, job.slope))
    layers["weight"], layers["bias"] = addresses(parameters[0::2]), addresses(parameters[1::2])
    if any(each.seeds is not None for each in job.dropout):
        layers["seeds"] = [0 if each.seeds is None else each.seeds.ctypes.data for each in job.dropout]
        layers["seed_rows"], layers["limit"] = [d.rows for d in job.dropout], [d.limit for d in job.dropout]
        layers["scale"] = [scale_of(each.limit) for each in job.dropout]
    return layers


@lru_cache
def _layers(columns: int, widths: tuple[int, ...], rows: int, linear: bool, slope: float) -> NDArray[np.void]:
    """What `layers_of` a shape have in common."""
    layers = np.zeros(len(widths), LAYER)
    layers["width_in"], layers["width"] = (columns, *widths[:-1]), widths
    layers["output_step"] = [rows * width * FLOAT for width in widths]
    layers["output_row"] = [width * FLOAT for width in widths]
    layers["scale"], layers["slope"] = 1, slope
    if linear:
        layers["slope"][-1] = 1
    return layers


def _copy(layers: NDArray[np.void]) -> NDArray[np.void]:
    """As bytes, which numpy copies faster than named numbers."""
    return layers.view(np.uint8).copy().view(LAYER)


def bank_of(x: Tensor, gates: Tensor | None, networks: int, repeats: Repeats | None = None) -> NDArray[np.void]:
    """A call with its input."""
    bank = np.zeros(1, BANK)
    bank["networks"], bank["rows"] = networks, x.shape[-2]
    bank["x"], bank["x_step"], bank["whole"] = x.data_ptr(), _step(x), x.shape[-1]
    if repeats is not None:
        bank["x"], bank["count"] = repeats.dense.data_ptr(), repeats.count
        for name, array in (("codes", repeats.codes), ("readers", repeats.readers), ("vectors", repeats.vectors)):
            bank[name] = array.ctypes.data
    if gates is not None:
        bank["gates"], bank["columns"] = gates.data_ptr(), gates.shape[1]
    return bank


@cache
def by_network(seen: tuple[Seen, ...], networks: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """`seen` in the order of networks, and where each network's begin."""
    ordered = sorted(seen, key=lambda s: s.expert)
    first = np.searchsorted([s.expert for s in ordered], np.arange(networks + 1))
    return np.array([(s.step, s.column) for s in ordered], SEEN), first
