"""The threads that share a batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def threads(workers: int) -> Iterator[Executor | None]:
    """Worker threads with one math thread each, or none for one worker.

    The number of math threads is each thread's own; a new one that goes straight to BLAS has the machine's, and with
    two or more the last bits of a product differ.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if workers == 1:
            yield None
        else:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
    finally:
        torch.set_num_threads(before)
