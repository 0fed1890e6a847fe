"""The compiled pass over rows against torch's operations; the formula itself is tested with the optimizer."""

import pytest
import torch
from torch import Tensor

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.mode import is_simple
from funnelcast.training.row_adam import RowAdam, move, move_plain


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


def test_no_row_at_all_is_a_step_that_moves_nothing() -> None:
    """A batch whose lists are all empty; the step still counts."""
    table = EmbeddingTable(InputSpec((("a", "a"),), {"a": 5}, ()), ["a"], 2, {})
    torch.nn.init.ones_(table.weight)
    adam = RowAdam(table, 0.1, 0.5)
    adam.step(torch.empty(0, dtype=torch.int32), torch.empty(0, 2))
    assert torch.all(table.weight == 1) and adam.steps == 1 and not adam.mean.any()


def test_compiled_loops_take_float32_on_the_cpu() -> None:
    assert is_simple(torch.zeros(1)) and not is_simple(torch.zeros(1, dtype=torch.float64))
    assert not is_simple(torch.zeros(1, device="meta"))
