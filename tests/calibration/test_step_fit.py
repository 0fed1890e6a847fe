"""Choosing maps: what is right stays as it is, what is wrong is found again, and nothing is fitted to noise."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from funnelcast.calibration.step_fit import (
    LEAST,
    PRIOR_STD,
    PSEUDO,
    StepRows,
    affine,
    fit_offsets,
    fit_step,
    isotonic,
    posterior_offsets,
)
from funnelcast.calibration.step_map import StepMap
from funnelcast.evaluation.group_priors import OffsetPrior


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def drawn(rows: int, true: object, seed: int = 0) -> StepRows:
    """Rows whose log odds are `true` of what the model says."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1.5, 1.2, rows)
    return StepRows(x, (rng.random(rows) < sigmoid(true(x))).astype(float), np.ones(rows))  # type: ignore[operator]


def at(found: StepMap, x: object) -> np.ndarray:
    return found(torch.as_tensor(x, dtype=torch.float64)).numpy()


def test_a_model_that_is_right_is_mostly_left_alone() -> None:
    kinds = [fit_step(drawn(4000, lambda x: x, seed), 0).kind for seed in range(20)]
    assert kinds.count("none") >= 18 and "isotonic" not in kinds


def test_rows_of_one_key_are_no_proof_of_each_other() -> None:
    """Each row stands there eight times: what chance did to it, a fold by rows would take for a law."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for seed in range(12):
        one = drawn(500, lambda x: x, seed)
        keys = np.repeat(np.arange(500), 8)
        for known in kinds:
            x, y, w = (np.repeat(each, 8) for each in (one.x, one.y, one.w))
            rows = StepRows(x, y, w, keys if known else None)
            assert all(len(np.unique(rows.folds(0)[keys == key])) == 1 for key in range(9)) is known
            kinds[known].append(fit_step(rows, 0).kind)
    assert kinds[True].count("none") >= 10 > 6 > kinds[False].count("none")


def test_a_slope_and_a_shift_are_found_again() -> None:
    found = fit_step(drawn(40_000, lambda x: 0.6 * x + 0.5), 0)
    assert found.kind == "affine" and found.gain > 5 * found.error
    assert found.below == pytest.approx(0.6, abs=0.03) and at(found, [0.0]) == pytest.approx(0.5, abs=0.06)


def test_a_bend_is_found_again() -> None:
    def true(x: np.ndarray) -> np.ndarray:
        return np.where(x < -1.5, x - 1.5 * np.tanh(-1.5 - x), x + 1)

    found, x = fit_step(drawn(80_000, true), 0), np.linspace(-3, 0.5, 50)
    assert found.kind == "isotonic" and np.abs(at(found, x) - true(x)).mean() < 0.15


def test_affine_is_where_its_posterior_is_highest() -> None:
    rows = drawn(300, lambda x: 1.5 * x - 0.4)
    rows = StepRows(rows.x, rows.y, np.random.default_rng(5).uniform(0.2, 2, 300))
    center = np.average(rows.x, weights=rows.w)

    def surprise(u: np.ndarray) -> float:
        z = rows.x + u[0] * (rows.x - center) + u[1]
        loss = np.log1p(np.exp(-np.where(rows.y == 1, z, -z)))
        return float(rows.w @ loss + (u[0] / PRIOR_STD[0]) ** 2 / 2 + (u[1] / PRIOR_STD[1]) ** 2 / 2)

    slope, shift = minimize(surprise, np.zeros(2), tol=1e-10).x
    found = affine(rows)
    assert found.below == pytest.approx(1 + slope, abs=1e-4) == found.above
    assert found.y[0] - found.x[0] == pytest.approx(shift, abs=1e-4)


def test_isotonic_is_the_regression_of_its_bins() -> None:
    """With as few bins as rows of one value there are, so that these are known."""
    rng = np.random.default_rng(3)
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    x = np.repeat(values, 400)
    y = (rng.random(len(x)) < np.repeat([0.1, 0.3, 0.25, 0.5, 0.9], 400)).astype(float)
    w = rng.uniform(0.5, 1.5, len(x))
    found = isotonic(StepRows(x, y, w))
    mass = np.array([w[x == v].sum() for v in values])
    rates = np.array([(w[x == v] @ y[x == v] + PSEUDO * sigmoid(v)) for v in values]) / (mass + PSEUDO)
    own = IsotonicRegression().fit(values, rates, sample_weight=mass + PSEUDO).predict(values)
    levels = np.unique(own)
    assert len(levels) == 4  # the second and the third are one block
    np.testing.assert_allclose(sigmoid(np.array(found.y)), levels, rtol=1e-9)
    merged = np.average(sigmoid(values[1:3]), weights=mass[1:3])
    np.testing.assert_allclose(sigmoid(np.array(found.x)), [*sigmoid(values[:1]), merged, *sigmoid(values[3:])])


def test_rates_of_0_and_1_have_finite_log_odds() -> None:
    x = np.linspace(-3, 3, 400)
    found = isotonic(StepRows(x, (x > 0).astype(float), np.ones(400)))
    assert np.isfinite([*found.x, *found.y]).all() and (np.diff(found.y) > 0).all() and (np.diff(found.x) > 0).all()


@pytest.mark.parametrize("positives", [0, LEAST - 1])
def test_few_rows_of_a_class_change_nothing(positives: int) -> None:
    x, y = np.zeros(500), np.zeros(500)
    y[:positives] = 1
    rows = StepRows(x - 9, y, np.ones(500))
    assert fit_step(rows, 0).kind == "none" == fit_step(StepRows(x + 9, 1 - y, np.ones(500)), 0).kind
    assert fit_offsets(rows, np.arange(500) % 5, 0) is None


def test_log_odds_of_one_value_are_mapped_too() -> None:
    found = fit_step(StepRows(np.full(2000, -3.0), (np.arange(2000) % 4 == 0).astype(float), np.ones(2000)), 0)
    assert sigmoid(at(found, [-3.0])) == pytest.approx(0.25, abs=0.01)


def test_offsets_are_shrunken_and_taken_where_groups_differ() -> None:
    rng = np.random.default_rng(0)
    groups, own = np.repeat(np.arange(40), 300), rng.normal(0, 0.8, 40)
    x = rng.normal(-1, 1, len(groups))
    y = (rng.random(len(x)) < sigmoid(x + own[groups])).astype(float)
    found = fit_offsets(StepRows(x, y, np.ones(len(x))), groups, 0)
    assert found is not None and np.corrcoef(found.values, own)[0, 1] > 0.95
    assert found.of(np.array([3, 99, -1])).tolist() == [found.values[3], found.others, found.others]
    alike = (rng.random(len(x)) < sigmoid(x)).astype(float)
    assert fit_offsets(StepRows(x, alike, np.ones(len(x))), groups, 0) is None


def test_an_offset_is_where_its_posterior_is_highest() -> None:
    rng, prior = np.random.default_rng(1), OffsetPrior(0.2, 0.7)
    x, w = rng.normal(-1, 1, 90), rng.uniform(0.5, 2, 90)
    y, groups = (rng.random(90) < 0.4).astype(float), rng.integers(0, 3, 90) * 5
    found = posterior_offsets(StepRows(x, y, w), groups, prior)
    for name, value in zip(found.groups, found.values, strict=True):
        mine = groups == name
        grid = np.linspace(-3, 3, 60_001)
        z = x[mine][:, None] + grid
        surprise = w[mine] @ (np.logaddexp(0, z) - y[mine][:, None] * z) + (grid - 0.2) ** 2 / (2 * 0.7**2)
        assert value == pytest.approx(grid[surprise.argmin()], abs=2e-4)
