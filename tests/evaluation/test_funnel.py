"""Every output over its own rows, and conditionals from reach."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.evaluation.funnel import CONDITIONAL_LOG_Q_FLOOR, conditional, measure_funnel
from funnelcast.evaluation.metrics import measure
from funnelcast.schema.funnel import Funnel

Array = NDArray[Any]
TREE = Funnel.parse("click; cart after click; like after click; buy after cart")
CHAIN = Funnel.parse("click; conversion after click")


def draw(funnel: Funnel, n: int = 600) -> tuple[Array, Array, Array]:
    """Labels with some unobserved, and reach (p of having, q of not having) that never rises along an edge."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.3, 0.9, (n, len(funnel.names)))
    labels = (rng.uniform(size=p.shape) < p).astype(np.uint8)
    for step, parent in enumerate(funnel.parents):
        if parent >= 0:
            p[:, step] *= p[:, parent]
            labels[:, step] *= labels[:, parent]
    labels[rng.uniform(size=labels.shape) < 0.1] = 255
    return labels, np.log(p), np.log1p(-p)


def test_outputs_are_named_by_the_funnel() -> None:
    got = measure_funnel(TREE, *draw(TREE))
    conditionals = ["cart_given_click", "like_given_click", "buy_given_cart"]
    assert list(got.outputs) == ["click", "cart", "like", "buy", *conditionals]
    assert got.cut == dict.fromkeys(conditionals, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_output_has_exactly_its_rows(weighted: bool) -> None:
    labels, log_p, log_q = draw(TREE)
    w = np.random.default_rng(2).uniform(0.5, 2, len(labels)) if weighted else None
    got = measure_funnel(TREE, labels, log_p, log_q, w).outputs
    for t, name in enumerate(TREE.names):
        rows = [i for i in range(len(labels)) if labels[i, t] in (0, 1)]
        alone = measure(labels[rows, t], log_p[rows, t], log_q[rows, t], None if w is None else w[rows])
        assert got[name] == alone
    for t, parent, name in ((1, 0, "cart_given_click"), (2, 0, "like_given_click"), (3, 1, "buy_given_cart")):
        rows = [i for i in range(len(labels)) if labels[i, parent] == 1 and labels[i, t] in (0, 1)]
        ratio = np.exp(log_p[rows, t]) / np.exp(log_p[rows, parent])
        alone = measure(labels[rows, t], np.log(ratio), np.log(1 - ratio), None if w is None else w[rows])
        assert (got[name].rows, got[name].positives) == (len(rows), int((labels[rows, t] == 1).sum()))
        assert got[name].log_loss == pytest.approx(alone.log_loss, abs=1e-10)
        assert got[name].auc.estimate == pytest.approx(alone.auc.estimate, abs=1e-10)
        assert got[name].observed_over_predicted == pytest.approx(alone.observed_over_predicted, abs=1e-10)


def test_by_hand() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 0], [1, 255], [255, 1], [0, 255]], np.uint8)
    p = np.array([[0.5, 0.25]] * 6)
    got = measure_funnel(CHAIN, labels, np.log(p), np.log1p(-p)).outputs
    assert {name: (m.rows, m.positives) for name, m in got.items()} == {
        "click": (5, 3),
        "conversion": (4, 2),
        "conversion_given_click": (2, 1),
    }
    assert got["conversion_given_click"].log_loss == pytest.approx(math.log(2))
    assert got["conversion"].log_loss == pytest.approx(-math.log(0.25 * 0.75) / 2)


def test_cut_rows_are_counted_within_the_sample_space_and_finite() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 255]], np.uint8)
    p = np.array([[0.2, 0.4], [0.2, 0.1], [0.2, 0.2], [0.2, 0.4], [0.2, 0.4]])
    got = measure_funnel(CHAIN, labels, np.log(p), np.log1p(-p))
    assert got.cut == {"conversion_given_click": 1}
    expected = -(2 * math.log(1e-7) + math.log(0.5)) / 3
    assert got.outputs["conversion_given_click"].log_loss == pytest.approx(expected)
    certain = np.array([[0.0, 0.0]] * 5)
    entire = measure_funnel(CHAIN, labels, certain, np.full((5, 2), -50.0)).outputs["conversion"]
    assert entire.log_loss == pytest.approx(50 * 3 / 4)


def test_an_empty_sample_space_is_legal() -> None:
    labels = np.zeros((3, 2), np.uint8)
    got = measure_funnel(CHAIN, labels, np.full((3, 2), -1.0), np.full((3, 2), -0.5)).outputs
    assert got["conversion_given_click"].rows == 0 and got["conversion_given_click"].auc.note == "no rows"
    assert got["click"].auc.note == "undefined: one class only"
    empty = measure_funnel(CHAIN, labels[:0], np.zeros((0, 2)), np.zeros((0, 2))).outputs
    assert all(m.auc.note == "no rows" for m in empty.values())


def test_shapes_must_agree() -> None:
    labels, log_p, log_q = draw(CHAIN)
    with pytest.raises(ValueError, match=r"must be \(600, 4\)"):
        measure_funnel(TREE, labels, log_p, log_q)
    with pytest.raises(ValueError, match=r"must be \(600, 2\)"):
        measure_funnel(CHAIN, labels, log_p, log_q[:, :1])


def test_conditional_of_float32_is_float64() -> None:
    log_p, log_q, cut = conditional(np.array([-1e4, -3], np.float32), np.array([-1, -9], np.float32))
    assert log_p.dtype == log_q.dtype == np.float64
    assert log_p.tolist() == [-9999, 0] and cut.tolist() == [False, True]
    assert log_q.tolist() == [0, CONDITIONAL_LOG_Q_FLOOR]


@pytest.mark.slow
@pytest.mark.parametrize("x", [-40.0, -8.0, -1.0, -0.7, -math.log(2), -0.69, -0.1, -1e-3, -1e-5, -1.5e-7])
def test_log_q_to_full_accuracy(x: float) -> None:
    terms, exact = Fraction(1), Fraction(0)
    for k in range(1, 400):
        terms *= Fraction(abs(x)) / k
        exact += terms
    expected = (
        math.log(exact) - abs(x) if abs(x) < 1 else -float(sum(Fraction(math.exp(k * x)) / k for k in range(1, 99)))
    )
    _, log_q, _ = conditional(np.array([x]), np.array([0.0]))
    assert log_q[0] == pytest.approx(expected, rel=1e-13)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_conditional_is_a_probability(child: float, parent: float) -> None:
    log_p, log_q, cut = conditional(np.array([child]), np.array([parent]))
    assert log_p[0] == min(0.0, child - parent) and cut[0] == (child > parent)
    assert CONDITIONAL_LOG_Q_FLOOR <= log_q[0] <= 0
    assert math.exp(log_p[0]) + math.exp(log_q[0]) == pytest.approx(1, abs=1.1e-7)
