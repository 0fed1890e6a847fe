"""Who sees whom, and mixtures against loops."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import GateBank, GatedExperts, SharedTrunk, own_and_shared, sum_of
from funnelcast.layers.mode import Mode
from tests.layers.reference import Floats, arrays, draw, linear, perceptron, randomise, softmax


def test_a_step_sees_its_own_experts_and_the_shared_ones() -> None:
    assert own_and_shared(2, 2, 1) == [[True, True, False, False, True], [False, False, True, True, True]]
    assert own_and_shared(3, 1, 0) == [[True, False, False], [False, True, False], [False, False, True]]
    assert own_and_shared(1, 2, 3) == [[True] * 5]
    wide = np.array(own_and_shared(4, 4, 3))
    assert wide.shape == (4, 19) and wide.sum(1).tolist() == [7] * 4 and wide.sum(0).tolist() == [1] * 16 + [4] * 3


VISIBLE = [
    [[True]],
    [[True, True, True]],
    own_and_shared(2, 1, 1),
    own_and_shared(3, 2, 2),
    [[True, True, True], [True, True, True]],
    [[False, True], [True, True]],
]


def mix_by_hand(x: Floats, weights: dict[str, Floats], visible: list[list[bool]]) -> list[Floats]:
    """m_t (H,) per step of one row."""
    mixed = []
    for t, row in enumerate(visible):
        seen = [n for n, sees in enumerate(row) if sees]
        gate = softmax(list(linear(x, weights[f"gates.logits.{t}.weight"].T, weights[f"gates.logits.{t}.bias"])))
        outputs = [perceptron(x, weights, n, "experts.layers.") for n in seen]
        mixed.append(np.sum([w * f for w, f in zip(gate, outputs, strict=True)], axis=0))
    return mixed


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("visible", VISIBLE)
def test_mixtures(visible: list[list[bool]], fused: bool) -> None:
    trunk = GatedExperts(MLPBank(len(visible[0]), 4, (5, 3)), GateBank(4, visible)).double()
    randomise(trunk)
    x, weights = draw(1, 6, 4), arrays(trunk)
    found = trunk(x, Mode(fused=fused))
    assert found.shape == (len(visible), 6, 3)
    for row in range(6):
        for t, expected in enumerate(mix_by_hand(x[row].numpy(), weights, visible)):
            np.testing.assert_allclose(found[t, row].detach(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_depends_on_what_it_sees_alone(fused: bool) -> None:
    visible = own_and_shared(3, 2, 1)
    trunk = GatedExperts(MLPBank(7, 4, (5, 3)), GateBank(4, visible))
    randomise(trunk)
    for t, row in enumerate(visible):
        out = trunk(draw(1, 50, 4, dtype=torch.float32), Mode(fused=fused))[t]
        grads = torch.autograd.grad(out.sum(), list(trunk.experts.parameters()))
        for n, sees in enumerate(row):
            assert all(bool(g[n].any()) == sees for g in grads)


def test_a_gates_weights_add_up_to_one_per_step() -> None:
    gates = GateBank(4, own_and_shared(2, 3, 2)).double()
    randomise(gates)
    weights = gates(draw(0, 8, 4))
    assert weights.shape == (8, 10) and torch.all(weights > 0)
    torch.testing.assert_close(weights.view(8, 2, 5).sum(2), torch.ones(8, 2, dtype=torch.float64))
    assert sum(p.numel() for p in gates.parameters()) == 2 * (4 * 5 + 5)


def test_second_derivatives() -> None:
    trunk = GatedExperts(MLPBank(3, 3, (3, 2)), GateBank(3, own_and_shared(2, 1, 1))).double()
    randomise(trunk, seed=2)
    names = [name for name, _ in trunk.named_parameters()]

    def squares(x: Tensor, *parameters: Tensor) -> Tensor:
        out: Tensor = functional_call(trunk, dict(zip(names, parameters, strict=True)), (x,))
        return (out * out).sum()

    inputs = [draw(3, 3, 3).requires_grad_(), *(p.detach().clone().requires_grad_() for p in trunk.parameters())]
    assert torch.autograd.gradcheck(squares, inputs)
    assert torch.autograd.gradgradcheck(squares, inputs)


def test_shared_trunk_is_one_network_for_all() -> None:
    trunk = SharedTrunk(MLPBank(1, 4, (5, 3))).double()
    randomise(trunk)
    x, weights = draw(0, 6, 4), arrays(trunk)
    out = trunk(x)
    assert out.shape == (6, 3)
    for row in range(6):
        expected = perceptron(x[row].numpy(), weights, 0, "experts.layers.")
        np.testing.assert_allclose(out[row].detach(), expected, rtol=1e-12, atol=1e-14)


def test_sum_of() -> None:
    terms = [draw(seed, 2, 3) for seed in range(3)]
    torch.testing.assert_close(sum_of(terms), torch.stack(terms).sum(0))
    assert torch.equal(sum_of(terms[:1]), terms[0])
