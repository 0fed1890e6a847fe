"""A subnormal product is 0 wherever the package computes, and a caller's thread is left as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, get_ident
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.compiled import compiled
from funnelcast.data.table import Table
from funnelcast.models.network import FunnelModel
from funnelcast.runtime.subnormals import flush_to_zero, is_flushing
from funnelcast.runtime.threads import parallel_map, prefetch, threads, worker_pool
from funnelcast.training.adam import DenseAdam
from tests import tiny
from tests.serving.adapted import FEW, base, delta, support
from tests.training.runs import run

HERE = "here"


@pytest.fixture(autouse=True, params=[False, True], ids=["ordinary", "flushing"])
def state(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Each test's caller, which computes with subnormal numbers or takes them as 0 already."""
    if not torch.set_flush_denormal(True):
        pytest.fail("this processor cannot flush to zero, and the package promises nothing there")
    torch.set_flush_denormal(request.param)
    yield request.param
    assert products() == [request.param] * 3, "the caller's thread was not left as it was"
    torch.set_flush_denormal(False)


@compiled
def multiply(a: Any, b: Any) -> None:
    for i in range(len(a)):
        a[i] *= b[i]


def products() -> list[bool]:
    """Whether 1e-30 · 1e-10 is 0 by numpy, PyTorch and a compiled loop, each of as many numbers as fill registers: by
    their bits, as a thread that flushes finds every subnormal number equal to 0."""
    a, b = np.full(64, 1e-30, np.float32), np.full(64, 1e-10, np.float32)
    found = [a * b, (torch.from_numpy(a) * torch.from_numpy(b)).numpy(), a]
    multiply(a, b)
    return [not each.view(np.uint32).any() for each in found]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[Any, list[bool]]:
    """Products by thread, of every call of a network and of Adam."""
    found: dict[Any, list[bool]] = {}

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            found[HERE if get_ident() == own else get_ident()] = products()
            return function(*args, **more)

        return call

    own = get_ident()
    monkeypatch.setattr(FunnelModel, "logits_of", watched(FunnelModel.logits_of))
    monkeypatch.setattr(DenseAdam, "shares", watched(DenseAdam.shares))
    return found


ZEROS = [True] * 3


def test_within_the_block_and_not_after_it(state: bool) -> None:
    assert products() == [state] * 3 and is_flushing() == state
    with flush_to_zero():
        with flush_to_zero():
            assert products() == ZEROS
        assert products() == ZEROS and is_flushing()
    assert products() == [state] * 3 and is_flushing() == state


def test_after_an_error_and_as_a_decorator(state: bool) -> None:
    @flush_to_zero()
    def fail() -> None:
        raise KeyError(products())

    for _ in range(2):
        with pytest.raises(KeyError) as fault:
            fail()
        assert fault.value.args == (ZEROS,) and products() == [state] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_pools_flush_and_so_does_their_caller(workers: int) -> None:
    meet = Barrier(workers, timeout=10)

    def work(_: int) -> tuple[int, list[bool]]:
        meet.wait()
        return get_ident(), products()

    with worker_pool(workers) as pool:
        shared = dict(parallel_map(pool, work, range(workers)))
    with threads(workers) as pool:
        own = dict(map(work, range(1)) if pool is None else pool.map(work, range(workers)))
    assert len(shared) == len(own) == workers
    assert all(found == ZEROS for found in (*shared.values(), *own.values()))


def test_what_is_made_ahead_is_made_with_flush_to_zero() -> None:
    with prefetch(products() for _ in range(3)) as items:
        assert list(items) == [ZEROS] * 3


def test_a_pool_flushes_whose_maker_does_not() -> None:
    """Threads are made by the first that submits to a pool, who may be outside of the block by then."""
    with threads(2) as pool:
        assert pool is not None
        torch.set_flush_denormal(False)
        assert pool.submit(products).result() == ZEROS
        torch.set_flush_denormal(True)


@pytest.mark.parametrize("workers", [1, 2])
def test_training_and_scoring(seen: dict[Any, list[bool]], tmp_path: Path, workers: int) -> None:
    table: Table = tiny.write_table(tmp_path / "table")
    run(tiny.experiment(workers=workers), table, tmp_path / "run")
    assert HERE in seen and (len(seen) > 1) == (workers > 1)
    assert all(found == ZEROS for found in seen.values())


@pytest.mark.parametrize("rows", [5, 600])
def test_predicting(seen: dict[Any, list[bool]], rows: int) -> None:
    """Few rows, whose passes may be recorded, and more."""
    base().predict(tiny.draw_log(rows))
    assert set(seen) == {HERE} or rows > 512
    assert seen and all(found == ZEROS for found in seen.values())


def test_predicting_with_deltas_and_adapting(state: bool, seen: dict[Any, list[bool]]) -> None:
    predictor = base().with_deltas(delta("1"))
    seen.clear()
    predictor.predict(tiny.draw_log(30))
    assert seen.pop(HERE) == ZEROS
    base().adapt(support(), FEW)
    assert seen == {HERE: ZEROS}
