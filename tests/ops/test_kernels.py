"""Every kernel against the reference of its operation in float64: values, gradients, and what it leaves to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from funnelcast import ops
from funnelcast.data.columns import UNOBSERVED
from funnelcast.kernels.cpu import BFLOAT16, FLOAT32, why_no_bfloat16
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.layers.gates import own_and_shared
from tests.layers.inputs import source
from tests.layers.reference import draw
from tests.pairs import pairwise

Function = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
ROWS = [0, 1, 37, 2 * BLOCK + 5]
"""None, one, and those that fill one block in part, and two and a part of a third."""


@dataclass(frozen=True)
class Case:
    """How an operation is called."""

    arguments: Callable[[int], Arguments]
    """Of so many rows, in float64."""
    view: Callable[[Tensor], Tensor] = lambda x: x
    """What of the first argument the operation gets."""
    leaves: int | None = None
    """How many of the floating-point arguments have gradients; none for all."""

    def results(self, function: Function, rows: int, dtype: torch.dtype) -> list[Tensor]:
        """The value, and the gradients of a product with a direction."""
        args, named, leaves = self.drawn(rows, dtype)
        out = function(self.view(args[0]), *args[1:], **named)
        assert out is not NotImplemented
        return [out.detach(), *torch.autograd.grad((out * draw(9, *out.shape).to(dtype)).sum(), leaves)]

    def drawn(self, rows: int, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
        """Arguments, and those of them that have gradients."""
        leaves = list[Tensor]()

        def leaf(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            leaves.append(value.to(dtype).detach().requires_grad_(self.leaves is None or len(leaves) < self.leaves))
            return leaves[-1]

        args, named = tree_map(leaf, self.arguments(rows))
        return args, named, leaves[: self.leaves]


def linear(*shape: int, bias: bool = True, relu: bool = False) -> Case:
    return Case(lambda rows: ((draw(0, *shape, rows, 5), draw(1, 21, 5), *[draw(2, 21)] * bias), {"relu": relu}))


def bank(networks: int, widths: tuple[int, ...], *, transposed: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of perceptrons that read seven columns; `transposed`: other strides in memory."""
    sizes = list(zip([7, *widths], widths, strict=False))
    scale = 0.5 if max(widths) < 50 else 0.2
    weights = [scale * draw(10 + i, networks, *size) for i, size in enumerate(sizes)]
    weights = [w.transpose(1, 2).contiguous().transpose(1, 2) if transposed else w for w in weights]
    return weights, [0.5 * draw(20 + i, networks, width) for i, (_, width) in enumerate(sizes)]


def mlp(
    *widths: int, x: Callable[[int], tuple[int, ...]] = lambda rows: (rows, 7), slope: float = 0.0,
    rates: tuple[float, ...] = (), seed_rows: int = 10**9, view: Callable[[Tensor], Tensor] = lambda x: x,
    transposed: bool = False,
) -> Case:  # fmt: skip
    """Three networks; `x`: the shape of what `view` makes the input of."""

    def arguments(rows: int) -> Arguments:
        seeds = torch.arange(4, 5 + rows // seed_rows)
        key = ops.DropoutKey(seeds, seed_rows) if rates else None
        args = draw(1, *x(rows)), *bank(3, widths, transposed=transposed)
        return args, {"slope": slope, "rates": rates, "key": key}

    return Case(arguments, view)


SEEN = {
    "one": [[True]],
    "one step": [[True] * 3],
    "own and shared": own_and_shared(3, 2, 2),
    "all": [[True] * 3] * 2,
    "not in order": [[False, True, True], [True, True, False]],
}


def mixture(visible: list[list[bool]], *widths: int, own: bool = False, slope: float = 0.0) -> Case:
    """`own`: an input for each expert."""
    pairs = [(gate, expert) for gate, row in enumerate(visible) for expert, sees in enumerate(row) if sees]
    edges = tuple((gate, expert, column) for column, (gate, expert) in enumerate(pairs))
    experts = len(visible[0])

    def arguments(rows: int) -> Arguments:
        x, gates = draw(1, *[experts] * own, rows, 7), draw(2, rows, len(pairs))
        return (x, *bank(experts, widths), gates, edges), {"slope": slope}

    return Case(arguments)


def self_attention(heads: int) -> Case:
    """Two copies, four elements of which each row has one at least."""

    def arguments(rows: int) -> Arguments:
        tokens = [draw(seed, 2, rows, heads, 4, 3) for seed in range(3)]
        held = torch.arange(4) < 1 + torch.arange(rows)[:, None] % 4
        mask = torch.zeros(rows, 1, 1, 4).masked_fill(~held[:, None, None], torch.finfo(torch.float32).min)
        return (*tokens, mask), {}

    return Case(arguments, leaves=3)


def losses(parents: tuple[int, ...], *, weighted: bool = False, factors: bool = False) -> Case:
    """A third each of the labels is 0, 1 and unobserved."""

    def arguments(rows: int) -> Arguments:
        drawn = torch.randint(3, (rows, len(parents)), generator=source(3))
        labels = torch.tensor([0, 1, UNOBSERVED], dtype=torch.uint8)[drawn]
        weight = draw(4, rows).abs() if weighted else None
        logits = 2 * draw(0, rows, len(parents))
        return (logits, labels, weight, parents, draw(5, len(parents)).abs() if factors else None), {}

    return Case(arguments, leaves=1)


CASES: dict[str, dict[str, Case]] = {
    "linear": {
        "plain": linear(),
        "no bias": linear(bias=False),
        "relu": linear(relu=True),
        "no bias, relu": linear(bias=False, relu=True),
        "more dimensions": linear(2, 1),
    },
    "mlp_bank": {
        "one column": mlp(1),
        "two layers": mlp(6, 4),
        "three layers": mlp(9, 5, 3),
        "tiles in part": mlp(70, 33, 17),
        "whole tiles": mlp(64, 32),
        "an input each": mlp(6, 4, x=lambda rows: (3, rows, 7)),
        "expanded": mlp(6, 4, x=lambda rows: (1, rows, 7), view=lambda x: x.expand(3, -1, -1)),
        "transposed": mlp(6, 4, x=lambda rows: (7, rows), view=Tensor.t),
        "every second row": mlp(6, 4, x=lambda rows: (2 * rows, 7), view=lambda x: x[::2]),
        "the last columns": mlp(6, 4, x=lambda rows: (rows, 14), view=lambda x: x[:, 7:]),
        "transposed weights": mlp(6, 4, transposed=True),
        "leaky": mlp(70, 33, 17, slope=0.2),
        "leaky, whole tiles": mlp(64, 32, slope=0.2),
        "dropout": mlp(6, 4, rates=(0.4, 0.3)),
        "dropout after one layer": mlp(64, 32, rates=(0.5, 0.0)),
        "dropout, an input each": mlp(6, 4, rates=(0.5, 0.3), x=lambda rows: (3, rows, 7)),
        "dropout by seeds of 4 rows": mlp(6, 5, rates=(0.4, 0.3), seed_rows=4),
        "dropout by seeds of 100 rows": mlp(70, 33, rates=(0.4, 0.3), seed_rows=100),
    },
    "expert_mixture": {
        **{name: mixture(visible, 6, 4) for name, visible in SEEN.items()},
        "one layer of one column": mixture(SEEN["own and shared"], 1),
        "three layers": mixture(SEEN["own and shared"], 9, 5, 3),
        "tiles in part": mixture(SEEN["own and shared"], 70, 33, 17),
        "whole tiles": mixture(SEEN["not in order"], 64, 32),
        "an input each": mixture(SEEN["own and shared"], 6, 4, own=True),
        "leaky": mixture(SEEN["all"], 70, 33, slope=0.2),
        "leaky, whole tiles": mixture(SEEN["all"], 64, 32, slope=0.2),
    },
    "self_attention": {"one head": self_attention(1), "two heads": self_attention(2)},
    "funnel_losses": {
        "one step": losses((-1,)),
        "chain": losses((-1, 0, 1), weighted=True),
        "tree": losses((-1, 0, 0, 2), factors=True),
        "parallel": losses((-1, -1, 0), weighted=True, factors=True),
    },
}
"""Operations with gradients."""
NAMED = [pytest.param(name, case, id=f"{name}-{of}") for name, cases in CASES.items() for of, case in cases.items()]
ONE_EACH = [pytest.param(name, next(iter(cases.values())), id=name) for name, cases in CASES.items()]
WITH_PRODUCTS = [each for each in NAMED if BFLOAT16[str(each.values[0])] is not FLOAT32[str(each.values[0])]]
WITHOUT_GRADIENT = {"gather", "reach"}
IN_PLACE = {"adam", "adam_rows", "scatter_add"}
ELSEWHERE = {"deduplicate", "random_bits", "unique"}
"""In tests of their own: `test_dedup`, `test_dropout`, `test_sparse`."""


def reference(name: str) -> Function:
    found: Function = getattr(ops, name).__wrapped__
    return found


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for mine, right in zip(found, expected, strict=True):
        assert mine.shape == right.shape and (mine.double() - right).norm() <= tolerance * (1 + right.norm())


def test_every_kernel_is_compared() -> None:
    assert {*CASES, *WITHOUT_GRADIENT, *IN_PLACE, *ELSEWHERE} == set(FLOAT32) == set(BFLOAT16)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("name", "case"), NAMED)
def test_the_same_values_and_gradients(name: str, case: Case, rows: int) -> None:
    found = case.results(FLOAT32[name], rows, torch.float32)
    assert all(each.dtype == torch.float32 for each in found)
    assert_near(found, case.results(reference(name), rows, torch.float64))


@pytest.mark.skipif(bool(why_no_bfloat16()), reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize(("name", "case"), WITH_PRODUCTS)
def test_bfloat16_is_near_float32_and_not_the_same(name: str, case: Case) -> None:
    """An activation near 0 may come to lie on its other side, and change a gradient by much."""
    exact, near = (case.results(kernels[name], BLOCK + 5, torch.float32) for kernels in (FLOAT32, BFLOAT16))
    assert all(each.dtype == torch.float32 for each in near)
    value, *gradients = (float((a - b).norm() / (1 + b.norm())) for a, b in zip(near, exact, strict=True))
    assert 1e-4 < value < 0.02 and max(gradients) < 0.2


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(("name", "case"), ONE_EACH)
def test_nan_and_infinity_are_passed_on(name: str, case: Case, value: float) -> None:
    """By them a diverging run is noticed; other rows stay finite."""
    outs = []
    for function, dtype in ((FLOAT32[name], torch.float32), (reference(name), torch.float64)):
        args, named, _ = case.drawn(30, dtype)
        with torch.no_grad():
            args[0].view(-1)[8] = value
            outs.append(function(*args, **named).double())
    assert torch.equal(outs[0].isnan(), outs[1].isnan()) and torch.equal(outs[0].isfinite(), outs[1].isfinite())
    assert name == "funnel_losses" or (not outs[0].isfinite().all() and outs[0].isfinite().any())


@pytest.mark.parametrize(("name", "case"), ONE_EACH)
def test_a_gradient_that_is_to_be_differentiated_is_refused(name: str, case: Case) -> None:
    """One without a path back would be wrong without a word. The reference has both derivatives."""
    args, named, leaves = case.drawn(5, torch.float32)

    def second(function: Function) -> Tensor:
        (first,) = torch.autograd.grad(function(*args, **named).square().sum(), leaves[:1], create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaves[0])[0]

    with pytest.raises(RuntimeError, match=r"no second derivative|backward is not implemented"):
        second(FLOAT32[name])
    assert second(reference(name)).any()
    with ops.compute(torch.device("cpu"), order=2):
        assert torch.equal(second(getattr(ops, name)), second(reference(name)))


@pytest.mark.parametrize(("name", "case"), ONE_EACH)
def test_without_a_gradient_the_same_bits(name: str, case: Case) -> None:
    """What is kept for the backward pass, and where, changes nothing."""
    args, named, _ = case.drawn(2 * BLOCK + 5, torch.float32)
    kept = FLOAT32[name](*args, **named)
    with torch.no_grad():
        assert torch.equal(FLOAT32[name](*args, **named), kept)


@pytest.mark.parametrize(("name", "case"), ONE_EACH)
def test_elements_of_another_type_are_left_to_the_reference(name: str, case: Case) -> None:
    """Which kernels would read as if they were float32."""
    args, named, _ = case.drawn(9, torch.float64)
    with ops.compute(torch.device("cpu")):
        found = getattr(ops, name)(*args, **named)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, reference(name)(*args, **named), rtol=1e-12, atol=1e-12)


def test_logits_and_tables_of_another_type_too() -> None:
    logits, weight, rows = draw(0, 4, 2), draw(1, 9, 3), torch.arange(5, dtype=torch.int32)
    moments, found = draw(2, 9, 2, 3).abs(), list[list[Tensor]]()
    named: dict[str, Any] = {"rate": 0.1, "scale": 1.0, "l2": 0.0}
    for order in (0, 2):
        own = [each.clone() for each in (weight, moments, weight, weight.abs(), weight.abs())]
        with ops.compute(torch.device("cpu"), order=order):
            ops.adam_rows(own[0], own[1], rows, draw(3, 5, 3), **named, last=None, lost=None, step=1)
            ops.adam(own[2:3], own[3:4], own[4:], [[draw(4, 9, 3)]], **named, decay=[0.0])
            found.append([*own, *ops.reach(logits, (-1, 0))])
    assert all(map(torch.equal, *found))


def test_some_arguments_are_left_to_the_reference() -> None:
    logits, table = draw(0, 4, 2).float().requires_grad_(), draw(1, 6, 3).float().requires_grad_()
    rows = torch.zeros(4, 2, dtype=torch.int32)
    assert FLOAT32["reach"](logits, (-1, 0)) is NotImplemented
    assert FLOAT32["gather"](rows, table) is NotImplemented
    assert FLOAT32["unique"](torch.zeros(3, dtype=torch.int64)) is NotImplemented
    focal = FLOAT32["funnel_losses"](logits, torch.zeros(4, 2, dtype=torch.uint8), None, (-1, 0), None, 1.5)
    assert focal is NotImplemented
    leaky = mlp(6, 4, slope=0.1, rates=(0.5, 0.5)).drawn(9, torch.float32)
    assert FLOAT32["mlp_bank"](*leaky[0], **leaky[1]) is NotImplemented


@pytest.mark.parametrize(
    ("rows", "width", "ids"), pairwise([0, 1, 2, 3, 50], [1, 5, 16, 40], [torch.int32, torch.int64])
)
def test_rows_of_a_table_are_copied(rows: int, width: int, ids: torch.dtype) -> None:
    table, drawn = draw(0, 9, width).float(), torch.randint(9, (rows, 6), generator=source(1)).to(ids)
    for own in (drawn[:, :3], drawn[:, ::2], drawn[:, 2:3]):
        found = FLOAT32["gather"](own, table)
        assert torch.equal(found, reference("gather")(own, table))
        assert found.shape == (rows, own.shape[1] * width)


def adam_arguments(dtype: torch.dtype) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Parameters, means and squares, and the gradients of three microbatches; one is not contiguous."""
    shapes = [(3, 4), (1,), (9000,), (0,)]
    held = [[draw(10 * k + i, *shape).to(dtype) for i, shape in enumerate(shapes)] for k in range(3)]
    held[2] = [each.abs() for each in held[2]]
    grads = [[draw(50 + 10 * k + i, *shape).to(dtype) for i, shape in enumerate(shapes)] for k in range(3)]
    grads[1][0] = draw(90, 4, 3).to(dtype).t()
    return held, grads


@pytest.mark.parametrize("microbatches", [1, 2, 3])
@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.1, 0.02)])
def test_adam_moves_parameters_and_moments(l2: float, decay: float, microbatches: int) -> None:
    moved = []
    for function, dtype in ((FLOAT32["adam"], torch.float32), (reference("adam"), torch.float64)):
        held, grads = adam_arguments(dtype)
        held[0][1].fill_(1e-32)
        held[1][1].fill_(0)
        every = [[g * (0 if i == 1 else 1) for i, g in enumerate(own)] for own in grads[:microbatches]]
        assert function(*held, every, rate=0.01, scale=1.2, l2=l2, decay=[decay] * 4)
        moved.append([each for own in held for each in own])
    assert_near(moved[0], moved[1], 1e-6)
    assert moved[0][1] == moved[1][1] == 0  # not a subnormal number


@pytest.mark.parametrize(("count", "width", "decays"), pairwise([0, 1, 40], [1, 5, 16, 23], [False, True]))
def test_adam_moves_the_rows_that_it_is_given(count: int, width: int, decays: bool) -> None:
    rows = torch.randperm(50, generator=source(0))[:count].int()
    moved = []
    for function, dtype in ((FLOAT32["adam_rows"], torch.float32), (reference("adam_rows"), torch.float64)):
        weight, moments = draw(1, 50, width).to(dtype), draw(2, 50, 2, width).abs().to(dtype)
        last = torch.arange(50, dtype=torch.int32) % 7 if decays else None
        lost = torch.linspace(0, 0.3, 9) if decays else None
        grad = draw(3, width, count).to(dtype).t()
        assert function(weight, moments, rows, grad, rate=0.01, scale=1.2, l2=0.1, last=last, lost=lost, step=8)
        moved.append([weight, moments, *([] if last is None else [last.double()])])
    assert_near(moved[0], moved[1], 1e-6)
    untouched = torch.ones(50, dtype=torch.bool).index_fill(0, rows.long(), False)
    assert torch.equal(moved[0][0][untouched], draw(1, 50, width).float()[untouched])
