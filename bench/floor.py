"""The floor of a training step: the matrix products of a model alone, in the fastest of the ways torch offers.

Forward, weight gradient and input gradient of every linear layer, with preallocated outputs: no activation, gate
mixing, loss, optimizer, embedding or loader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.layers.banks import LinearBank
from funnelcast.models.network import FunnelModel

Run = Callable[[], object]


class Products(NamedTuple):
    """A bank of N layers on B rows."""

    networks: int
    rows: int
    width_in: int
    width_out: int
    shared: bool
    """Whether all networks read the same rows."""


def products_of(model: FunnelModel, batch: Batch) -> list[Products]:
    """Every linear layer that a forward pass on `batch` goes through, as often as it does."""
    found: list[Products] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, banks = inputs[0], isinstance(layer, LinearBank)
        networks = len(output) if banks else 1
        rows = output[..., 0].numel() // networks
        found.append(Products(networks, rows, x.shape[-1], output.shape[-1], banks and x.dim() == 2))

    layers = [module for module in model.modules() if isinstance(module, (LinearBank, nn.Linear))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return found


def floor_seconds(products: list[Products], repeats: int = 15) -> float:
    """Of one pass over all `products`, each in its fastest way."""
    return sum(min(_seconds(run, repeats) for run in ways(p)) for p in products)


def _seconds(run: Run, repeats: int) -> float:
    """Median over `repeats` runs after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return sorted(times[2:])[repeats // 2]


def ways(p: Products) -> Iterator[Run]:
    """Network by network, in one batched product, and, where the input is shared, as one wide layer."""
    yield _one_by_one(p)
    yield _batched(p)
    if p.shared and p.networks > 1:
        yield _one_by_one(Products(1, p.rows, p.width_in, p.networks * p.width_out, shared=True))


def _tensors(p: Products) -> tuple[Tensor, ...]:
    x = torch.randn(p.networks, p.rows, p.width_in)
    if p.shared:
        x = x[:1].expand(p.networks, -1, -1)
    w, y = torch.randn(p.networks, p.width_in, p.width_out), torch.empty(p.networks, p.rows, p.width_out)
    return x, w, y, torch.randn_like(y), torch.empty_like(w), torch.empty(p.networks, p.rows, p.width_in)


def _one_by_one(p: Products) -> Run:
    networks = list(zip(*(t.unbind() for t in _tensors(p)), strict=True))

    def run() -> None:
        for x, w, y, grad_y, grad_w, grad_x in networks:
            torch.mm(x, w, out=y)
            torch.mm(x.t(), grad_y, out=grad_w)
            torch.mm(grad_y, w.t(), out=grad_x)

    return run


def _batched(p: Products) -> Run:
    x, w, y, grad_y, grad_w, grad_x = _tensors(p)

    def run() -> None:
        torch.bmm(x, w, out=y)
        torch.bmm(x.transpose(1, 2), grad_y, out=grad_w)
        torch.bmm(grad_y, w.transpose(1, 2), out=grad_x)

    return run
