"""Workers are as many threads as asked for, each with one math thread; the caller's own number comes back."""

import subprocess
import sys
from collections.abc import Iterator
from threading import Barrier, get_ident

import pytest
import torch

from funnelcast.training.workers import threads


@pytest.fixture(autouse=True)
def two_math_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_worker_is_the_caller() -> None:
    with threads(1) as workers:
        assert workers is None and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_more_are_threads_of_their_own() -> None:
    together = Barrier(3, timeout=10)

    def work(_: int) -> tuple[int, int]:
        together.wait()
        return get_ident(), torch.get_num_threads()

    with threads(3) as workers:
        assert workers is not None
        found = list(workers.map(work, range(3)))
    assert len({ident for ident, _ in found}) == 3 and get_ident() not in {ident for ident, _ in found}
    assert [number for _, number in found] == [1, 1, 1]
    assert torch.get_num_threads() == 2


def test_the_callers_number_comes_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), threads(2):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_cores_are_those_that_the_process_may_use() -> None:
    ask = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import funnelcast.training.workers as w"
    said = subprocess.run([sys.executable, "-c", f"{ask}; print(w.cores())"], stdout=subprocess.PIPE, check=True)
    assert said.stdout.strip() == b"1"
