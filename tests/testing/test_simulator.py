"""The simulator is what it says: its rates, and the share that an additive model cannot see."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import lsqr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from funnelcast.testing.simulator import FIELDS, RATE, VALUES, Simulator


def logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(p / (1 - p))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [False, True])
def test_rates_and_shapes(seed: int, noise: bool) -> None:
    drawn = Simulator(seed, noise=noise).sample(40_000)
    assert drawn.ids.shape == (40_000, FIELDS) and set(np.unique(drawn.ids)) == set(range(1, VALUES + 1))
    click, conversion = drawn.labels.T == 1
    assert not np.any(conversion & ~click)
    for p, y in ((drawn.p_click, click), (drawn.p_conversion_given_click[click], conversion[click])):
        assert abs(y.mean() - p.mean()) < 4 * (0.25 / len(y)) ** 0.5  # labels are drawn from the stated probabilities
        assert noise == (p.std() < 1e-9)
    assert drawn.p_click.mean() == pytest.approx(RATE, abs=0.01)
    assert drawn.p_conversion_given_click.mean() == pytest.approx(RATE, abs=0.01)


def test_the_same_seed_is_the_same_process_and_parts_are_independent() -> None:
    a, b = Simulator(1), Simulator(1)
    first, second, other = a.sample(100), b.sample(100), a.sample(100, part=1)
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.labels, second.labels)
    assert not np.array_equal(first.ids, other.ids)
    assert not np.allclose(first.p_click, Simulator(2).sample(100).p_click)


@pytest.mark.parametrize("step", ["p_click", "p_conversion_given_click"])
def test_half_of_the_logits_variance_is_additive(step: str) -> None:
    """By least squares on one-hot fields; the rest lies in products of pairs that no single field tells of."""
    drawn = Simulator(0).sample(10_000)
    z = logit(getattr(drawn, step))
    x = OneHotEncoder().fit_transform(drawn.ids)
    rest = z - x @ lsqr(x, z)[0]
    assert z.std() == pytest.approx(1.3, rel=0.05)
    assert rest.var() / z.var() == pytest.approx(0.5, abs=0.05)


def test_an_additive_model_stays_far_from_the_truth() -> None:
    """Lift is AUC - 0.5 over that of the true probabilities. Logistic regression of 30,000 rows reaches about 80 % of
    it; with any number of rows it would still be under 90 %, for it fits the additive half almost exactly here."""
    simulator = Simulator(0)
    fit, test = simulator.sample(30_000), simulator.sample(30_000, part=1)
    encoder = OneHotEncoder().fit(fit.ids)
    model = LogisticRegression(C=10, max_iter=300).fit(encoder.transform(fit.ids), fit.labels[:, 0])
    found = roc_auc_score(test.labels[:, 0], model.predict_proba(encoder.transform(test.ids))[:, 1])
    true = roc_auc_score(test.labels[:, 0], test.p_click)
    share = (found - 0.5) / (true - 0.5)
    assert 0.6 < share < 0.9
    assert true > 0.7


def test_its_table_tells_the_truth_beside(tmp_path: Path) -> None:
    table = Simulator(0).write_table(tmp_path / "simulator", train=50, dev=30, test=20)
    assert [table.rows(part) for part in ("train", "dev", "test")] == [50, 30, 20]
    for part, name in enumerate(("train", "dev", "test")):
        drawn, columns = Simulator(0).sample(table.rows(name), part), table.part(name)
        assert np.array_equal(columns.ids, drawn.ids) and np.array_equal(columns.labels, drawn.labels)  # type: ignore[arg-type]
        assert table.side(name).column_names == ["true_p_click", "true_p_conversion_given_click"]
        assert np.array_equal(table.side(name)["true_p_click"], drawn.p_click)
