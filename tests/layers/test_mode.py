"""Dropout: its rate, its mean, and that a generator decides it."""

import pytest
import torch

from funnelcast.layers.mode import EVALUATE, Mode


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_noise_or_no_rate_is_no_dropout() -> None:
    x = torch.randn(3, 4, generator=noise(0))
    assert EVALUATE.dropout(x, 0.5) is x
    assert Mode(noise=noise(0)).dropout(x, 0.0) is x
    assert EVALUATE.fused is False


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_elements_fall_away_at_the_rate_and_the_mean_stays(rate: float) -> None:
    n = 400_000
    y = Mode(noise=noise(1)).dropout(torch.ones(4, n // 4), rate)
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
    y = Mode(noise=noise(0)).dropout(x, 0.5)
    assert y.shape == x.shape and y.dtype == dtype
    assert torch.all((y == 0) | (y == 2))


def test_the_generator_decides() -> None:
    x = torch.ones(64, 8)
    first, again, other = (Mode(noise=noise(seed)).dropout(x, 0.5) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    mode = Mode(noise=noise(1))
    one, two = mode.dropout(x, 0.5), mode.dropout(x, 0.5)
    assert torch.equal(one, first) and not torch.equal(one, two)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mode.dropout(x, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbours_fall_away_independently() -> None:
    """Four elements come from one draw."""
    y = (Mode(noise=noise(3)).dropout(torch.ones(100_000, 4), 0.5) == 0).double()
    correlation = torch.corrcoef(y.t()) - torch.eye(4)
    assert correlation.abs().max() < 4 / 100_000**0.5


def test_the_gradient_is_the_mask() -> None:
    x = torch.randn(50, 6, generator=noise(0)).requires_grad_()
    y = Mode(noise=noise(1)).dropout(x, 0.3)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient != 0, y != 0)
    torch.testing.assert_close(gradient * x, y)
