"""Who sees whom, and mixtures, their levels and other trunks against loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import (
    ExtractionLevels,
    GateBank,
    GatedExperts,
    NoTrunk,
    OwnExperts,
    SharedTrunk,
    all_seen,
    extraction_levels,
    own_and_shared,
    owners_of,
)
from funnelcast.ops import compute
from tests.layers.reference import Floats, arrays, draw, has_derivatives, linear, perceptron, randomise, softmax


def test_a_step_sees_its_own_experts_and_the_shared_ones() -> None:
    assert own_and_shared(2, 2, 1) == [[True, True, False, False, True], [False, False, True, True, True]]
    assert own_and_shared(3, 1, 0) == [[True, False, False], [False, True, False], [False, False, True]]
    assert own_and_shared(1, 2, 3) == [[True] * 5]
    wide = np.array(own_and_shared(4, 4, 3))
    assert wide.shape == (4, 19) and wide.sum(1).tolist() == [7] * 4 and wide.sum(0).tolist() == [1] * 16 + [4] * 3


def test_every_gate_may_see_every_expert() -> None:
    assert all_seen(2, 3) == [[True, True, True], [True, True, True]]
    rows = all_seen(2, 2)
    rows[0][0] = False
    assert rows[1] == [True, True]


def test_shared_experts_belong_to_one_more_step() -> None:
    assert owners_of(2, 3, 2) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert owners_of(3, 1, 0) == [0, 1, 2] and owners_of(1, 2, 1) == [0, 0, 1]


VISIBLE = [
    [[True]],
    [[True, True, True]],
    own_and_shared(2, 1, 1),
    own_and_shared(3, 2, 2),
    [[True, True, True], [True, True, True]],
    [[False, True], [True, True]],
]


def mix_by_loops(x: Floats, weights: dict[str, Floats], visible: list[list[bool]]) -> list[Floats]:
    """m_t (H,) per step of one row."""
    mixed = []
    for t, row in enumerate(visible):
        seen = [n for n, sees in enumerate(row) if sees]
        gate = softmax(list(linear(x, weights[f"gates.logits.{t}.weight"].T, weights[f"gates.logits.{t}.bias"])))
        outputs = [perceptron(x, weights, n, "experts.layers.") for n in seen]
        mixed.append(np.sum([w * f for w, f in zip(gate, outputs, strict=True)], axis=0))
    return mixed


@pytest.mark.parametrize("visible", VISIBLE)
def test_mixtures(visible: list[list[bool]]) -> None:
    trunk = GatedExperts(MLPBank(len(visible[0]), 4, (5, 3)), GateBank(4, visible)).double()
    randomise(trunk)
    x, weights = draw(1, 6, 4), arrays(trunk)
    found = trunk(x)
    assert found.shape == (len(visible), 6, 3)
    for row in range(6):
        for t, expected in enumerate(mix_by_loops(x[row].numpy(), weights, visible)):
            np.testing.assert_allclose(found[t, row].detach(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_depends_on_what_it_sees_alone(order: int) -> None:
    visible = own_and_shared(3, 2, 1)
    trunk = GatedExperts(MLPBank(7, 4, (5, 3)), GateBank(4, visible))
    randomise(trunk)
    for t, row in enumerate(visible):
        with compute(torch.device("cpu"), order=order):
            out = trunk(draw(1, 50, 4, dtype=torch.float32))[t]
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


@pytest.mark.parametrize("gates", [1, 2])
def test_a_gate_may_read_an_input_of_its_own(gates: int) -> None:
    """Of three inputs here, the last ones nobody's."""
    bank = GateBank(4, all_seen(gates, 2)).double()
    randomise(bank)
    x, weights = draw(1, 3, 5, 4), arrays(bank)
    found = bank(x)
    assert found.shape == (5, 2 * gates)
    for row in range(5):
        for t in range(gates):
            own = linear(x[t, row].numpy(), weights[f"logits.{t}.weight"].T, weights[f"logits.{t}.bias"])
            np.testing.assert_allclose(found[row, 2 * t : 2 * t + 2].detach(), softmax(list(own)), rtol=1e-12)


def extract_by_loops(x: Floats, weights: dict[str, Floats], shape: tuple[int, int, int, int]) -> list[Floats]:
    """PLE's vectors (H,) per step of one row; `shape`: steps, experts of each, shared ones, levels."""
    steps, own, shared, levels = shape
    read = [x] * (steps + 1)
    for level in range(levels):
        prefix = f"levels.{level}." if levels > 1 else ""
        mine = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        number = steps * own + shared
        outputs = [perceptron(read[min(n // own, steps)], mine, n, "experts.layers.") for n in range(number)]
        made = []
        for gate in range(steps + (level < levels - 1 and shared > 0)):
            seen = (
                range(number) if gate == steps else [*range(gate * own, (gate + 1) * own), *range(steps * own, number)]
            )
            weight, bias = mine[f"gates.logits.{gate}.weight"], mine[f"gates.logits.{gate}.bias"]
            mixture = zip(softmax(list(linear(read[gate], weight.T, bias))), seen, strict=True)
            made.append(np.sum([w * outputs[n] for w, n in mixture], axis=0))
        read = made
    return read


SHAPES = [
    (2, 1, 1, 1),
    (2, 2, 0, 1),
    (2, 1, 1, 2),
    (3, 2, 1, 2),
    (2, 2, 0, 2),
    (2, 1, 2, 3),
    (1, 1, 1, 3),
    (2, 1, 0, 3),
]
"""Steps, experts of each, shared ones, levels."""


def levels_of(shape: tuple[int, int, int, int], width: int = 4, expert: tuple[int, ...] = (5, 3)) -> Any:
    steps, own, shared, levels = shape
    trunk = extraction_levels(width, expert, steps, own, shared, levels).double()
    randomise(trunk)
    return trunk


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_of_extraction_are_ples(shape: tuple[int, int, int, int]) -> None:
    trunk, x = levels_of(shape), draw(1, 6, 4)
    found, weights = trunk(x), arrays(trunk)
    assert found.shape == (shape[0], 6, 3)
    assert isinstance(trunk, ExtractionLevels) == (shape[3] > 1)
    for row in range(6):
        for t, expected in enumerate(extract_by_loops(x[row].numpy(), weights, shape)):
            np.testing.assert_allclose(found[t, row].detach(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_have_the_parameters_that_ple_names(shape: tuple[int, int, int, int]) -> None:
    steps, own, shared, levels = shape
    number, width, count = steps * own + shared, 4, 0
    for level in range(levels):
        count += number * (width * 5 + 5 + 5 * 3 + 3) + steps * (own + shared) * (width + 1)
        count += number * (width + 1) if shared and level < levels - 1 else 0
        width = 3
    assert sum(p.numel() for p in levels_of(shape).parameters()) == count


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("shared", "levels", "read"), [(1, 1, False), (1, 2, True), (0, 2, False), (0, 3, False)])
def test_other_steps_experts_are_read_through_a_shared_gate_below(
    shared: int, levels: int, read: bool, order: int
) -> None:
    """Of an expert that is another step's: by way of the shared part of a level below, and by no other way."""
    trunk = levels_of((2, 1, shared, levels)).float()
    with compute(torch.device("cpu"), order=order):
        out = trunk(draw(1, 40, 4, dtype=torch.float32))[0]
    first = trunk if levels == 1 else trunk.levels[0]
    for weight in torch.autograd.grad(out.sum(), list(first.experts.parameters())):
        assert bool(weight[0].any()) and bool(weight[1].any()) == read
        assert shared == 0 or bool(weight[2].any())


@pytest.mark.parametrize("trunk", [
    GatedExperts(MLPBank(3, 3, (3, 2)), GateBank(3, own_and_shared(2, 1, 1))),
    extraction_levels(3, (2,), 2, 1, 1, 2),
    OwnExperts(MLPBank(2, 2, (3, 2)), [[0, 2], [2, 1]]),
], ids=["experts", "levels", "own experts"])  # fmt: skip
def test_second_derivatives(trunk: nn.Module) -> None:
    trunk.double()
    randomise(trunk, seed=2)
    names = [name for name, _ in trunk.named_parameters()]

    def squares(x: Tensor, *parameters: Tensor) -> Tensor:
        out: Tensor = functional_call(trunk, dict(zip(names, parameters, strict=True)), (x,))
        return (out * out).sum()

    assert has_derivatives(squares, [draw(3, 3, 3), *trunk.parameters()])


def test_shared_trunk_is_one_network_for_all() -> None:
    trunk = SharedTrunk(MLPBank(1, 4, (5, 3))).double()
    randomise(trunk)
    x, weights = draw(0, 6, 4), arrays(trunk)
    out = trunk(x)
    assert out.shape == (1, 6, 3)
    for row in range(6):
        expected = perceptron(x[row].numpy(), weights, 0, "experts.layers.")
        np.testing.assert_allclose(out[0, row].detach(), expected, rtol=1e-12, atol=1e-14)


def test_own_experts_read_the_columns_that_are_theirs() -> None:
    """Column 2 is read by both, columns 4 and 5 by nobody."""
    columns = [[0, 2], [3, 2], [2, 1]]
    trunk = OwnExperts(MLPBank(3, 2, (5, 3)), columns).double()
    randomise(trunk)
    x, weights = draw(0, 6, 6).requires_grad_(), arrays(trunk)
    out = trunk(x)
    assert out.shape == (3, 6, 3) and not any("columns" in name for name in trunk.state_dict())
    for row in range(6):
        for n in range(3):
            own = x.detach()[row, columns[n]].numpy()
            expected = perceptron(own, weights, n, "experts.layers.")
            np.testing.assert_allclose(out[n, row].detach(), expected, rtol=1e-12, atol=1e-14)
    for n in range(3):
        (grad,) = torch.autograd.grad(out[n].sum(), x, retain_graph=True)
        assert grad.any(0).nonzero().flatten().tolist() == sorted(columns[n])


def test_no_trunk_hands_the_input_on() -> None:
    x = draw(0, 6, 4)
    assert NoTrunk()(x) is x and not list(NoTrunk().parameters())
