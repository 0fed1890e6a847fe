"""Banks against loops over networks, rows and numbers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.layers.banks import LinearBank, MLPBank
from funnelcast.layers.dropout import Noise, Seed
from funnelcast.layers.mode import Mode
from tests.layers.reference import arrays, draw, has_derivatives, linear, perceptron, randomise

WIDTHS = [(4,), (5, 3), (4, 3, 2)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num", [1, 3])
def test_linear_bank(num: int, bias: bool) -> None:
    bank = LinearBank(num, 4, 2, bias=bias).double()
    randomise(bank)
    weights = arrays(bank)
    shared, own = draw(1, 5, 4), draw(2, num, 5, 4)
    for x, found in ((shared.expand(num, -1, -1), bank(shared)), (own, bank(own))):
        for n in range(num):
            for row in range(5):
                expected = linear(x[n, row].numpy(), weights["weight"][n], weights["bias"][n] if bias else None)
                np.testing.assert_allclose(found[n, row].detach(), expected, rtol=1e-12, atol=1e-14)
    assert sum(p.numel() for p in bank.parameters()) == num * (4 * 2 + 2 * bias)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("num", [1, 3])
def test_mlp_bank(num: int, widths: tuple[int, ...], fused: bool) -> None:
    bank = MLPBank(num, 4, widths).double()
    randomise(bank)
    weights = arrays(bank)
    shared, own = draw(1, 6, 4), draw(2, num, 6, 4)
    for x, found in (
        (shared.expand(num, -1, -1), bank(shared, Mode(fused=fused))),
        (own, bank(own, Mode(fused=fused))),
    ):
        assert found.shape == (num, 6, widths[-1])
        for n in range(num):
            for row in range(6):
                expected = perceptron(x[n, row].numpy(), weights, n)
                np.testing.assert_allclose(found[n, row].detach(), expected, rtol=1e-12, atol=1e-14)
    assert bank.width == widths[-1]
    sizes = [4, *widths]
    assert sum(p.numel() for p in bank.parameters()) == num * sum(
        sizes[i] * sizes[i + 1] + sizes[i + 1] for i in range(len(widths))
    )


@pytest.mark.parametrize("fused", [False, True])
def test_no_rows(fused: bool) -> None:
    bank = MLPBank(2, 4, (3,))
    randomise(bank)
    out = bank(torch.empty(0, 4), Mode(fused=fused))
    assert out.shape == (2, 0, 3)
    assert all(not g.any() for g in torch.autograd.grad(out.sum(), list(bank.parameters())))


@pytest.mark.parametrize("widths", WIDTHS)
def test_second_derivatives(widths: tuple[int, ...]) -> None:
    bank = MLPBank(2, 3, widths).double()
    randomise(bank, seed=4)
    names = [name for name, _ in bank.named_parameters()]

    def squares(x: Tensor, *parameters: Tensor) -> Tensor:
        """Of the outputs, so that the second derivative is more than that of a product."""
        out: Tensor = functional_call(bank, dict(zip(names, parameters, strict=True)), (x,))
        return (out * out).sum()

    assert has_derivatives(squares, [draw(5, 3, 3), *bank.parameters()])


@pytest.mark.parametrize("bias", [True, False])
def test_reset_is_xavier_uniform(bias: bool) -> None:
    bank = LinearBank(50, 30, 20, bias=bias)
    bank.reset(torch.Generator().manual_seed(0))
    bound = math.sqrt(6 / (30 + 20))
    assert 0.99 * bound < bank.weight.max() <= bound and -bound <= bank.weight.min() < -0.99 * bound
    assert bank.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.03)
    assert abs(bank.weight.mean().item()) < 4 * bound / math.sqrt(3 * bank.weight.numel())
    assert bank.bias is None or not bank.bias.any()
    assert not torch.equal(bank.weight[0], bank.weight[1])


@pytest.mark.parametrize("fused", [False, True])
def test_dropout_after_every_layer(fused: bool) -> None:
    """All weights 0 and biases 1: an output is dropped, or 1 / (1 - rate)."""
    bank = MLPBank(3, 4, (5, 100), dropout=(0.9, 0.4))
    for layer in bank.layers:
        assert isinstance(layer, LinearBank) and layer.bias is not None
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.ones_(layer.bias)
    x = draw(0, 2000, 4, dtype=torch.float32)

    def run(seed: int) -> Tensor:
        out: Tensor = bank(x, Mode(noise=Noise(Seed(seed)), fused=fused))
        return out

    out, n = run(0), 3 * 2000 * 100
    assert abs((out == 0).double().mean().item() - 0.4) < 4 * (0.24 / n) ** 0.5
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / 0.6), rtol=1e-4, atol=0)
    assert torch.equal(out, run(0)) and not torch.equal(out, run(1))
    assert not torch.equal(out[0], out[1])
    assert torch.all(bank(x, Mode(fused=fused)) == 1)
    (bias,) = torch.autograd.grad(run(0).sum(), [dict(bank.named_parameters())["layers.1.bias"]])
    torch.testing.assert_close(bias, out.sum(1), rtol=1e-4, atol=0)


def test_the_first_layers_dropout_reaches_the_second() -> None:
    bank = MLPBank(1, 2, (1000, 1), dropout=(0.5, 0.0))
    for parameter in bank.parameters():
        torch.nn.init.ones_(parameter)
    out = bank(torch.zeros(400, 2), Mode(noise=Noise(Seed(0))))
    # One plus the sum of 1,000 halves that are kept, doubled: mean 1001 and standard deviation √1000.
    assert abs(out.mean().item() - 1001) < 4 * math.sqrt(1000 / 400)
    assert out.std().item() == pytest.approx(math.sqrt(1000), rel=0.15)


@pytest.mark.parametrize("fused", [False, True])
def test_a_leaky_bank_keeps_its_slope_under_dropout(fused: bool) -> None:
    """Where compiled loops could not tell what was dropped from what is below 0."""
    bank, x = MLPBank(2, 4, (6, 3), (0.5, 0.5), slope=0.1), draw(1, 200, 4).float()
    randomise(bank)
    x.requires_grad_()
    out = bank(x, Mode(Noise(Seed(1)), fused=fused))
    plain = bank(x, Mode(Noise(Seed(1))))
    assert torch.equal(out, plain)
    assert (out < 0).any() and (out == 0).any()
