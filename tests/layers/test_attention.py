"""Attention along edges against loops in plain Python, what it leaves alone, its derivatives, and compiled loops."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.layers import fused_attention
from funnelcast.layers.attention import StepAttention
from funnelcast.layers.gates import sum_of
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import HAS_BFLOAT16, Mode
from funnelcast.layers.tiles import FLOAT
from funnelcast.layers.workspace import Lease, lease_for
from funnelcast.schema.funnel import Funnel
from tests.layers.reference import arrays, attend_along, draw, has_derivatives, randomise

Edges = Sequence[tuple[int, int]]
FUSED = Mode(fused=True)

CASES = {
    "chain of 2": Funnel.parse("click; conversion after click"),
    "chain of 4": Funnel.parse("a; b after a; c after b; d after c"),
    "tree": Funnel.parse("click; cart after click; buy after cart; like after click"),
    "parallel": Funnel.parse("income; marital"),
    "parallel with transfer": Funnel.parse("marital; income", transfer=["marital -> income"]),
    "several edges into one step": Funnel.parse("a; b; c after b; d after c", transfer=["a -> c", "a -> d", "b -> d"]),
}


@pytest.mark.parametrize("case", CASES)
def test_attention_is_the_papers(case: str) -> None:
    funnel = CASES[case]
    attention = StepAttention(3, funnel.edges).double()
    randomise(attention)
    x, weights = draw(1, len(funnel.names), 5, 3), arrays(attention)
    found = attention(x)
    assert found.shape == x.shape
    for row in range(5):
        for t, expected in enumerate(attend_along(funnel.edges, list(x[:, row].numpy()), weights)):
            np.testing.assert_allclose(found[t, row].detach(), expected, rtol=1e-12, atol=1e-14)


def test_steps_without_an_edge_into_them_pass_unchanged() -> None:
    attention = StepAttention(3, [(0, 2)])
    randomise(attention)
    x = draw(0, 4, 5, 3, dtype=torch.float32)
    out = attention(x)
    assert all(torch.equal(out[t], x[t]) for t in (0, 1, 3)) and not torch.equal(out[2], x[2])
    parallel = StepAttention(3, CASES["parallel"].edges)
    assert torch.equal(parallel(x), x) and not list(parallel.parameters())


def test_knowledge_flows_along_edges_alone_and_down_the_whole_path() -> None:
    """click -> cart -> buy and click -> like: like hears nothing of cart, and no step of a later one."""
    attention = StepAttention(3, CASES["tree"].edges).double()
    randomise(attention)
    x = draw(4, 4, 6, 3).requires_grad_()
    heard = [torch.autograd.grad(attention(x)[t].square().sum(), x)[0].flatten(1).any(1).tolist() for t in range(4)]
    assert heard == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, False, False, True],
    ]


def test_weights_add_up_to_one_and_stand_own_last() -> None:
    edges = CASES["several edges into one step"].edges
    attention = StepAttention(3, edges).double()
    randomise(attention)
    x = draw(2, 4, 5, 3)
    weights, tokens = attention.weigh(list(x), 3)
    assert weights.shape == (4, 5) and tokens.shape == (4, 5, 3) and torch.all(weights > 0)
    torch.testing.assert_close(weights.sum(0), torch.ones(5, dtype=torch.float64))
    assert torch.equal(tokens[-1], x[3])


def test_equal_tokens_are_weighed_equally() -> None:
    attention = StepAttention(2, [(0, 2), (1, 2)]).double()
    randomise(attention)
    x = draw(3, 1, 4, 2).abs().expand(3, -1, -1)
    with torch.no_grad():
        for name, parameter in attention.information.named_parameters():
            parameter.copy_(torch.eye(2) if name.endswith("weight") else torch.zeros(2))
    weights, _ = attention.weigh(list(x), 2)
    torch.testing.assert_close(weights, torch.full((3, 4), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_a_layer_per_edge_and_three_matrices_per_target(case: str) -> None:
    edges = CASES[case].edges
    count = sum(p.numel() for p in StepAttention(5, edges).parameters())
    assert count == len(edges) * (25 + 5) + len({target for _, target in edges}) * 3 * 25


@pytest.mark.parametrize("edges", [[(0, 1)], [(0, 1), (0, 2), (1, 2)]])
def test_derivatives(edges: Edges) -> None:
    attention = StepAttention(2, edges).double()
    randomise(attention, seed=3)
    names = [name for name, _ in attention.named_parameters()]

    def squares(x: Tensor, *parameters: Tensor) -> Tensor:
        out: Tensor = functional_call(attention, dict(zip(names, parameters, strict=True)), (x,))
        return (out * out).sum()

    steps = 1 + max(target for _, target in edges)
    assert has_derivatives(squares, [draw(5, steps, 2, 2), *attention.parameters()])


LISTENING = {name: funnel for name, funnel in CASES.items() if funnel.edges}


@pytest.mark.parametrize("rows", [0, 1, BLOCK + 5])
@pytest.mark.parametrize("width", [1, 5, 32, 40])
@pytest.mark.parametrize("case", LISTENING)
def test_loops_make_the_same_vectors_and_derivatives(case: str, width: int, rows: int) -> None:
    funnel = LISTENING[case]
    exact = StepAttention(width, funnel.edges).double()
    randomise(exact, scale=0.3)
    own = copy.deepcopy(exact).float()
    x, direction = draw(1, len(funnel.names), rows, width), draw(2, len(funnel.names), rows, width)
    inputs = [x.requires_grad_(), x.detach().float().requires_grad_()]
    expected, found = exact(inputs[0]), own(inputs[1], FUSED)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    right = torch.autograd.grad((expected * direction).sum(), [inputs[0], *exact.parameters()])
    grads = torch.autograd.grad((found * direction.float()).sum(), [inputs[1], *own.parameters()])
    for grad, each in zip(grads, right, strict=True):
        assert (grad - each).norm() <= 1e-4 * (1 + each.norm())


def derived_twice(attention: StepAttention, given: list[Tensor], weights: list[Tensor], *, alone: bool) -> list[Tensor]:
    """By g, x and parameters, of the products of some with the gradient of ⟨g, A⟩; with A² beside these or `alone`."""
    leaves = [given[1], *attention.parameters()]
    out = attention(given[1], Mode(fused=True, wanted=Leaves(leaves), again=Leaves(leaves)))
    grads = torch.autograd.grad((out * given[0]).sum(), leaves, create_graph=True)
    turned = sum_of([(grad * w).sum() for grad, w in zip(grads, weights, strict=True)])
    return list(torch.autograd.grad(turned if alone else turned + (out * out).sum(), [*given[:1], *leaves]))


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(0, 5), (1, 1), (BLOCK + 5, 5), (7, 32), (2 * BLOCK, 40)])
@pytest.mark.parametrize("case", LISTENING)
def test_loops_make_the_same_second_derivatives(case: str, rows: int, width: int, alone: bool) -> None:
    funnel = LISTENING[case]
    exact = StepAttention(width, funnel.edges).double()
    randomise(exact, scale=min(0.3, width**-0.5))
    own = copy.deepcopy(exact).float()
    given = [draw(n, len(funnel.names), rows, width) for n in (1, 2)]
    weights = [draw(3 + n, *each.shape) for n, each in enumerate([given[1], *exact.parameters()])]
    right = derived_twice(exact, [each.clone().requires_grad_() for each in given], weights, alone=alone)
    singles = [each.float().requires_grad_() for each in given], [weight.float() for weight in weights]
    for grad, each in zip(derived_twice(own, *singles, alone=alone), right, strict=True):
        assert grad.shape == each.shape and (grad - each).norm() <= 1e-5 * (1 + each.norm())


@pytest.mark.parametrize("kept", range(3))
def test_second_derivatives_of_some_gradients_alone(kept: int) -> None:
    """Of that by x, by one weight, or by one bias."""
    exact = StepAttention(5, CASES["chain of 4"].edges).double()
    randomise(exact, scale=0.3)
    given = [draw(n, 4, 9, 5) for n in (1, 2)]
    weights = [torch.zeros_like(each) for each in [given[1], *exact.parameters()]]
    weights[kept] = draw(3, *weights[kept].shape)
    right = derived_twice(exact, [each.clone().requires_grad_() for each in given], weights, alone=True)
    own, leaf = copy.deepcopy(exact).float(), given[1].float().requires_grad_()
    leaves, direction = [leaf, *own.parameters()], given[0].float().requires_grad_()
    out = own(leaf, Mode(fused=True, wanted=Leaves(leaves), again=Leaves(leaves[kept : kept + 1])))
    (grad,) = torch.autograd.grad((out * direction).sum(), leaves[kept], create_graph=True)
    found = torch.autograd.grad((grad * weights[kept].float()).sum(), [direction, *leaves], materialize_grads=True)
    for mine, each in zip(found, right, strict=True):
        torch.testing.assert_close(mine.double(), each, rtol=1e-4, atol=1e-5)


def test_a_row_has_the_same_bits_alone_and_in_scoring() -> None:
    funnel = CASES["several edges into one step"]
    attention = StepAttention(24, funnel.edges)
    randomise(attention, scale=0.3)
    x = draw(1, 4, BLOCK + 5, 24).float()
    out = attention(x, FUSED)
    with torch.no_grad():
        assert torch.equal(attention(x, FUSED), out)
        for row in (0, BLOCK - 1, BLOCK + 4):
            assert torch.equal(attention(x[:, row : row + 1], FUSED), out[:, row : row + 1])


@pytest.mark.parametrize("is_trained", [True, False])
def test_loops_write_into_no_memory_but_their_own(is_trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, lent = 40 * BLOCK * 24, list[tuple[Lease, int]]()

    def guarded(sizes: Sequence[int]) -> Lease:
        lease = lease_for([*sizes, guard])
        end = (lease.places([*sizes, guard])[-1] - lease.memory.data_ptr()) // FLOAT
        lease.memory[end:] = 7.0
        lent.append((lease, end))
        return lease

    monkeypatch.setattr(fused_attention, "lease_for", guarded)
    attention, x = StepAttention(24, CASES["chain of 4"].edges), draw(1, 4, 9 * BLOCK, 24).float()
    randomise(attention, scale=0.3)
    with torch.set_grad_enabled(is_trained):
        out = attention(x.requires_grad_(is_trained), FUSED)
    if is_trained:
        out.sum().backward()
    assert len(lent) == 2 + is_trained and all((lease.memory[end:] == 7).all() for lease, end in lent)


def test_loops_make_no_gradients_that_nobody_wants() -> None:
    attention = StepAttention(4, [(0, 1)])
    x = draw(1, 2, 3, 4).float().requires_grad_()
    parameters = list(attention.parameters())
    out = attention(x, Mode(fused=True, wanted=Leaves([x])))
    grad, *others = torch.autograd.grad(out.sum(), [x, *parameters], allow_unused=True)
    assert grad.any() and others == [None] * len(parameters)


def test_loops_have_no_second_derivative_unless_one_is_asked_for() -> None:
    attention = StepAttention(4, [(0, 1)])
    x, parameters = draw(1, 2, 3, 4).float().requires_grad_(), list(attention.parameters())
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(attention(x, FUSED).sum(), x, create_graph=True)
    mode = Mode(fused=True, wanted=Leaves(parameters), again=Leaves(parameters))
    grads = torch.autograd.grad(attention(x, mode).sum(), parameters, create_graph=True)
    assert all(each is not None for each in torch.autograd.grad(sum_of([g.sum() for g in grads]), parameters))


@pytest.mark.skipif(not HAS_BFLOAT16, reason="no such instructions here")
def test_products_of_bfloat16_are_near_those_of_float32_and_no_others() -> None:
    attention = StepAttention(33, CASES["chain of 4"].edges)
    randomise(attention, scale=0.1)
    x, parameters = draw(1, 4, BLOCK + 5, 33).float().requires_grad_(), list(attention.parameters())
    exact, near = ([out.detach(), *torch.autograd.grad(out.square().sum(), [x, *parameters])] for out in (
        attention(x, Mode(fused=True, half=is_half)) for is_half in (False, True)
    ))  # fmt: skip
    for own, right in zip(near, exact, strict=True):
        assert 1e-4 < float((own - right).norm() / right.norm()) < 0.1
