"""Memory that is borrowed from a pool: where its parts are, who has it, and whether kernels stay within it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from funnelcast.kernels.cpu import FLOAT32, bank
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.kernels.cpu.buffers import ALIGNED, Buffer, Pool, keep_freed_memory, pool
from funnelcast.kernels.cpu.codegen import FLOAT
from tests.ops.test_kernels import CASES

GUARD = 77.0


def end_of(buffer: Buffer) -> int:
    return int(buffer._memory.data_ptr()) + buffer._memory.numel() * FLOAT


@pytest.mark.parametrize("sizes", [[], [0], [1], [1, 16, 17, 0, 5000]])
def test_parts_lie_one_after_the_other(sizes: list[int]) -> None:
    buffer = Buffer(sizes)
    assert len(buffer.addresses) == len(sizes)
    for size, start, after in zip(sizes, buffer.addresses, [*buffer.addresses[1:], end_of(buffer)], strict=False):
        assert start % (ALIGNED * FLOAT) == 0 and start + size * FLOAT <= after
    if sizes:
        assert buffer.addresses[-1] + (sizes[-1] + ALIGNED) * FLOAT <= end_of(buffer)


def test_memory_is_nobody_elses_until_it_is_given_back() -> None:
    own: Pool = {}
    with pool(own):
        first, second = Buffer([700]), Buffer([700])
        memory = first._memory.data_ptr()
        assert second._memory.data_ptr() != memory
        del first
        assert Buffer([600])._memory.data_ptr() == memory
    del second
    assert sum(map(len, own.values())) == 2


def test_a_pool_gets_back_what_was_borrowed_from_it() -> None:
    """After its block too, as a pass may end there."""
    own: Pool = {}
    with pool(own):
        buffer = Buffer([3000])
    assert not any(own.values())
    del buffer
    assert sum(map(len, own.values())) == 1


def test_memory_of_scoring_serves_training() -> None:
    with torch.inference_mode():
        assert not Buffer([1 << 20])._memory.is_inference()


def test_memory_that_is_freed_may_be_kept() -> None:
    """As often as one likes, where the C library has no such setting too."""
    keep_freed_memory()
    keep_freed_memory()


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(("name", "of"), [
    ("expert_mixture", "whole tiles"), ("expert_mixture", "tiles in part"),
    ("mlp_bank", "dropout by seeds of 100 rows"),
])  # fmt: skip
def test_kernels_write_into_no_memory_but_their_own(
    name: str, of: str, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind each buffer stands as much again that must stay as it is."""
    held = list[tuple[Buffer, torch.Tensor]]()

    def guarded(sizes: Sequence[int]) -> Any:
        buffer = Buffer([*sizes, 40 * BLOCK * 24])
        behind = buffer._memory[(buffer.addresses.pop() - buffer._memory.data_ptr()) // FLOAT + ALIGNED :]
        behind.fill_(GUARD)
        held.append((buffer, behind))
        return buffer

    monkeypatch.setattr(bank, "Buffer", guarded)
    args, named, leaves = CASES[name][of].drawn(9 * BLOCK, torch.float32)
    with torch.set_grad_enabled(trained):
        out = FLOAT32[name](*args, **named)
    if trained:
        torch.autograd.grad(out.sum(), leaves)
    assert len(held) == 2 + trained and all((behind == GUARD).all() for _, behind in held)
