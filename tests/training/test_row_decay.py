"""Decay that rows are owed against a loop over all rows in every step, and against PyTorch's AdamW."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.runtime.threads import worker_pool
from funnelcast.training import adam, row_decay
from funnelcast.training.adam import RowAdam

RATE, DECAY, ROWS = 0.02, 0.5, 7


@pytest.fixture(autouse=True)
def _few_steps_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that more become known on the way; and rows are shared out."""
    monkeypatch.setattr(row_decay, "_LEAST", 2)
    monkeypatch.setattr(adam, "SHARE", 2)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table_of(dtype: torch.dtype, width: int = 3) -> EmbeddingTable:
    table = EmbeddingTable(InputSpec((("a", "v"),), {"v": ROWS}, ()), ["v"], width, {}).to(dtype)
    with torch.no_grad():
        table.weight.copy_(draw(0, ROWS, width))
    return table


def touched(step: int) -> Tensor:
    """Row 0 always, row 1 in every second step, …, the last one never."""
    return torch.tensor([row for row in reversed(range(ROWS - 1)) if step % (row + 1) == 0])


def by_loop(steps: int, width: int = 3, l2: float = 0.0, settled: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """AdamW of every row in every step, by formula; `l2` adds what a row was when it last moved or was settled."""
    weight, mean, square = (np.zeros((ROWS, width)) for _ in range(3))
    weight[:] = draw(0, ROWS, width)
    seen = weight.copy()
    for step in range(1, steps + 1):
        weight *= 1 - RATE * DECAY
        grad = draw(step, ROWS, width).numpy()
        for row in touched(step).tolist():
            g = grad[row] + l2 * seen[row]
            mean[row] = 0.9 * mean[row] + 0.1 * g
            square[row] = 0.999 * square[row] + 0.001 * g * g
            std = np.sqrt(square[row] / (1 - 0.999**step)) + 1e-8
            weight[row] -= RATE * mean[row] / (1 - 0.9**step) / std
            seen[row] = weight[row]
        if step in settled:
            seen[:] = weight
    return weight


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("settled", [(), (1, 5, 12)])
@pytest.mark.parametrize(("dtype", "workers"), [(torch.float64, 1), (torch.float32, 1), (torch.float32, 2)])
def test_what_rows_are_owed_comes_to_adamws_decay_of_all_rows(
    dtype: torch.dtype, workers: int, settled: tuple[int, ...], l2: float
) -> None:
    table = table_of(dtype)
    own = RowAdam(table, RATE, l2, DECAY)
    with worker_pool(workers) as pool:
        for step in range(1, 31):
            rows = touched(step)
            own.step(rows if dtype == torch.float64 else rows.int(), draw(step, ROWS, 3)[rows].to(dtype), pool)
            if step in settled:
                own.settle()
    own.settle()
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    right = torch.from_numpy(by_loop(30, l2=l2, settled=settled)).to(dtype)
    torch.testing.assert_close(table.weight.detach(), right, rtol=tolerance, atol=tolerance)
    never = draw(0, ROWS, 3)[-1] * (1 - RATE * DECAY) ** 30
    torch.testing.assert_close(table.weight[-1].detach(), never.to(dtype), rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_that_are_in_every_batch_move_as_in_pytorchs_adamw(dtype: torch.dtype) -> None:
    table, rows = table_of(dtype, width=5), torch.arange(ROWS)
    expected = nn.Parameter(table.weight.detach().clone())
    mine, right = RowAdam(table, RATE, 0.0, DECAY), torch.optim.AdamW([expected], lr=RATE, weight_decay=DECAY)
    for step in range(1, 20):
        expected.grad = draw(step, ROWS, 5).to(dtype)
        right.step()
        mine.step(rows if dtype == torch.float64 else rows.int(), expected.grad)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(table.weight, expected, rtol=tolerance, atol=tolerance)


def test_a_small_decay_is_not_lost_to_rounding() -> None:
    """In float32 1 - 1e-9 is 1; what 3,000 steps take is 3e-6 all the same."""
    table = table_of(torch.float32)
    own = RowAdam(table, 1e-3, 0.0, 1e-6)
    own.steps = 2999
    before = table.weight.detach().clone()
    own.step(torch.tensor([2], dtype=torch.int32), torch.zeros(1, 3))
    own.settle()
    torch.testing.assert_close(1 - table.weight.detach() / before, torch.full((ROWS, 3), 3e-6), rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_goes_on_from_its_state_bit_for_bit(dtype: torch.dtype) -> None:
    tables = [table_of(dtype) for _ in range(2)]
    whole, other = (RowAdam(table, RATE, 0.1, DECAY) for table in tables)
    for step in range(1, 41):
        for own in (whole, other):
            own.step(touched(step).int(), draw(step, ROWS, 3)[touched(step)].to(dtype))
            if step == 9:
                own.settle()
        if step % 7 == 0:
            state = {name: tensor.clone() for name, tensor in other.state().items()}
            other = RowAdam(tables[1], RATE, 0.1, DECAY)
            other.load(state)
    for own in (whole, other):
        own.settle()
    assert torch.equal(tables[0].weight, tables[1].weight) and torch.equal(whole.moments, other.moments)
    assert torch.all(whole.state()["last"] == 40)


def test_without_decay_there_is_no_more_to_hold() -> None:
    table = table_of(torch.float32)
    own, before = RowAdam(table, RATE, 0.1), table.weight.detach().clone()
    own.settle()
    assert set(own.state()) == {"moments", "steps"} and torch.equal(table.weight, before)
