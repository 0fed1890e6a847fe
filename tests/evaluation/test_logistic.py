"""The peak of a posterior, against a grid and against its own slope."""

import numpy as np
import pytest

from funnelcast.evaluation.logistic import posterior_mode, sigmoid, softplus
from funnelcast.evaluation.rows import Floats


def drawn(rows: int, numbers: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    design, base = rng.normal(size=(rows, numbers)), rng.normal(-1, 1, rows)
    return design, base, (rng.random(rows) < sigmoid(base + design @ np.ones(numbers))).astype(np.float64)


def test_one_number_is_where_a_fine_grid_has_its_peak() -> None:
    design, base, labels = drawn(30, 1)

    def density(u: Floats) -> Floats:
        logits = base[:, None] + design * u
        return np.asarray(labels @ logits - softplus(logits).sum(0) - u**2 / 2)

    grid = np.linspace(-3, 3, 60_001)
    mode = posterior_mode(design, base, labels)
    assert mode.at[0] == pytest.approx(grid[density(grid).argmax()], abs=2e-4)
    below, at, above = density(mode.at + np.array([-0.01, 0, 0.01]))
    assert mode.curvature[0, 0] == pytest.approx((2 * at - below - above) / 1e-4, rel=1e-3)


def test_the_slope_is_0_at_the_peak_of_several_numbers() -> None:
    design, base, labels = drawn(200, 4)
    mode = posterior_mode(design, base, labels)
    slope = mode.at - design.T @ (labels - sigmoid(base + design @ mode.at))
    assert np.abs(slope).max() < 1e-5 and np.abs(mode.at).min() > 0.1


def test_without_rows_it_is_the_prior() -> None:
    mode = posterior_mode(np.empty((0, 3)), np.empty(0), np.empty(0))
    assert not mode.at.any() and np.array_equal(mode.curvature, np.eye(3))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_rows_that_are_parted_perfectly_have_a_peak_all_the_same(scale: float) -> None:
    design = scale * np.array([[-1.0], [-0.5], [0.5], [1.0]])
    mode = posterior_mode(design, np.full(4, -5.0), np.array([0.0, 0, 1, 1]))
    p = sigmoid(-5 + design @ mode.at)
    assert mode.at[0] == pytest.approx(float(design[:, 0] @ (np.array([0, 0, 1, 1]) - p)), rel=1e-3, abs=1e-4)


def test_no_overflow() -> None:
    assert sigmoid(np.array([-800.0, 0, 800])).tolist() == [0, 0.5, 1]
    assert softplus(np.array([-800.0, 800])).tolist() == [0, 800]
