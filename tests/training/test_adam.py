"""Adam of dense parameters against torch's; of rows, the kernel against the reference."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.encoder import InputSpec
from funnelcast.kernels.cpu.adam import CHUNK
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.runtime.threads import parallel_map, run_job, worker_pool
from funnelcast.training import adam as module
from funnelcast.training.adam import DenseAdam, Group, RowAdam


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SHAPES = [(3, 40), (1,), (0, 4), (), (2, 3, 5)]
RATES = [(0.02, 0.1), (0.5, 0.0), (0.1, 0.0)]
"""Learning rate and l2 of three groups: of two, three and no parameters."""
NO_DECAY: dict[str, Any] = {"last": None, "lost": None, "step": 1}
BY = ["kernel", "reference"]


def computing(by: str) -> AbstractContextManager[None]:
    return ops.compute(torch.device("cpu")) if by == "kernel" else nullcontext()


def pair(dtype: torch.dtype) -> tuple[DenseAdam, torch.optim.Adam]:
    """Ours and torch's of the same parameters."""
    groups, theirs = [], []
    for own, (rate, l2) in zip((SHAPES[:2], SHAPES[2:], []), RATES, strict=True):
        drawn = [draw(i, *shape).to(dtype) for i, shape in enumerate(own)]
        groups.append(Group([each.clone() for each in drawn], rate, l2))
        theirs.append({"params": [each.clone().requires_grad_() for each in drawn], "lr": rate, "weight_decay": l2})
    return DenseAdam(groups), torch.optim.Adam(theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", [1, 3], ids=["one microbatch", "microbatches"])
def test_dense_parameters_decay_as_in_torchs_adamw(dtype: torch.dtype, by: int) -> None:
    """Each by a share of its own."""
    decays = (0.3, 0.0, 0.1, 0.01, 2.0)
    drawn = [draw(i, *shape).to(dtype) for i, shape in enumerate(SHAPES)]
    ours = DenseAdam([Group([each.clone() for each in drawn], 0.02, 0.0, decays)])
    expected = [each.clone().requires_grad_() for each in drawn]
    theirs = torch.optim.AdamW(
        [{"params": [each], "weight_decay": decay} for each, decay in zip(expected, decays, strict=True)], lr=0.02
    )
    for seed in range(0, 200, 10):
        microbatches = [gradients(seed + i, dtype) for i in range(by)]
        for parameter, *grads in zip(expected, *microbatches, strict=True):
            parameter.grad = torch.stack(grads).sum(0)
        theirs.step()
        ours.step(microbatches)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for found, right in zip(ours.parameters, expected, strict=True):
        torch.testing.assert_close(found, right.detach(), rtol=tolerance, atol=tolerance)


def gradients(seed: int, dtype: torch.dtype) -> list[Tensor]:
    """The first one's columns lie one after the other; the second one's is 0 at first."""
    first, second, *rest = (draw(seed + i, *shape).to(dtype) for i, shape in enumerate(SHAPES))
    return [first.t().contiguous().t(), second if seed else second * 0, *rest]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_parameters_move_as_torchs_adam_moves_them(dtype: torch.dtype) -> None:
    ours, theirs = pair(dtype)
    expected = [p for group in theirs.param_groups for p in group["params"]]
    for seed in range(0, 50, 10):
        grads = gradients(seed, dtype)
        for parameter, grad in zip(expected, grads, strict=True):
            parameter.grad = grad.clone()
        theirs.step()
        ours.step([grads])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for found, right in zip(ours.parameters, expected, strict=True):
        torch.testing.assert_close(found, right.detach(), rtol=tolerance, atol=tolerance)
    for own, right in zip(ours.state(), expected, strict=True):
        for name, moment in theirs.state[right].items():
            torch.testing.assert_close(own[name], moment, rtol=tolerance, atol=tolerance, check_dtype=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_that_share_parameters_move_what_microbatches_add_up_to(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In shares of a few elements."""
    alone, _ = pair(dtype)
    for seed in (0, 10):
        alone.step([[a + b + c for a, b, c in zip(*(gradients(seed + i, dtype) for i in range(3)), strict=True)]])
    monkeypatch.setattr(module, "ELEMENTS", 16)
    shared, _ = pair(dtype)
    with worker_pool(3) as pool:
        for seed in (0, 10):
            jobs = shared.shares([gradients(seed + i, dtype) for i in range(3)])
            assert len(jobs) > 2
            parallel_map(pool, run_job, jobs)
    assert shared.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters, shared.parameters, strict=True))


def test_elements_beyond_a_chunk_move_too() -> None:
    size = 2 * CHUNK + 3
    both = [DenseAdam([Group([torch.ones(size)], 0.1, 0.0)]) for _ in range(2)]
    grads = [draw(seed, size) for seed in range(2)]
    both[0].step([[grads[0]], [grads[1]]])
    both[1].step([[grads[0] + grads[1]]])
    assert torch.equal(both[0].parameters[0], both[1].parameters[0])
    torch.testing.assert_close(both[0].parameters[0], 1 - 0.1 * (grads[0] + grads[1]).sign(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shapes", [[2], [], [3, 3]])
def test_gradients_of_other_parameters_are_noticed(shapes: list[int]) -> None:
    adam = DenseAdam([Group([torch.zeros(3)], 0.1, 0.0)])
    with pytest.raises(AssertionError, match="not of these parameters"):
        adam.step([[torch.zeros(shape) for shape in shapes]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_goes_on_from_its_state_bit_for_bit(dtype: torch.dtype) -> None:
    (whole, _), (first, _) = pair(dtype), pair(dtype)
    for seed in (0, 10):
        whole.step([gradients(seed, dtype)])
    first.step([gradients(0, dtype)])
    second = DenseAdam(first.groups)
    second.load([{name: part.clone() for name, part in own.items()} for own in first.state()])
    second.step([gradients(10, dtype)])
    assert all(torch.equal(a, b) for a, b in zip(second.parameters, whole.parameters, strict=True))


@pytest.mark.parametrize("width", [1, 5, 15, 16, 33])
@pytest.mark.parametrize("decays", [False, True])
def test_kernel_and_reference_move_the_same_rows_alike(width: int, decays: bool) -> None:
    rows, grad = torch.tensor([3, 0, 39, 17]), draw(3, width, 4).t()  # whose columns lie one after the other
    moved = []
    for by in BY:
        weight, moments = draw(0, 40, width), torch.stack([draw(1, 40, width), draw(2, 40, width).square()], 1)
        last, lost = torch.arange(40, dtype=torch.int32) % 5, torch.linspace(0, 0.5, 8)
        decay = {"last": last, "lost": lost, "step": 6} if decays else NO_DECAY
        with computing(by):
            ops.adam_rows(weight, moments, rows, grad, rate=0.02, scale=1.5, l2=0.1, **decay)
        assert (weight != draw(0, 40, width)).any(1).nonzero().flatten().tolist() == [0, 3, 17, 39]
        moved.append([weight, moments, last])
    for found, expected in zip(*moved, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", BY)
def test_a_row_without_a_gradient_ever_does_not_move(by: str) -> None:
    """0 / (0 + ε), not nan."""
    weight, moments = draw(0, 3, 4), torch.zeros(3, 2, 4)
    with computing(by):
        ops.adam_rows(weight, moments, torch.tensor([1]), torch.zeros(1, 4), rate=0.1, scale=1.0, l2=0.0, **NO_DECAY)
    assert torch.equal(weight, draw(0, 3, 4))


def test_no_row_at_all_is_a_step_that_moves_nothing() -> None:
    """A batch whose lists are all empty; the step still counts."""
    table = EmbeddingTable(InputSpec((("a", "a"),), {"a": 5}, ()), ["a"], 2, {})
    torch.nn.init.ones_(table.weight)
    adam = RowAdam(table, 0.1, 0.5)
    adam.step(torch.empty(0, dtype=torch.int32), torch.empty(0, 2))
    assert torch.all(table.weight == 1) and adam.steps == 1 and not adam.moments.any()


@pytest.mark.parametrize("rows", [1, module.SHARE, 2 * module.SHARE + 1])
def test_threads_that_share_rows_move_each_of_them(rows: int) -> None:
    inputs, touched = InputSpec((("a", "a"),), {"a": 3 * module.SHARE}, ()), draw(0, 3 * module.SHARE).argsort()[:rows]
    tables = [EmbeddingTable(inputs, ["a"], 2, {}) for _ in range(2)]
    for table in tables:
        torch.nn.init.ones_(table.weight)
    adams = [RowAdam(table, 0.1, 0.5) for table in tables]
    with worker_pool(2) as pool:
        for adam, workers in zip(adams, (None, pool), strict=True):
            adam.step(touched.int(), draw(1, rows, 2), workers)
    alone, shared = (table.weight.detach() for table in tables)
    assert torch.equal(alone, shared) and torch.equal(adams[0].moments, adams[1].moments)
    assert int((alone != 1).all(1).sum()) == rows


TINIES = [0.0, 1e-40, 9e-31, 1.2e-30, 1e-20, 1.0]


def tiny(width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A weight, a mean and a square (75, width): of pairs of `TINIES`, weights of both signs, and three with a nan."""
    first, second = torch.tensor(TINIES).repeat_interleave(6), torch.tensor(TINIES).repeat(6)
    first, second = torch.cat([first, -first]), torch.cat([second, second.flip(0)])
    drawn = torch.stack([first, second, second.flip(0)])
    with_nan = torch.ones(3, 3).masked_fill(torch.eye(3, dtype=torch.bool), torch.nan)
    return [each[:, None].repeat(1, width).to(dtype) for each in torch.cat([drawn, with_nan], 1)]


def settled(weight: Tensor, mean: Tensor, square: Tensor) -> list[Tensor]:
    """What a step without gradient and rate makes of them, if what is below 1e-30 becomes 0; l2 hands a nan on."""
    mean, square = (torch.where(weight.isnan(), torch.nan, each) for each in (mean, square))
    weight = torch.where(mean.isnan() | square.isnan(), torch.nan, weight)
    return [torch.where(each.abs() < 1e-30, 0.0, each) for each in (weight, 0.9 * mean, 0.999 * square)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_dense_weights_and_moments_become_0_and_nan_stays(dtype: torch.dtype) -> None:
    weight, mean, square = tiny(3, dtype)
    adam = DenseAdam([Group([weight.clone()], 0.0, 0.0)])
    adam.mean[0].copy_(mean)
    adam.square[0].copy_(square)
    adam.step([[torch.zeros_like(weight)]])
    for found, right in zip([*adam.parameters, *adam.mean, *adam.square], settled(weight, mean, square), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("width", [1, 5, 16, 33])
@pytest.mark.parametrize("by", BY)
def test_tiny_rows_and_moments_become_0_and_nan_stays(width: int, by: str) -> None:
    weight, mean, square = tiny(width)
    own, rows = (weight.clone(), torch.stack([mean, square], 1)), torch.arange(len(weight))
    with computing(by):
        ops.adam_rows(*own, rows, torch.zeros_like(weight), rate=0.0, scale=1.5, l2=0.0, **NO_DECAY)
    for found, right in zip([own[0], *own[1].unbind(1)], settled(weight, mean, square), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-6, atol=0, equal_nan=True)
