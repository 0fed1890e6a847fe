"""Rows of tables: the distinct ones against numpy's, and bags that are added up against loops."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast import ops
from tests.layers.inputs import source
from tests.layers.reference import draw
from tests.pairs import pairwise

CPU = torch.device("cpu")


def check(numbers: Tensor) -> None:
    """By the kernel and by the reference."""
    for order in (1, 2):
        with ops.compute(CPU, order=order):
            found, inverse = ops.unique(numbers)
        assert torch.equal(found[inverse.long()], numbers) and found.dtype == numbers.dtype
        assert sorted(found.tolist()) == np.unique(numbers.numpy()).tolist()


@pytest.mark.parametrize(
    ("size", "below", "kind"),
    pairwise([0, 1, 2, 3, 5000], [1, 2, 2048, 2049, 4_000_000, 2**31 - 1], [torch.int32, torch.int64]),
)
def test_the_distinct_ones_and_where_each_is(size: int, below: int, kind: torch.dtype) -> None:
    drawn = np.random.default_rng(0).integers(max(0, below - 3000), below, size)
    drawn[: size // 2] = np.random.default_rng(1).integers(0, below, size // 2)
    check(torch.from_numpy(drawn).to(kind))


def test_numbers_that_all_hash_to_one_slot() -> None:
    """Multiples of 2³⁰ and of 2²⁰ leave few bits to tell them apart by."""
    numbers = torch.cat([torch.arange(2) << 30, torch.arange(2000) << 20, torch.arange(2000) << 20]) & (2**31 - 1)
    check(numbers.int())


def test_those_of_a_slice() -> None:
    check(torch.tensor([[3, 9], [1, 9], [3, 9]], dtype=torch.int32)[:, 0])


@pytest.mark.parametrize(
    ("lengths", "kind", "dtype"),
    pairwise([[], [0], [0, 0, 3], [2, 0, 1, 4, 0]], [torch.int32, torch.int64], [torch.float32, torch.float64]),
)
def test_bags_are_added_to_the_rows_of_their_elements(
    lengths: list[int], kind: torch.dtype, dtype: torch.dtype
) -> None:
    """But for those whose row is -1; factors are float32 where vectors are float64 too."""
    total, offsets = sum(lengths), torch.tensor([0, *lengths]).cumsum(0)
    index = torch.randint(-1, 3, (total,), generator=source(2)).to(kind)
    values, sums, factors = draw(0, len(lengths), 5).to(dtype), draw(1, 3, 5).to(dtype), draw(3, total).float()
    expected = sums.double().clone()
    for bag, length in enumerate(lengths):
        for k in range(int(offsets[bag]), int(offsets[bag]) + length):
            if index[k] >= 0:
                expected[int(index[k])] += factors[k].double() * values[bag].double()
    for order in (1, 2):
        own = sums.clone()
        with ops.compute(CPU, order=order, dtype=dtype):
            assert ops.scatter_add_bags(own, index, values, offsets, factors) is own
        torch.testing.assert_close(own.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_rows_are_added_to(count: int, kind: torch.dtype) -> None:
    index, sums = torch.randint(-1, 6, (count,), generator=source(0)).to(kind), draw(1, 6, 5)
    values, expected = draw(2, count, 10)[:, ::2], sums.clone()
    for place, value in zip(index.tolist(), values, strict=True):
        if place >= 0:
            expected[place] += value
    for dtype in (torch.float32, torch.float64):  # by the kernel, and by the reference
        own = sums.to(dtype)
        with ops.compute(CPU):
            assert ops.scatter_add(own, index, values.to(dtype)) is own
        torch.testing.assert_close(own.double(), expected, rtol=1e-6, atol=1e-6)
