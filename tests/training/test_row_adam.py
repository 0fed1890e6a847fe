"""The compiled pass over rows against torch's operations; the formula itself is tested with the optimizer."""

import pytest
import torch
from torch import Tensor

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.training.row_adam import move, move_plain, row_gradients


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 5, 16, 33])
def test_compiled_and_plain_move_the_same_rows_alike(width: int) -> None:
    compiled = [draw(0, 40, width), draw(1, 40, width), draw(2, 40, width).square()]
    plain = [tensor.clone() for tensor in compiled]
    rows, grad = torch.tensor([3, 0, 39, 17]), draw(3, 4, width)
    weight, mean, square = (tensor.numpy() for tensor in compiled)
    move(weight, mean, square, rows.numpy(), grad.numpy(), 0.1, 0.02, 1.5)
    move_plain(plain[0], plain[1], plain[2], rows, grad, 0.1, 0.02, 1.5)
    for found, expected in zip(compiled, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (compiled[0] != draw(0, 40, width)).any(1).nonzero().flatten().tolist() == [0, 3, 17, 39]


def test_a_row_without_a_gradient_ever_does_not_move() -> None:
    """0 / (0 + ε), not nan."""
    weight, mean, square = draw(0, 3, 4), torch.zeros(3, 4), torch.zeros(3, 4)
    rows, grad = torch.tensor([1]).numpy(), torch.zeros(1, 4).numpy()
    move(weight.numpy(), mean.numpy(), square.numpy(), rows, grad, 0.0, 0.1, 1.0)
    assert torch.equal(weight, draw(0, 3, 4))


def test_gradients_of_a_row_add_up_over_the_places_where_it_stands() -> None:
    table = EmbeddingTable(InputSpec((("a", "a"), ("b", "a"), ("c", "c")), {"a": 5, "c": 3}, ()), ["a", "c"], 2)
    ids = torch.tensor([[1, 4, 2], [4, 4, 0]], dtype=torch.int32)
    embedded = torch.arange(12.0).view(2, 6)
    rows, grad = row_gradients(table, ids, embedded)
    assert rows.tolist() == [1, 4, 5, 7]  # c's row 0 is row 5 of the table
    assert grad.tolist() == [[0, 1], [2 + 6 + 8, 3 + 7 + 9], [10, 11], [4, 5]]
