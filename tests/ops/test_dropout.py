"""Dropout: its rate, its mean, and that a seed decides it."""

import pytest
import torch

from funnelcast.layers.dropout import SEEDS, BlockNoise, Noise, Seed, fill_by_splitmix, splitmix
from funnelcast.layers.mode import EVALUATE, Mode
from tests.layers.inputs import source


def test_no_noise_or_no_rate_is_no_dropout() -> None:
    x = torch.randn(3, 4)
    assert EVALUATE.dropout(x, 0.5) is x
    assert Mode(noise=Noise(Seed(0))).dropout(x, 0.0) is x
    assert EVALUATE.fused is False


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_elements_fall_away_at_the_rate_and_the_mean_stays(rate: float) -> None:
    n = 400_000
    y = Mode(noise=Noise(Seed(1))).dropout(torch.ones(4, n // 4), rate)
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - rate) < 4 * (rate * (1 - rate) / n) ** 0.5 + 2**-16  # 4 s.e., and rates are whole 65536ths
    scale = y[y != 0].unique()
    assert len(scale) == 1
    assert scale.item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    assert abs(y.double().mean().item() - 1) < 4 * (rate / (1 - rate) / n) ** 0.5


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype)
    y = Mode(noise=Noise(Seed(0))).dropout(x, 0.5)
    assert y.shape == x.shape and y.dtype == dtype
    assert torch.all((y == 0) | (y == 2))


def test_the_seed_decides() -> None:
    x = torch.ones(64, 8)
    first, again, other = (Mode(noise=Noise(Seed(seed))).dropout(x, 0.5) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    mode = Mode(noise=Noise(Seed(1)))
    one, two = mode.dropout(x, 0.5), mode.dropout(x, 0.5)
    assert torch.equal(one, first) and not torch.equal(one, two)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mode.dropout(x, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbours_fall_away_independently() -> None:
    """Four elements come from one draw."""
    y = (Mode(noise=Noise(Seed(3))).dropout(torch.ones(100_000, 4), 0.5) == 0).double()
    correlation = torch.corrcoef(y.t()) - torch.eye(4)
    assert correlation.abs().max() < 4 / 100_000**0.5


def test_the_gradient_is_the_mask() -> None:
    x = torch.randn(50, 6, generator=source(0)).requires_grad_()
    y = Mode(noise=Noise(Seed(1))).dropout(x, 0.3)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient != 0, y != 0)
    torch.testing.assert_close(gradient * x, y)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_plain_operations_draw_what_loops_draw(seed: int) -> None:
    """And both what Python's whole numbers say."""
    found = torch.empty(50, dtype=torch.int64)
    fill_by_splitmix(found[:3].numpy(), seed, 0)
    fill_by_splitmix(found[3:].numpy(), seed, 3)
    assert torch.equal(splitmix(torch.tensor(seed), Noise(Seed(0)).step, 50), found)
    state, mask, expected = seed, 2**64 - 1, []
    for _ in range(50):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append((z ^ (z >> 31)) & mask)
    assert [number & mask for number in found.tolist()] == expected


def test_layers_beyond_the_seeds_have_draws_of_their_own() -> None:
    source_of_all = Noise(Seed(0))
    draws = [source_of_all.draw(0.5, (64,)).draws for _ in range(2 * SEEDS + 1)]
    assert len({tuple(each.tolist()) for each in draws if each is not None}) == 2 * SEEDS + 1


@pytest.mark.parametrize("width", [8, 6])
@pytest.mark.parametrize("before", [(), (3,), (2, 3)])
def test_each_block_has_the_draws_of_its_own_noise(before: tuple[int, ...], width: int) -> None:
    """Rows are 4 and 3; four draws are of one number, so that a width of 6 is drawn apart and copied."""
    noises, alone = ([Noise(Seed(seed)) for seed in (3, 4)] for _ in range(2))
    blocks = BlockNoise(noises, 4)
    for _ in range(2):  # one layer after the other
        found = blocks.draw(0.25, (*before, 7, width))
        parts = [noise.draw(0.25, (*before, rows, width)) for noise, rows in zip(alone, (4, 3), strict=True)]
        assert found.draws is not None and found.limit == parts[0].limit
        assert torch.equal(found.draws, torch.cat([part.draws for part in parts if part.draws is not None], -2))
