"""Banks against loops over networks, rows and numbers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast import ops
from funnelcast.layers.banks import LinearBank, MLPBank
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


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("num", [1, 3])
def test_mlp_bank(num: int, widths: tuple[int, ...]) -> None:
    bank = MLPBank(num, 4, widths).double()
    randomise(bank)
    weights = arrays(bank)
    shared, own = draw(1, 6, 4), draw(2, num, 6, 4)
    for x, found in ((shared.expand(num, -1, -1), bank(shared)), (own, bank(own))):
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


@pytest.mark.parametrize("order", [1, 2])
def test_no_rows(order: int) -> None:
    bank = MLPBank(2, 4, (3,))
    randomise(bank)
    with ops.compute(torch.device("cpu"), order=order):
        out = bank(torch.empty(0, 4))
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


def key(seed: int) -> ops.DropoutKey:
    return ops.DropoutKey(torch.tensor([seed]), 10**9)


@pytest.mark.parametrize("order", [1, 2])
def test_dropout_after_every_layer(order: int) -> None:
    """All weights 0 and biases 1: an output is dropped, or 1 / (1 - rate)."""
    bank = MLPBank(3, 4, (5, 100), dropout=(0.9, 0.4))
    for layer in bank.layers:
        assert isinstance(layer, LinearBank) and layer.bias is not None
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.ones_(layer.bias)
    x = draw(0, 2000, 4, dtype=torch.float32)

    def run(seed: int) -> Tensor:
        with ops.compute(torch.device("cpu"), order=order):
            out: Tensor = bank(x, key(seed))
        return out

    out, n = run(0), 3 * 2000 * 100
    assert abs((out == 0).double().mean().item() - 0.4) < 4 * (0.24 / n) ** 0.5
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / 0.6), rtol=1e-4, atol=0)
    assert torch.equal(out, run(0)) and not torch.equal(out, run(1))
    assert not torch.equal(out[0], out[1])
    assert torch.all(bank(x) == 1)
    (bias,) = torch.autograd.grad(run(0).sum(), [dict(bank.named_parameters())["layers.1.bias"]])
    torch.testing.assert_close(bias, out.sum(1), rtol=1e-4, atol=0)


def test_the_first_layers_dropout_reaches_the_second() -> None:
    bank = MLPBank(1, 2, (1000, 1), dropout=(0.5, 0.0))
    for parameter in bank.parameters():
        torch.nn.init.ones_(parameter)
    out = bank(torch.zeros(400, 2), key(0))
    # One plus the sum of 1,000 halves that are kept, doubled: mean 1001 and standard deviation √1000.
    assert abs(out.mean().item() - 1001) < 4 * math.sqrt(1000 / 400)
    assert out.std().item() == pytest.approx(math.sqrt(1000), rel=0.15)


@pytest.mark.parametrize("order", [1, 2])
def test_a_leaky_bank_keeps_its_slope_under_dropout(order: int) -> None:
    """What is dropped has no gradient, what is below 0 has a tenth: both are told apart."""
    bank, x = MLPBank(2, 4, (6,), (0.5,), slope=0.1), draw(1, 200, 4).float()
    randomise(bank)
    with ops.compute(torch.device("cpu"), order=order):
        out = bank(x, key(1))
    linear_part = x @ bank.weights[0] + bank.biases[0].unsqueeze(1)
    slopes = torch.where(linear_part > 0, 1.0, 0.1) * (out != 0) * 2
    torch.testing.assert_close(out, slopes * linear_part)
    assert (out < 0).any() and (out == 0).any()
    (bias,) = torch.autograd.grad(out.sum(), bank.biases)
    torch.testing.assert_close(bias, slopes.sum(1))
