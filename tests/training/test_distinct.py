"""Distinct numbers against numpy's."""

import numpy as np
import pytest
import torch

from funnelcast.training.distinct import distinct


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("below", [1, 2, 2048, 2049, 4_000_000, 2**31 - 1])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_the_distinct_ones_and_where_each_is(size: int, below: int, kind: torch.dtype) -> None:
    drawn = np.random.default_rng(0).integers(max(0, below - 3000), below, size)
    drawn[: size // 2] = np.random.default_rng(1).integers(0, below, size // 2)
    found, places = distinct(torch.from_numpy(drawn).to(kind), below)
    expected, where = np.unique(drawn, return_inverse=True)
    assert found.tolist() == expected.tolist() and places.tolist() == where.tolist()
    assert found.dtype == kind


def test_those_of_a_slice() -> None:
    numbers = torch.tensor([[3, 9], [1, 9], [3, 9]], dtype=torch.int32)[:, 0]
    found, places = distinct(numbers, 10)
    assert found.tolist() == [1, 3] and places.tolist() == [1, 0, 1]
