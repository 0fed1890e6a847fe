"""Attention along edges against loops in plain Python, what it leaves alone, and its derivatives."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast import ops
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.layers.attention import StepAttention
from funnelcast.ops import attend
from funnelcast.schema.funnel import Funnel
from tests.layers.reference import arrays, attend_along, draw, has_derivatives, randomise

Edges = Sequence[tuple[int, int]]

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
    """click -> cart -> buy and click -> like: like depends on no cart, and no step on a later one."""
    attention = StepAttention(3, CASES["tree"].edges).double()
    randomise(attention)
    x = draw(4, 4, 6, 3).requires_grad_()
    read = [torch.autograd.grad(attention(x)[t].square().sum(), x)[0].flatten(1).any(1).tolist() for t in range(4)]
    assert read == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, False, False, True],
    ]


def test_weights_add_up_to_one_and_a_steps_own_is_last() -> None:
    edges = CASES["several edges into one step"].edges
    attention = StepAttention(3, edges).double()
    randomise(attention)
    x = draw(2, 4, 5, 3)
    weights = attend(x, *attention._arguments())[1]
    assert {target: own.shape for target, own in weights.items()} == {2: (3, 5), 3: (4, 5)}
    for target, own in weights.items():
        assert torch.all(own > 0)
        torch.testing.assert_close(own.sum(0), torch.ones(5, dtype=torch.float64))
        for i, source in enumerate(attention.sources[target]):
            assert torch.equal(attention.shares(x)[source, target], own[i])


def test_equal_tokens_are_weighed_equally() -> None:
    attention = StepAttention(2, [(0, 2), (1, 2)]).double()
    randomise(attention)
    x = draw(3, 1, 4, 2).abs().expand(3, -1, -1)
    with torch.no_grad():
        for name, parameter in attention.information.named_parameters():
            parameter.copy_(torch.eye(2) if name.endswith("weight") else torch.zeros(2))
    weights = attend(x, *attention._arguments())[1]
    torch.testing.assert_close(weights[2], torch.full((3, 4), 1 / 3, dtype=torch.float64))


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


INTO_TWO = [(0, 2), (1, 2), (0, 3), (1, 3)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_has_the_same_bits_alone_and_in_scoring(precision: ops.Precision) -> None:
    if precision == "bfloat16" and why_no_bfloat16():
        pytest.skip("this processor does not multiply bfloat16")
    attention, x = StepAttention(24, INTO_TWO), draw(1, 4, BLOCK + 5, 24).float()
    randomise(attention, scale=0.3)
    with ops.compute(torch.device("cpu"), precision=precision):
        out = attention(x)
        with torch.no_grad():
            assert torch.equal(attention(x), out)
            for row in (0, BLOCK - 1, BLOCK + 4):
                assert torch.equal(attention(x[:, row : row + 1]), out[:, row : row + 1])


def test_no_gradients_are_made_that_nobody_wants() -> None:
    """And those that are wanted are the same."""
    attention, x = StepAttention(4, INTO_TWO), draw(1, 4, 3, 4).float().requires_grad_()
    randomise(attention)
    with ops.compute(torch.device("cpu")):
        right, *_ = torch.autograd.grad(attention(x).square().sum(), [x, *attention.parameters()])
        attention.requires_grad_(False)
        (grad,) = torch.autograd.grad(attention(x).square().sum(), [x])
    assert grad.any() and torch.equal(grad, right)
