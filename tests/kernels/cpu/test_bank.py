"""What banks of perceptrons promise beyond their values: rows, threads and passes that know nothing of each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import GateBank, GatedExperts, own_and_shared
from tests.layers.reference import draw, randomise


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    with ops.compute(torch.device("cpu")):
        yield


def trunk_of(*widths: int) -> GatedExperts:
    trunk = GatedExperts(MLPBank(5, 7, widths), GateBank(7, own_and_shared(2, 2, 1)))
    randomise(trunk, scale=0.5)
    return trunk


def inputs(seed: int, rows: int) -> Tensor:
    return draw(seed, rows, 7, dtype=torch.float32)


def results(trunk: nn.Module, x: Tensor) -> list[Tensor]:
    """The mixtures, and their derivatives in some direction by x and every parameter."""
    x = x.detach().clone().requires_grad_()
    out = trunk(x)
    direction = draw(9, *out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), [x, *trunk.parameters()])]


def are_equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_passes_that_overlap_do_not_share_memory() -> None:
    """Backward in another order than forward, twice, and after the rows of a third."""
    trunk, every = trunk_of(6, 4), [inputs(seed, rows) for seed, rows in ((1, 30), (2, 30), (3, 50))]
    alone = [results(trunk, x)[1:] for x in every]
    leaves = [x.clone().requires_grad_() for x in every]
    losses = [(out * draw(9, *out.shape).float()).sum() for out in map(trunk, leaves)]
    for i in (1, 0, 2, 0):
        found = torch.autograd.grad(losses[i], [leaves[i], *trunk.parameters()], retain_graph=True)
        assert are_equal(list(found), alone[i])


def test_an_output_stays_when_the_next_pass_begins() -> None:
    trunk = trunk_of(6, 4)
    with torch.no_grad():
        first = trunk(inputs(1, 30))
        kept = first.clone()
        trunk(inputs(2, 30))
    assert torch.equal(first, kept)


def test_threads_do_not_share_memory() -> None:
    trunk, every = trunk_of(16, 8), [inputs(seed, 20 + seed) for seed in range(12)]
    alone = [results(trunk, x) for x in every]

    def by_kernels(x: Tensor) -> list[Tensor]:
        with ops.compute(torch.device("cpu")):
            return results(trunk, x)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(are_equal, pool.map(by_kernels, every), alone))


def test_what_is_frozen_gets_no_gradient_and_changes_no_other() -> None:
    trunk, x = trunk_of(6, 4), inputs(1, 9)
    free = results(trunk, x)
    trunk.experts.requires_grad_(False)
    out = trunk(x)
    gates = torch.autograd.grad((out * draw(9, *out.shape).float()).sum(), list(trunk.gates.parameters()))
    assert are_equal(list(gates), free[2 + len(list(trunk.experts.parameters())) :])


def test_an_input_without_a_gradient_changes_no_other() -> None:
    trunk, x = trunk_of(6, 4), inputs(1, 9)
    out = trunk(x)
    found = torch.autograd.grad((out * draw(9, *out.shape).float()).sum(), list(trunk.parameters()))
    assert are_equal(list(found), results(trunk, x)[2:])


@pytest.mark.parametrize("rows", [1, BLOCK, 2 * BLOCK + 5])
def test_a_row_is_the_same_alone_and_among_others(rows: int) -> None:
    """To the bit: weights are read where they are for few rows, and in panels for many."""
    bank, x = MLPBank(3, 7, (80, 48)), inputs(1, rows)
    randomise(bank, scale=0.3)
    with torch.no_grad():
        every = bank(x)
        for some in (slice(0, 1), slice(rows // 2, rows)):
            assert torch.equal(bank(x[some]), every[:, some])
        torch.testing.assert_close(every.double(), copy.deepcopy(bank).double()(x.double()), rtol=1e-4, atol=1e-4)
