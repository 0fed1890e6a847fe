"""Distinct numbers against numpy's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.training.distinct import distinct


def check(numbers: Tensor) -> None:
    found, places = distinct(numbers)
    assert torch.equal(found[places.long()], numbers) and found.dtype == numbers.dtype
    assert sorted(found.tolist()) == np.unique(numbers.numpy()).tolist()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("below", [1, 2, 2048, 2049, 4_000_000, 2**31 - 1])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5000])
def test_the_distinct_ones_and_where_each_is(size: int, below: int, kind: torch.dtype) -> None:
    drawn = np.random.default_rng(0).integers(max(0, below - 3000), below, size)
    drawn[: size // 2] = np.random.default_rng(1).integers(0, below, size // 2)
    check(torch.from_numpy(drawn).to(kind))


def test_numbers_that_all_want_one_place() -> None:
    """Multiples of 2³⁰ and of 2²⁰ leave few bits to tell them apart by."""
    numbers = torch.cat([torch.arange(2) << 30, torch.arange(2000) << 20, torch.arange(2000) << 20]) & (2**31 - 1)
    check(numbers.int())


def test_those_of_a_slice() -> None:
    check(torch.tensor([[3, 9], [1, 9], [3, 9]], dtype=torch.int32)[:, 0])
