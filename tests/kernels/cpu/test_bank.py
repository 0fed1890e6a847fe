"""The fast form of banks against the plain one: the same values and derivatives, second ones where they are asked for.

Through `Mode(fused=True)`, whatever is behind it: float64 to rounding; float32 against the plain form in float64.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from funnelcast.layers.banks import LinearBank, MLPBank
from funnelcast.layers.calls import bank_of
from funnelcast.layers.dropout import BlockNoise, Noise, Seed
from funnelcast.layers.few_rows import FEW, shared_columns
from funnelcast.layers.gates import GateBank, GatedExperts, extraction_levels, own_and_shared
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import Mode
from funnelcast.layers.tiles import ROWS
from funnelcast.layers.workspace import Lease
from tests.layers.reference import draw, randomise

FAST = Mode(fused=True)
TOLERANCE: dict[torch.dtype, Any] = {
    torch.float64: {"rtol": 1e-11, "atol": 1e-12},
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
}
SEEN = {
    "one": [[True]],
    "one step": [[True] * 3],
    "own and shared": own_and_shared(3, 2, 2),
    "all": [[True] * 3] * 2,
    "not in order": [[False, True, True], [True, True, False]],
}


def trunk_of(widths: tuple[int, ...], visible: list[list[bool]], dtype: torch.dtype, seed: int = 0) -> GatedExperts:
    trunk = GatedExperts(MLPBank(len(visible[0]), 7, widths), GateBank(7, visible)).to(dtype)
    randomise(trunk, seed, scale=0.5)
    return trunk


def results(trunk: nn.Module, x: Tensor, mode: Mode) -> list[Tensor]:
    """The mixtures, and their derivatives in some direction with respect to x and every parameter."""
    x = x.detach().clone().requires_grad_()
    out = trunk(x, mode)
    direction = draw(9, *out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), [x, *trunk.parameters()])]


def assert_close(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), right, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widths", [(5,), (1,), (6, 4), (9, 5, 3)])
@pytest.mark.parametrize("visible", SEEN.values(), ids=SEEN.keys())
@pytest.mark.parametrize("rows", [1, 37])
def test_the_same_values_and_derivatives(
    visible: list[list[bool]], widths: tuple[int, ...], rows: int, dtype: torch.dtype
) -> None:
    trunk, x = trunk_of(widths, visible, dtype), draw(1, rows, 7, dtype=dtype)
    expected = results(copy.deepcopy(trunk).double(), x.double(), Mode())
    assert_close(results(trunk, x, FAST), expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [0, 1, 37])
@pytest.mark.parametrize("owners", [[0, 0, 1, 1, 2], [2, 2, 2, 2, 2], [1, 0, 2, 0, 1]])
def test_the_same_with_an_input_per_owner_and_gate(owners: list[int], rows: int, dtype: torch.dtype) -> None:
    """Three inputs for five experts and two gates: those of one owner add up their gradients."""
    trunk = trunk_of((6, 4), own_and_shared(2, 2, 1), dtype)
    trunk.owners = torch.tensor(owners)
    x = draw(1, 3, rows, 7, dtype=dtype)
    expected = results(copy.deepcopy(trunk).double(), x.double(), Mode())
    assert_close(results(trunk, x, FAST), expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shared", [0, 2])
def test_the_same_through_levels(shared: int, dtype: torch.dtype) -> None:
    trunk = extraction_levels(7, (6, 4), 3, 2, shared, 3).to(dtype)
    randomise(trunk, scale=0.5)
    x = draw(1, 37, 7, dtype=dtype)
    expected = results(copy.deepcopy(trunk).double(), x.double(), Mode())
    assert_close(results(trunk, x, FAST), expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_more_rows_than_go_through_at_a_time(dtype: torch.dtype) -> None:
    """And layers that end inside a tile."""
    trunk, x = trunk_of((70, 33, 17), own_and_shared(2, 1, 2), dtype), draw(1, 2 * BLOCK + 5, 7, dtype=dtype)
    expected = results(copy.deepcopy(trunk).double(), x.double(), Mode())
    assert_close(results(trunk, x, FAST), expected, dtype)


@pytest.mark.parametrize("widths", [(6, 4), (70, 33, 17), (32, 16)])
@pytest.mark.parametrize("rows", [1, 37, 2 * BLOCK + 5])
def test_a_leaky_relu(widths: tuple[int, ...], rows: int) -> None:
    """One and two derivatives; the widths take loops, and tiles of whole registers."""
    trunk, x = trunk_of(widths, own_and_shared(2, 1, 2), torch.float32), draw(1, rows, 7, dtype=torch.float32)
    trunk.experts.slope = 0.2
    right = copy.deepcopy(trunk).double()
    first = results(trunk, x, FAST), results(right, x.double(), Mode())
    fast = second_derivatives(trunk, x, BY[2], fused=True)
    plain = second_derivatives(right, x.double(), BY[2], fused=False)
    for found, expected in (first, (fast, plain)):
        for mine, exact in zip(found, expected, strict=True):
            assert (mine.double() - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_papers_sizes(dtype: torch.dtype) -> None:
    trunk = GatedExperts(MLPBank(12, 90, (256, 128)), GateBank(90, own_and_shared(2, 4, 4))).to(dtype)
    randomise(trunk, scale=0.08)
    x = draw(1, 64, 90, dtype=dtype)
    expected = results(copy.deepcopy(trunk).double(), x.double(), Mode())
    assert_close(results(trunk, x, FAST), expected, dtype)


def test_rows_that_do_not_lie_together() -> None:
    trunk, x = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32), draw(1, 7, 20, dtype=torch.float32)
    for turned in (x.t(), draw(2, 40, 7, dtype=torch.float32)[::2], draw(3, 20, 14, dtype=torch.float32)[:, 7:]):
        assert_close([trunk(turned, FAST)], [copy.deepcopy(trunk).double()(turned.double())], torch.float32)


def test_second_derivatives_where_parameters_do_not_lie_together() -> None:
    """A copy that is made inside a function has no path back, and a derivative through it is lost without a word."""
    trunk, wide = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32), draw(1, 37, 14).float()
    for layer in trunk.experts.layers:
        assert isinstance(layer, LinearBank)
        layer.weight = nn.Parameter(layer.weight.detach().transpose(1, 2).contiguous().transpose(1, 2))
    for by in BY:
        expected = second_derivatives(copy.deepcopy(trunk).double(), wide[:, ::2].double(), by, fused=False)
        assert_close(second_derivatives(trunk, wide[:, ::2], by, fused=True), expected, torch.float32)


def test_a_second_derivative_raises() -> None:
    """One that merely forgot this path would be wrong without a word, as x reaches the result in other ways too."""
    trunk = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32)
    x = draw(1, 5, 7, dtype=torch.float32).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(trunk(x, FAST).square().sum(), x, create_graph=True)
    (plain,) = torch.autograd.grad(trunk(x).square().sum(), x, create_graph=True)
    assert torch.autograd.grad(plain.sum(), x)[0].any()


def test_a_gradient_to_be_differentiated_is_made_once() -> None:
    """What a second one adds would be taken for the first one's."""
    trunk, x = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32), draw(1, 5, 7, dtype=torch.float32)
    leaves = list(trunk.parameters())
    out = trunk(x, Mode(fused=True, again=Leaves(leaves)))
    torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="make it once more"):
        torch.autograd.grad(out.sum(), leaves, create_graph=True)


def leaves_of(trunk: nn.Module, x: Tensor, by: str) -> list[Tensor]:
    named = {"x": [x], **{part: [*getattr(trunk, part).parameters()] for part in ("experts", "gates")}}
    return [leaf for part in by.split(" and ") for leaf in named[part]]


def second_derivatives(trunk: nn.Module, x: Tensor, by: str, *, fused: bool) -> list[Tensor]:
    """Of a loss by `by` in some direction, and then by everything."""
    x = x.detach().clone().requires_grad_()
    adapted, every = leaves_of(trunk, x, by), [x, *trunk.parameters()]
    noise = Noise(Seed(4))
    mode = Mode(noise=noise, fused=fused, wanted=Leaves(every), again=Leaves(adapted))
    out = trunk(x, mode)
    loss = (out * draw(9, *out.shape).to(out.dtype)).sum() + out.square().sum() * 0.3
    first = torch.autograd.grad(loss, adapted, create_graph=True)
    product = sum((g * draw(20 + i, *g.shape).to(g.dtype)).sum() for i, g in enumerate(first))
    assert isinstance(product, Tensor)
    second = torch.autograd.grad(product, every, allow_unused=True, materialize_grads=True)
    return [g.detach() for g in (*first, *second)]


BY = ["experts", "gates", "experts and gates", "x", "x and experts and gates", "x and gates"]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("widths", [(5,), (6, 4), (9, 5, 3)])
@pytest.mark.parametrize("visible", SEEN.values(), ids=SEEN.keys())
@pytest.mark.parametrize("rows", [0, 37])
def test_the_same_second_derivatives(visible: list[list[bool]], widths: tuple[int, ...], by: str, rows: int) -> None:
    trunk, x = trunk_of(widths, visible, torch.float32), draw(1, rows, 7, dtype=torch.float32)
    expected = second_derivatives(copy.deepcopy(trunk).double(), x.double(), by, fused=False)
    assert_close(second_derivatives(trunk, x, by, fused=True), expected, torch.float32)


@pytest.mark.parametrize("by", ["gates", "experts and gates"])
def test_the_same_second_derivatives_of_several_blocks_of_rows(by: str) -> None:
    trunk, x = trunk_of((6, 4), SEEN["all"], torch.float32), draw(1, 2 * BLOCK + 37, 7, dtype=torch.float32)
    expected = second_derivatives(copy.deepcopy(trunk).double(), x.double(), by, fused=False)
    assert_close(second_derivatives(trunk, x, by, fused=True), expected, torch.float32)


@pytest.mark.parametrize("by", ["gates", "experts and gates"])
@pytest.mark.parametrize("shared", [0, 2])
def test_the_same_second_derivatives_through_levels(shared: int, by: str) -> None:
    """By gates, the lower levels must be found among what the upper ones read."""
    trunk = extraction_levels(7, (6, 4), 3, 2, shared, 3)
    randomise(trunk, scale=0.5)
    x = draw(1, 37, 7, dtype=torch.float32)
    parameters = [n for n, _ in trunk.named_parameters() if "gates" in n or "experts" in by]

    def results(trunk: nn.Module, x: Tensor, *, fused: bool) -> list[Tensor]:
        x = x.detach().clone().requires_grad_()
        adapted, every = [p for n, p in trunk.named_parameters() if n in parameters], [x, *trunk.parameters()]
        out = trunk(x, Mode(fused=fused, wanted=Leaves(every), again=Leaves(adapted)))
        first = torch.autograd.grad(out.square().sum(), adapted, create_graph=True)
        product = torch.stack([(g * draw(20 + i, *g.shape).to(g.dtype)).sum() for i, g in enumerate(first)]).sum()
        return [
            g.detach()
            for g in (*first, *torch.autograd.grad(product, every, allow_unused=True, materialize_grads=True))
        ]

    assert_close(
        results(trunk, x, fused=True), results(copy.deepcopy(trunk).double(), x.double(), fused=False), torch.float32
    )


@pytest.mark.parametrize("shared", ["rows", "expanded", "own"])
@pytest.mark.parametrize("by", ["layers", "x", "x and layers"])
@pytest.mark.parametrize("dropout", [(), (0.4, 0.3)])
def test_second_derivatives_of_banks_with_dropout(dropout: tuple[float, ...], by: str, shared: str) -> None:
    bank = MLPBank(3, 7, (6, 4), dropout)
    randomise(bank, scale=0.5)
    x = draw(1, *(() if shared == "rows" else (3,) if shared == "own" else (1,)), 9, 7, dtype=torch.float32)

    def results(bank: MLPBank, x: Tensor, *, fused: bool) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        adapted = [*([leaf] if "x" in by else []), *(bank.parameters() if "layers" in by else [])]
        mode = Mode(Noise(Seed(4)), fused, again=Leaves(adapted))
        y = bank(leaf.expand(3, -1, -1) if shared == "expanded" else leaf, mode)
        first = torch.autograd.grad((y * draw(9, *y.shape).to(y.dtype) + y.square()).sum(), adapted, create_graph=True)
        product = torch.stack([(g * draw(20 + i, *g.shape).to(g.dtype)).sum() for i, g in enumerate(first)]).sum()
        second = torch.autograd.grad(product, [leaf, *bank.parameters()], allow_unused=True, materialize_grads=True)
        return [g.detach() for g in (*first, *second)]

    expected = results(copy.deepcopy(bank).double(), x.double(), fused=False)
    assert_close(results(bank, x, fused=True), expected, torch.float32)


@pytest.mark.parametrize(("rows", "size"), [(9, 9), (9, 4), (BLOCK + 50, 100)])
@pytest.mark.parametrize("shared", ["rows", "expanded", "own"])
@pytest.mark.parametrize("dropout", [(), (0.4, 0.0), (0.5, 0.3)])
def test_banks_with_dropout(dropout: tuple[float, ...], shared: str, rows: int, size: int) -> None:
    """The same noise, of `size` rows each, falls on the same elements; networks that share rows add up their
    gradients."""
    bank = MLPBank(3, 7, (6, 4), dropout)
    randomise(bank, scale=0.5)
    x = draw(1, *(() if shared == "rows" else (3,) if shared == "own" else (1,)), rows, 7, dtype=torch.float32)

    def results(dtype: torch.dtype, fused: bool) -> list[Tensor]:
        leaf = x.to(dtype).clone().requires_grad_()
        given = leaf.expand(3, -1, -1) if shared == "expanded" else leaf
        noises = [Noise(Seed(4 + start)) for start in range(0, rows, size)]
        noise, out = BlockNoise(noises, size) if len(noises) > 1 else noises[0], copy.deepcopy(bank).to(dtype)
        y = out(given, Mode(noise=noise, fused=fused))
        return [y.detach(), *torch.autograd.grad((y * draw(9, *y.shape).to(dtype)).sum(), [leaf, *out.parameters()])]

    assert_close(results(torch.float32, True), results(torch.float64, False), torch.float32)


def test_passes_that_overlap_do_not_share_memory() -> None:
    """Backward in another order than forward, twice, and after the rows of a third."""
    trunk = trunk_of((6, 4), own_and_shared(2, 2, 1), torch.float32)
    inputs = [draw(seed, rows, 7, dtype=torch.float32) for seed, rows in ((1, 30), (2, 30), (3, 50))]
    alone = [results(trunk, x, FAST)[1:] for x in inputs]
    leaves = [x.clone().requires_grad_() for x in inputs]
    losses = [(out * draw(9, *out.shape).float()).sum() for out in (trunk(x, FAST) for x in leaves)]
    for i in (1, 0, 2, 0):
        again = torch.autograd.grad(losses[i], [leaves[i], *trunk.parameters()], retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(again, alone[i], strict=True))


def test_an_output_stays_when_the_next_pass_begins() -> None:
    trunk = trunk_of((6, 4), own_and_shared(2, 2, 1), torch.float32)
    with torch.no_grad():
        first = trunk(draw(1, 30, 7, dtype=torch.float32), FAST)
        kept = first.clone()
        trunk(draw(2, 30, 7, dtype=torch.float32), FAST)
    assert torch.equal(first, kept)


def test_threads_do_not_share_memory() -> None:
    trunk = trunk_of((16, 8), own_and_shared(2, 2, 1), torch.float32)
    inputs = [draw(seed, 20 + seed, 7, dtype=torch.float32) for seed in range(12)]
    alone = [results(trunk, x, FAST) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, expected in zip(pool.map(lambda x: results(trunk, x, FAST), inputs), alone, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_is_frozen_and_what_needs_no_gradient() -> None:
    trunk = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32)
    x = draw(1, 9, 7, dtype=torch.float32)
    free = results(trunk, x, FAST)
    trunk.experts.requires_grad_(False)
    out = trunk(x, FAST)
    gates = torch.autograd.grad((out * draw(9, *out.shape).float()).sum(), list(trunk.gates.parameters()))
    expected = free[2 + len(list(trunk.experts.parameters())) :]
    assert all(torch.equal(a, b) for a, b in zip(gates, expected, strict=True))


def test_numbers_that_are_none_are_passed_on() -> None:
    """By them a diverging run is noticed."""
    trunk = trunk_of((6, 4), own_and_shared(2, 1, 1), torch.float32)
    x = draw(1, 4, 7, dtype=torch.float32)
    x[2, 3] = torch.nan
    assert torch.isnan(trunk(x, FAST)).all(2).tolist() == [[False, False, True, False]] * 2


def test_memory_of_scoring_serves_training() -> None:
    with torch.inference_mode():
        lease = Lease(1 << 20)
    assert not lease.memory.is_inference()


@pytest.mark.parametrize("rows", [1, BLOCK, 2 * BLOCK + 5])
def test_a_row_is_the_same_alone_and_among_others(rows: int) -> None:
    """To the bit: weights are read where they are for few rows, and in panels for many."""
    bank, x = MLPBank(3, 7, (80, 48)), draw(1, rows, 7).float()
    randomise(bank, scale=0.3)
    with torch.no_grad():
        every = bank(x, FAST)
        for some in (slice(0, 1), slice(rows // 2, rows)):
            assert torch.equal(bank(x[some], FAST), every[:, some])
        torch.testing.assert_close(every.double(), copy.deepcopy(bank).double()(x.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [ROWS + 1, BLOCK + 5, FEW, FEW + 1])
@pytest.mark.parametrize("shared", [1, 5, 7])
def test_what_rows_share_changes_no_bit(rows: int, shared: int) -> None:
    """Leading columns that are the same in all rows are multiplied once; a few rows alone are multiplied as a whole."""
    bank, x = MLPBank(3, 7, (80, 48)), draw(1, rows, 7).float()
    randomise(bank, scale=0.3)
    x[:, :shared] = x[0, :shared]
    with torch.no_grad():
        every = bank(x, FAST)
        for start in range(0, rows, ROWS):
            assert torch.equal(bank(x[start : start + ROWS], FAST), every[:, start : start + ROWS])


def test_which_columns_rows_share() -> None:
    x = torch.ones(ROWS + 1, 5)
    assert shared_of(x) == 4  # never all of them
    x[3, 2] = 2
    assert shared_of(x) == 2
    assert shared_of(x[:ROWS]) == 0  # not worth it
    assert shared_of(torch.ones(FEW, 5)) == 4 and shared_of(torch.ones(FEW + 1, 5)) == 0
    assert shared_of(torch.ones(2, ROWS + 1, 5)) == 0  # networks have rows of their own
    x[:, 0] = torch.nan
    assert shared_of(x) == 0


def shared_of(x: Tensor) -> int:
    return int(shared_columns(bank_of(x, None, 2)[0], x.shape[-1]))


@pytest.mark.parametrize("rows", [1, BLOCK, 2 * BLOCK + 5])
def test_without_a_gradient_the_same_numbers(rows: int) -> None:
    """Where layers' outputs are kept no longer than they are needed; and whatever other rows go along."""
    trunk, x = trunk_of((70, 33, 17), own_and_shared(2, 1, 2), torch.float32), draw(1, rows, 7).float()
    kept = trunk(x, FAST)
    with torch.no_grad():
        assert torch.equal(trunk(x, FAST), kept)
