"""The floor of a training step: the matrix products of a model alone, in the fastest of the ways torch offers.

Forward, weight gradient and input gradient of every linear layer, with preallocated outputs: no activation, gate
mixing, loss, optimizer, embedding or loader. A pass has every product once, each with operands of its own, as a step
has; that a product repeated alone finds its operands in the cache is no floor of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from funnelcast.data.batch import Batch

Run = Callable[[], object]
mm, addmm, bmm, baddbmm = (getattr(torch.ops.aten, name) for name in ("mm", "addmm", "bmm", "baddbmm"))


class Products(NamedTuple):
    """A bank of N layers on B rows."""

    networks: int
    rows: int
    width_in: int
    width_out: int
    shared: bool
    """Whether all networks read the same rows."""


class _Noted(TorchDispatchMode):
    """Notes every matrix product that torch runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[Products] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (mm.default, addmm.default, bmm.default, baddbmm.default):
            x, w = args[-2:]
            networks, shared = (len(x), x.stride(0) == 0) if x.dim() == 3 else (1, False)
            self.products.append(Products(networks, x.shape[-2], x.shape[-1], w.shape[-1], shared))
        return func(*args, **(kwargs or {}))


def products_of(model: Callable[[Batch], object], batch: Batch) -> list[Products]:
    """Every matrix product of a forward pass on `batch`, in plain operations."""
    noted = _Noted()
    with torch.no_grad(), noted:
        model(batch)
    return noted.products


class Floor:
    """Passes over all products of a batch of `rows`, each in its fastest way."""

    def __init__(self, products: list[Products], rows: int, *, threads: int = 1, backward: bool = True) -> None:
        self.rows, self.threads = rows, threads
        self._passes = [[_fastest(p, backward) for p in products] for _ in range(threads)]

    def rate(self, seconds: float) -> float:
        """Rows/s of about so many seconds. Threads wait for one another after each pass, as those that share a batch
        do."""
        started, passes, enough = time.perf_counter(), 0, False

        def passed() -> None:
            nonlocal passes, enough
            passes, enough = passes + 1, time.perf_counter() - started >= seconds

        barrier = Barrier(self.threads, passed)

        def work(products: list[Run]) -> None:
            while not enough:
                for run in products:
                    run()
                barrier.wait()

        if self.threads == 1:
            work(self._passes[0])
        else:
            with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(work, self._passes))
        return self.threads * passes * self.rows / (time.perf_counter() - started)


def _fastest(p: Products, backward: bool, repeats: int = 7) -> Run:
    """By the shortest of some runs after one to warm up."""

    def seconds(run: Run) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return min(ways(p, backward=backward), key=lambda run: min([seconds(run) for _ in range(repeats + 1)][1:]))


def ways(p: Products, *, backward: bool) -> Iterator[Run]:
    """Network by network, in one batched product, and, where the input is shared, as one wide layer."""
    yield _one_by_one(p, backward)
    yield _batched(p, backward)
    if p.shared and p.networks > 1:
        yield _one_by_one(Products(1, p.rows, p.width_in, p.networks * p.width_out, shared=True), backward)


def _tensors(p: Products) -> tuple[Tensor, ...]:
    x = torch.randn(p.networks, p.rows, p.width_in)
    if p.shared:
        x = x[:1].expand(p.networks, -1, -1)
    w, y = torch.randn(p.networks, p.width_in, p.width_out), torch.empty(p.networks, p.rows, p.width_out)
    return x, w, y, torch.randn_like(y), torch.empty_like(w), torch.empty(p.networks, p.rows, p.width_in)


def _one_by_one(p: Products, backward: bool) -> Run:
    networks = list(zip(*(t.unbind() for t in _tensors(p)), strict=True))

    def run() -> None:
        for x, w, y, grad_y, grad_w, grad_x in networks:
            torch.mm(x, w, out=y)
            if not backward:
                continue
            torch.mm(x.t(), grad_y, out=grad_w)
            torch.mm(grad_y, w.t(), out=grad_x)

    return run


def _batched(p: Products, backward: bool) -> Run:
    x, w, y, grad_y, grad_w, grad_x = _tensors(p)

    def run() -> None:
        torch.bmm(x, w, out=y)
        if not backward:
            return
        torch.bmm(x.transpose(1, 2), grad_y, out=grad_w)
        torch.bmm(grad_y, w.transpose(1, 2), out=grad_x)

    return run
