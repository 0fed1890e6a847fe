"""Sums and elements of lists against loops over rows, their derivatives, and lists that hold nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Lists
from funnelcast.layers.lists import Elements, Pool, bag_of, owners
from tests.layers.inputs import draw_lists, lists_of, of_row
from tests.layers.reference import draw, has_derivatives, pooled

POOLS: list[Pool] = ["sum", "mean", "weighted_mean"]
ROWS = [[], [0], [3, 3, 0], [1, 2], [4, 4], [2], []]
WEIGHTS = [[], [-2.0], [1.0, 0.25, -3.0], [0.0, 0.0], [1.5, -1.5], [0.0], []]
LISTS = {
    "by hand": lists_of(ROWS, WEIGHTS),
    "by hand, without weights": lists_of(ROWS),
    "drawn": draw_lists(6, 30, 5, seed=1, weighted=True),
    "drawn, without weights": draw_lists(6, 30, 5, seed=2),
    "empty": lists_of([[], [], []], [[], [], []]),
    "empty, without weights": lists_of([[], [], []]),
    "no rows": lists_of([], []),
}
# Factors are made in the type of the weights; float32 where there are none, which rounds 1/n to half an ulp.
ROUNDED = 1e-7


def added(lists: Lists, pool: Pool, table: Tensor) -> Tensor:
    return bag_of(lists, pool).add_up(lists.ids, table)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("case", LISTS)
def test_a_pool_is_its_formula(case: str, pool: Pool, recorded: bool) -> None:
    """By plain operations where gradients are recorded, by torch's own where they are not."""
    lists, table = LISTS[case], draw(0, 6, 3)
    with torch.set_grad_enabled(recorded):
        found = added(lists, pool, table)
    assert found.shape == (len(lists), 3) and found.dtype == torch.float64
    for row, vector in enumerate(found.numpy()):
        ids, weights = of_row(lists, row)
        expected = pooled([table[i].numpy() for i in ids], weights, pool, 3)
        np.testing.assert_allclose(vector, expected, rtol=ROUNDED, atol=ROUNDED if lists.weights is None else 1e-14)


def test_pools_by_hand() -> None:
    table = torch.tensor([[1.0], [10.0], [100.0]])
    lists = lists_of([[0, 1, 1], [], [2, 0], [2]], [[1.0, 0.5, -1.0], [], [0.0, 0.0], [-3.0]], dtype=torch.float32)
    assert added(lists, "sum", table).flatten().tolist() == [1 + 5 - 10, 0, 0, -300]
    assert added(lists, "mean", table).flatten().tolist() == [7, 0, 50.5, 100]
    found = added(lists, "weighted_mean", table).flatten()
    torch.testing.assert_close(found, torch.tensor([-4 / 2.5, 0, 0, -100]))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_weighted_mean_does_not_depend_on_the_size_of_the_weights(scale: float) -> None:
    table, sizes = draw(0, 3, 2, dtype=torch.float32), [[1.0, -2.0, 4.0], [0.5]]
    lists = lists_of([[0, 1, 2], [2]], [[w * scale for w in row] for row in sizes], dtype=torch.float32)
    expected = added(lists_of([[0, 1, 2], [2]], sizes), "weighted_mean", table.double())
    torch.testing.assert_close(added(lists, "weighted_mean", table).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("case", LISTS)
def test_a_row_of_the_table_gets_the_gradient_of_each_vector_by_its_factor(case: str, pool: Pool) -> None:
    lists, table = LISTS[case], draw(0, 6, 3).requires_grad_()
    direction = draw(1, len(lists), 3)
    (found,) = torch.autograd.grad((added(lists, pool, table) * direction).sum(), table)
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for row in range(len(lists)):
        ids, weights = of_row(lists, row)
        for i, weight in zip(ids, weights, strict=True):
            size = {"sum": 1.0, "mean": len(ids), "weighted_mean": sum(map(abs, weights))}[pool]
            factor = (1.0 if pool == "mean" else weight) / size if size else 0.0
            expected[i] += factor * direction[row]
    torch.testing.assert_close(found, expected, rtol=ROUNDED, atol=ROUNDED)


@pytest.mark.parametrize("pool", POOLS)
def test_second_derivatives(pool: Pool) -> None:
    def squares(table: Tensor) -> Tensor:
        return added(LISTS["by hand"], pool, table).square().sum()

    assert has_derivatives(squares, [draw(0, 6, 3)])


@pytest.mark.parametrize("lengths", [[2, 0, 1, 3], [0, 0], [0], [], [4]])
def test_elements_know_their_rows_and_ages(lengths: list[int]) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    elements = Elements(draw(0, sum(lengths), 2), offsets)
    rows = [(row, n - 1 - place) for row, n in enumerate(lengths) for place in range(n)]
    of_elements = elements.owners()
    assert elements.lengths.tolist() == lengths
    assert of_elements.tolist() == owners(offsets, sum(lengths)).tolist() == [row for row, _ in rows]
    assert elements.ages(of_elements).tolist() == [age for _, age in rows]
    values, expected = draw(1, sum(lengths), 3), torch.zeros(len(lengths), 3, dtype=torch.float64)
    for (row, _), value in zip(rows, values, strict=True):
        expected[row] += value
    torch.testing.assert_close(elements.sums(values, of_elements), expected)
    torch.testing.assert_close(elements.sums(values), expected)


def test_a_slice_of_elements_is_as_if_the_other_rows_were_not_there() -> None:
    lengths = [2, 0, 1, 3, 0]
    elements = Elements(draw(0, 6, 2), torch.tensor([0, *lengths]).cumsum(0))
    for start in range(6):
        for stop in range(start, 6):
            part = elements.slice(start, stop)
            first = sum(lengths[:start])
            assert part.lengths.tolist() == lengths[start:stop] and part.offsets[0] == 0
            assert torch.equal(part.vectors, elements.vectors[first : first + sum(lengths[start:stop])])
            assert part.vectors.untyped_storage().data_ptr() == elements.vectors.untyped_storage().data_ptr()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("lengths", [[2, 0, 1, 3, 0], [0, 0], [4]])
def test_a_split_is_slice_after_slice(lengths: list[int], rows: int) -> None:
    elements = Elements(draw(0, sum(lengths), 2), torch.tensor([0, *lengths]).cumsum(0))
    parts = elements.split(rows)
    expected = [elements.slice(start, min(start + rows, len(lengths))) for start in range(0, len(lengths), rows)]
    for part, right in zip(parts, expected, strict=True):
        assert torch.equal(part.vectors, right.vectors) and torch.equal(part.offsets, right.offsets)
