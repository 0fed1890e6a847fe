"""Newton's method ends where scikit-learn does."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from funnelcast.experiments.baselines.logistic import BLOCK, fit_logistic


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("l2", [1.0, 30.0])
def test_it_is_scikit_learns_to_a_millionth(is_weighted: bool, l2: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BLOCK + 500, 6)) * [1, 2, 0.5, 1, 1, 1]
    x[:, 5] = x[:, 4] + 0.01 * x[:, 5]  # nearly the same column
    y = rng.random(len(x)) < 1 / (1 + np.exp(3 - x @ [0.5, -1, 2, 0, 0.3, 0.3]))
    weights = rng.integers(0, 4, len(x)).astype(np.float32) if is_weighted else None
    found = fit_logistic(x, y, weights, l2)
    theirs = LogisticRegression(C=1 / l2, tol=1e-12, solver="newton-cholesky", max_iter=1000).fit(x, y, weights)
    np.testing.assert_allclose(found.coefficients, theirs.coef_[0], atol=1e-6)
    assert found.intercept == pytest.approx(theirs.intercept_[0], abs=1e-6)
    np.testing.assert_allclose(found(x[:50]), theirs.decision_function(x[:50]), atol=1e-5)


def test_rows_that_a_column_parts_without_a_fault_have_finite_coefficients() -> None:
    x = np.linspace(-1, 1, 200)[:, None]
    found = fit_logistic(x, x[:, 0] > 0, l2=1.0)
    theirs = LogisticRegression(tol=1e-12, solver="newton-cholesky").fit(x, x[:, 0] > 0)
    assert found.coefficients[0] == pytest.approx(theirs.coef_[0, 0], abs=1e-6) and found.coefficients[0] < 50
