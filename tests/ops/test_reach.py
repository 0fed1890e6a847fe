"""Reach against high precision, its derivatives, the invariant, and undoing downsampling by Bayes' rule."""

import itertools
import random
from fractions import Fraction
from typing import Literal

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from funnelcast.kernels.cpu import FLOAT32
from funnelcast.ops.reach import HEADS, Head, Reach, _logaddexp, chain_reach, independent_reach, undo_downsampling

CHAINS = [tuple(range(-1, steps - 1)) for steps in range(1, 7)]
TREES = [(-1, 0, 1, 0), (-1, 0, 0, 1, -1, 4), (-1, -1)]
DIGITS = 60
# The promise of DESIGN.md for float32; float64 keeps the same number of ulps, and some to spare.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def kernel(logits: Tensor, parents: tuple[int, ...]) -> Reach:
    """Of logits without a gradient."""
    return Reach(*FLOAT32["reach"](logits, parents))


FORMS = [*((chain_reach, dtype) for dtype in TOLERANCE), (kernel, torch.float32)]


def draw_logits(seed: int, rows: int, steps: int, scale: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Half of the rows all positive: there reach is near 1 and log q is the hard one."""
    z = (torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1) * scale
    z[: rows // 2] = z[: rows // 2].abs()
    return z.to(dtype)


def exact_reach(row: list[float], parents: tuple[int, ...]) -> list[tuple[mp.mpf, mp.mpf]]:
    """(log p, log q) per step: p and q as sums and products of probabilities, neither as 1 minus the other."""
    steps: list[tuple[mp.mpf, mp.mpf, mp.mpf]] = []
    for z, parent in zip(row, parents, strict=True):
        given, stop = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))
        p, q, log_p = steps[parent] if parent >= 0 else (mp.mpf(1), mp.mpf(0), mp.mpf(0))
        steps.append((p * given, q + p * stop, log_p - mp.log1p(mp.exp(-z))))
    return [(log_p, mp.log(q) if q < 0.5 else mp.log1p(-p)) for p, q, log_p in steps]


def assert_close_to_exact(reach: Reach, exact: list[list[tuple[mp.mpf, mp.mpf]]], tolerance: float) -> None:
    smallest = float(torch.finfo(reach.log_p.dtype).tiny)  # below it floats are denormal or 0 and have no such accuracy
    for i, row in enumerate(exact):
        for t, pair in enumerate(row):
            for name, log, expected in zip(Reach._fields, reach, pair, strict=True):
                error = abs(mp.mpf(log[i, t].item()) - expected)
                assert error <= tolerance * abs(expected) + smallest, (name, i, t, log[i, t].item(), expected)


@pytest.mark.parametrize(("head", "dtype"), FORMS)
@pytest.mark.parametrize("parents", CHAINS + TREES)
def test_chain_reach_is_accurate_at_every_size_of_logit(
    parents: tuple[int, ...], head: Head, dtype: torch.dtype
) -> None:
    z = torch.cat([draw_logits(n, 8, len(parents), scale, dtype) for n, scale in enumerate((1.0, 5.0, 60.0, 1e4))])
    with mp.workdps(DIGITS):
        exact = [exact_reach([mp.mpf(x) for x in row], parents) for row in z.tolist()]
        assert_close_to_exact(head(z, parents), exact, TOLERANCE[dtype])


@pytest.mark.parametrize(("head", "dtype"), FORMS)
def test_chain_reach_is_accurate_at_corners(head: Head, dtype: torch.dtype) -> None:
    corners = torch.tensor(list(itertools.product((-1e4, -60.0, 0.0, 60.0, 1e4), repeat=3)), dtype=dtype)
    with mp.workdps(DIGITS):
        exact = [exact_reach([mp.mpf(x) for x in row], (-1, 0, 1)) for row in corners.tolist()]
        assert_close_to_exact(head(corners, (-1, 0, 1)), exact, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_independent_reach_takes_each_step_alone(dtype: torch.dtype) -> None:
    z = torch.cat([draw_logits(n, 6, 3, scale, dtype) for n, scale in enumerate((1.0, 60.0, 1e4))])
    with mp.workdps(DIGITS):
        exact = [exact_reach([mp.mpf(x) for x in row], (-1, -1, -1)) for row in z.tolist()]
        assert_close_to_exact(independent_reach(z, (-1, 0, 1)), exact, TOLERANCE[dtype])
        if dtype == torch.float32:
            assert_close_to_exact(kernel(z, (-1, -1, -1)), exact, TOLERANCE[dtype])


def test_nan_stays_in_its_row() -> None:
    """By it a diverging run is noticed. Rows need not be contiguous."""
    z = draw_logits(0, 2, 6, 3.0, torch.float32).t()
    z[2, 0] = torch.nan
    reach, parents = kernel(z, (-1, 0)), (-1, 0)
    assert reach.log_p.isnan().all(1).tolist() == [False, False, True, False, False, False]
    for name, found, expected in zip(Reach._fields, reach, chain_reach(z, parents), strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True, msg=name)


def test_esmm_is_the_product_of_probabilities() -> None:
    """Tenrec multiplied logits."""
    z = draw_logits(0, 200, 2, 3.0, torch.float32)
    reach = chain_reach(z, (-1, 0))
    pctr, pcvr = (1 / (1 + np.exp(-column)) for column in z.double().numpy().T)
    # |log p| <= 6.2 here, so half an ulp of it is 2.4e-7 of p
    np.testing.assert_allclose(reach.log_p[:, 0].exp(), pctr, rtol=1e-6)
    np.testing.assert_allclose(reach.log_p[:, 1].exp(), pctr * pcvr, rtol=1e-6)
    np.testing.assert_allclose(reach.log_q[:, 1].exp(), 1 - pctr * pcvr, rtol=1e-6)


def derivatives(log: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (B, T) and Hessian (B, T, T) of log (B,) by z (B, T), row by row."""
    (gradient,) = torch.autograd.grad(log.sum(), z, create_graph=True)
    rows = [torch.autograd.grad(gradient[:, i].sum(), z, retain_graph=True)[0] for i in range(z.shape[1])]
    return gradient.detach(), torch.stack(rows, 1)


@pytest.mark.parametrize("parents", [(-1, 0, 1), (-1, 0, 0)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_derivatives_agree_with_differences(parents: tuple[int, ...], scale: float) -> None:
    z = draw_logits(1, 4, len(parents), scale).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(chain_reach(x, parents)), z)
    assert torch.autograd.gradgradcheck(lambda x: tuple(chain_reach(x, parents)), z)


@pytest.mark.parametrize("parents", [(-1, 0, 1), (-1, 0, 0)])
def test_derivatives_of_log_q_agree_with_high_precision(parents: tuple[int, ...]) -> None:
    z = draw_logits(2, 8, 3, 60.0).requires_grad_()
    gradient, hessian = derivatives(chain_reach(z, parents).log_q[:, 2], z)
    orders = torch.eye(3, dtype=torch.long)
    with mp.workdps(DIGITS):
        for n, row in enumerate(z.tolist()):
            for i in range(3):
                expected = slope(row, parents, orders[i])
                # derivatives are sums of products of probabilities; their arguments, to 60, are rounded by 60 · 2^-53
                assert gradient[n, i].item() == pytest.approx(expected, abs=1e-13)
                for j in range(3):
                    expected = slope(row, parents, orders[i] + orders[j])
                    assert hessian[n, i, j].item() == pytest.approx(expected, abs=1e-13)


def slope(row: list[float], parents: tuple[int, ...], orders: Tensor) -> float:
    """A partial derivative of the last step's log q by differences in high precision."""
    return float(mp.diff(lambda *z: exact_reach(list(z), parents)[-1][1], tuple(row), tuple(orders.tolist())))


@pytest.mark.parametrize("parents", [(-1, 0, 1), (-1, 0, 0)])
def test_float32_derivatives_are_finite_and_right_to_1e4(parents: tuple[int, ...]) -> None:
    values = (-1e4, -60.0, -1.0, 0.0, 1.0, 17.0, 60.0, 1e4)
    wide = torch.tensor(list(itertools.product(values, repeat=3)), dtype=torch.float64)
    for output, step in itertools.product((0, 1), range(3)):
        single, double = wide.float().requires_grad_(), wide.clone().requires_grad_()
        found = derivatives(chain_reach(single, parents)[output][:, step], single)
        expected = derivatives(chain_reach(double, parents)[output][:, step], double)
        # Parts of q are compared through the difference of their logs, rounded to half an ulp of the largest logit in a
        # row, a few times over; the derivative follows with a slope of at most 1/4.
        allowed = 2.0**-22 * wide.abs().amax(1).clamp(min=1)
        for mine, right in zip(found, expected, strict=True):
            assert mine.isfinite().all()
            error = (mine - right).abs().flatten(1).amax(1)
            assert (error <= allowed).all(), (output, step, wide[(error - allowed).argmax()])


def test_derivatives_where_both_parts_of_q_are_equal() -> None:
    """A maximum plus a softplus of an absolute difference has the second derivative 0 there."""
    a = torch.tensor([[-2.0, -2.0], [-1e4, -1e4]], dtype=torch.float64, requires_grad=True)
    gradient, hessian = derivatives(_logaddexp(a[:, 0], a[:, 1]), a)
    assert torch.equal(gradient, torch.full((2, 2), 0.5, dtype=torch.float64))
    assert torch.equal(hessian, torch.tensor([[0.25, -0.25], [-0.25, 0.25]], dtype=torch.float64).expand(2, 2, 2))


@st.composite
def forests(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[tuple[int, ...], Tensor]:
    steps = draw(st.integers(1, 6))
    parents = tuple(draw(st.integers(-1, t - 1)) for t in range(steps))
    rows = draw(st.lists(st.lists(values, min_size=steps, max_size=steps), min_size=1, max_size=9))
    return parents, torch.tensor(rows)


def assert_never_rises(log_p: Tensor, parents: tuple[int, ...]) -> None:
    for step, parent in enumerate(parents):
        if parent >= 0:
            assert (log_p[:, step] <= log_p[:, parent]).all()


@given(forests(st.floats(width=32, allow_nan=False)))
@settings(max_examples=80, deadline=None)
def test_reach_never_rises_along_an_edge(case: tuple[tuple[int, ...], Tensor]) -> None:
    parents, z = case
    reach = chain_reach(z, parents)
    assert (reach.log_p <= 0).all()
    assert_never_rises(reach.log_p, parents)


@given(forests(st.floats(width=32, allow_nan=False, allow_infinity=False)), st.floats(1e-6, 1))
@settings(max_examples=80, deadline=None)
def test_every_finite_logit_gives_logs_of_probabilities(case: tuple[tuple[int, ...], Tensor], keep: float) -> None:
    parents, z = case
    single = (-1, *(max(parent, 0) for parent in parents[1:]))
    for reach in (chain_reach(z, parents), undo_downsampling(chain_reach(z, single), single, keep)):
        assert (reach.log_p <= 0).all()
        assert (reach.log_q <= 0).all()
    assert_never_rises(reach.log_p, single)


Outcome = tuple[int, ...]
Joint = dict[Outcome, Fraction]


def random_joint(parents: tuple[int, ...], seed: int) -> Joint:
    """Exact probabilities of all outcomes a funnel allows, over six orders of size, dependent beyond the funnel."""
    rng = random.Random(seed)
    possible = itertools.product((0, 1), repeat=len(parents))
    legal = [y for y in possible if all(p < 0 or y[t] <= y[p] for t, p in enumerate(parents))]
    weights = [Fraction(rng.randint(1, 99) * 10 ** rng.randint(0, 6)) for _ in legal]
    return {y: weight / sum(weights) for y, weight in zip(legal, weights, strict=True)}


def thin(joint: Joint, keep: Fraction) -> Joint:
    """The joint among the rows that are left when those without the first step are kept with probability `keep`."""
    left = {y: p if y[0] else p * keep for y, p in joint.items()}
    return {y: p / sum(left.values()) for y, p in left.items()}


def marginal(joint: Joint, step: int) -> Fraction:
    return sum((p for y, p in joint.items() if y[step]), Fraction(0))


def logit(p: Fraction) -> float:
    return float(mp.log(mp.mpf(p.numerator) / (p.denominator - p.numerator)))


def perfect_reach(joint: Joint, parents: tuple[int, ...], head: Literal["chain", "independent"]) -> Reach:
    """(1, T) of the model that knows `joint`."""
    reach = [marginal(joint, step) for step in range(len(parents))]
    given = [p if parent < 0 else p / reach[parent] for p, parent in zip(reach, parents, strict=True)]
    logits = [logit(p) for p in {"chain": given, "independent": reach}[head]]
    return HEADS[head](torch.tensor([logits], dtype=torch.float64), parents)


def logs(p: Fraction) -> tuple[mp.mpf, mp.mpf]:
    return mp.log(mp.mpf(p.numerator) / p.denominator), mp.log(mp.mpf((1 - p).numerator) / (1 - p).denominator)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("parents", [(-1,), (-1, 0), (-1, 0, 0, 1)])
@pytest.mark.parametrize("keep", [Fraction(9, 10), Fraction(1, 4), Fraction(1, 5000)])
def test_undoing_downsampling_is_exact(
    head: Literal["chain", "independent"], parents: tuple[int, ...], keep: Fraction
) -> None:
    with mp.workdps(DIGITS):
        for seed in range(12):
            joint = random_joint(parents, seed)
            sampled = perfect_reach(thin(joint, keep), parents, head)
            exact = [logs(marginal(joint, step)) for step in range(len(parents))]
            # rounding a logit of 16 to float64 changes odds by 1.8e-15
            assert_close_to_exact(undo_downsampling(sampled, parents, float(keep)), [exact], 1e-13)


def test_undoing_downsampling_leaves_conditionals() -> None:
    before = chain_reach(draw_logits(3, 50, 4, 4.0), (-1, 0, 0, 1))
    after = undo_downsampling(before, (-1, 0, 0, 1), 0.01)
    for step, parent in ((1, 0), (2, 0), (3, 1)):
        given = [reach.log_p[:, step] - reach.log_p[:, parent] for reach in (before, after)]
        torch.testing.assert_close(given[0], given[1], rtol=0, atol=1e-13)  # differences of numbers below 30


@pytest.mark.parametrize("keep", [0.5, 1e-3])
def test_undoing_downsampling_keeps_the_accuracy(keep: float) -> None:
    """Rare steps too, where log q is tiny and log p large: log p rounded would lose 60 ulps of p."""
    z = torch.cat([draw_logits(n, 100, 3, scale, torch.float32) for n, scale in enumerate((3.0, 60.0, 1e4))])
    single = undo_downsampling(chain_reach(z, (-1, 0, 1)), (-1, 0, 1), keep)
    double = undo_downsampling(chain_reach(z.double(), (-1, 0, 1)), (-1, 0, 1), keep)
    for mine, right in zip(single, double, strict=True):
        # The chain's 1e-6 once more; below the smallest normal number only denormals are left.
        torch.testing.assert_close(mine.double(), right, rtol=2e-6, atol=1.2e-38)


def test_keeping_all_rows_changes_nothing() -> None:
    reach = chain_reach(draw_logits(4, 5, 2, 3.0), (-1, 0))
    assert undo_downsampling(reach, (-1, 0), 1.0) is reach


@pytest.mark.parametrize(("keep", "parents", "message"), [
    (0.0, (-1, 0), "keep is 0.0"),
    (1.5, (-1, 0), "keep is 1.5"),
    (0.5, (-1, -1), "2 first steps"),
])  # fmt: skip
def test_what_cannot_be_undone_is_refused(keep: float, parents: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        undo_downsampling(chain_reach(torch.zeros(1, 2), parents), parents, keep)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits = self.linear(x)
        chain, independent = (head(logits, (-1, 0, 0)) for head in HEADS.values())
        return (*chain, *independent, *undo_downsampling(chain, (-1, 0, 0), 0.1))


@pytest.mark.slow
def test_heads_can_be_exported() -> None:
    model = Tiny()
    rows = {"x": {0: torch.export.Dim("rows", min=1)}}
    exported = torch.export.export(model, (torch.randn(5, 4),), dynamic_shapes=rows)
    x = torch.randn(9, 4) * 30
    for mine, right in zip(exported.module()(x), model(x), strict=True):
        assert torch.equal(mine, right)
