"""Dropout: its rate, its mean, that keys decide it, and that kernels and plain operations draw the same masks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.kernels.cpu import FLOAT32
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.kernels.cpu.dropout import fill_bits
from funnelcast.ops import DropoutKey
from tests.layers.inputs import source

reference: Callable[..., Tensor] = ops.random_bits.__wrapped__  # type: ignore[attr-defined]
SEEDS = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)])


def key(*seeds: int, rows: int = 10**9) -> DropoutKey:
    return DropoutKey(torch.tensor(seeds), rows)


def test_no_key_or_no_rate_is_no_dropout() -> None:
    x = torch.randn(3, 4)
    assert ops.dropout(x, 0.5, None) is x
    assert ops.dropout(x, 0.0, key(0)) is x


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_elements_are_dropped_at_the_rate_and_the_mean_stays(rate: float) -> None:
    n = 400_000
    y = ops.dropout(torch.ones(4, n // 4), rate, key(1))
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - rate) < 4 * (rate * (1 - rate) / n) ** 0.5 + 2**-16  # 4 s.e., and rates are whole 65536ths
    scale = y[y != 0].unique()
    assert len(scale) == 1
    assert scale.item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    assert abs(y.double().mean().item() - 1) < 4 * (rate / (1 - rate) / n) ** 0.5


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 3, 5), (0, 4), (3, 0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype)
    y = ops.dropout(x, 0.5, key(0))
    assert y.shape == x.shape and y.dtype == dtype
    assert torch.all((y == 0) | (y == 2))


def test_the_seed_decides_and_each_layer_has_its_own_mask() -> None:
    x = torch.ones(64, 8)
    first, same, other = (ops.dropout(x, 0.5, key(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    own = key(1)
    masks = [ops.dropout(x, 0.5, own) for _ in range(20)]
    assert torch.equal(masks[0], first) and len({tuple(each.flatten().tolist()) for each in masks}) == 20


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    ops.dropout(torch.ones(64, 8), 0.5, key(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbours_are_dropped_independently() -> None:
    """Four elements come from one word."""
    y = (ops.dropout(torch.ones(100_000, 4), 0.5, key(3)) == 0).double()
    correlation = torch.corrcoef(y.t()) - torch.eye(4)
    assert correlation.abs().max() < 4 / 100_000**0.5


def test_the_gradient_is_the_mask() -> None:
    x = torch.randn(50, 6, generator=source(0)).requires_grad_()
    y = ops.dropout(x, 0.3, key(1))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient != 0, y != 0)
    torch.testing.assert_close(gradient * x, y)


def splitmix(seed: int, stream: int, count: int) -> list[int]:
    """In Python's unlimited whole numbers."""
    mask, words = 2**64 - 1, []
    state = (seed + stream * 0xD1B54A32D192ED03) & mask
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append((z ^ (z >> 31)) & mask)
    return words


@pytest.mark.parametrize("block", range(len(SEEDS)))
@pytest.mark.parametrize("stream", [0, 1, 7, 2**31])
def test_the_bits_are_splitmixs(block: int, stream: int) -> None:
    """Of the reference, of the kernel, and where the kernel begins after the first words."""
    expected = splitmix(int(SEEDS[block]), stream, 50)
    rest = torch.empty(47, dtype=torch.int64)
    fill_bits(rest.numpy(), int(SEEDS[block]), stream, 3)
    assert [word & (2**64 - 1) for word in rest.tolist()] == expected[3:]
    for function in (reference, FLOAT32["random_bits"]):
        found = function(torch.empty(50, dtype=torch.int64), SEEDS, block, stream)
        assert [word & (2**64 - 1) for word in found.tolist()] == expected


@pytest.mark.parametrize("width", [8, 6])
@pytest.mark.parametrize("before", [(), (3,), (2, 3)])
def test_each_block_of_rows_has_the_masks_of_its_own_seed(before: tuple[int, ...], width: int) -> None:
    """Of 4 and 3 rows; four draws are of one word, so that at a width of 6 a block ends within one."""
    both, alone = key(3, 4, rows=4), [key(3), key(4)]
    for _ in range(2):  # one layer after the other
        found = ops.dropout(torch.ones(*before, 7, width), 0.25, both)
        parts = [ops.dropout(torch.ones(*before, n, width), 0.25, own) for n, own in zip((4, 3), alone, strict=True)]
        assert torch.equal(found, torch.cat(parts, -2))


def test_blocks_sample_without_each_other() -> None:
    """However many masks one samples, those of the others and of later layers stay; each has its seed's own."""
    x, masks = torch.ones(9, 8), list[list[Tensor]]()
    for layers in (1, 3):
        both = key(3, 4, rows=4)
        first, second = both.blocks()
        found = [ops.dropout(x, 0.5, first) for _ in range(layers)]
        masks.append([found[0], ops.dropout(x, 0.5, second), ops.dropout(x[:7], 0.5, both)])
    assert all(map(torch.equal, *masks)) and not torch.equal(masks[0][0], masks[0][1])
    (alone,) = key(4).blocks()
    assert torch.equal(ops.dropout(x, 0.5, alone), masks[0][1])


@pytest.mark.parametrize(("rows", "seed_rows"), [(1, 1), (9, 9), (9, 4), (BLOCK + 50, 100), (BLOCK + 50, 10**9)])
@pytest.mark.parametrize("width", [1, 6, 16, 33])
def test_kernels_draw_the_masks_of_the_reference(width: int, rows: int, seed_rows: int) -> None:
    """To the bit, in all layers of three networks: weights are 0 and biases 1, so that outputs are masks."""
    weights = [torch.zeros(3, 5, width), torch.zeros(3, width, width)]
    biases = [torch.ones(3, width)] * 2
    seeds = torch.arange(1 + rows // seed_rows)
    found, expected = (
        function(torch.ones(rows, 5), weights, biases, rates=(0.5, 0.3), key=DropoutKey(seeds, seed_rows))
        for function in (FLOAT32["mlp_bank"], unwrapped(ops.mlp_bank))
    )
    assert torch.equal(found, expected) and (rows * width < 50 or 0 < (found == 0).double().mean() < 1)


def unwrapped(operation: Any) -> Callable[..., Tensor]:
    function: Callable[..., Tensor] = operation.__wrapped__
    return function
