"""Paired differences of probabilities, against numpy and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from funnelcast.evaluation.probability_difference import ProbabilityDifference

NOTHING = {"difference": None, "standard_error": None, "largest": None, "logit_difference": None}


def drawn(groups: int, seed: int = 0, scatter: float = 0.3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits that differ by something of the group and something of the row."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(groups):
        logits = rng.normal(-2, 2, int(rng.integers(1, 40)))
        moved = logits + rng.normal(0.1, 0.2) + rng.normal(0, scatter, len(logits))
        found.append((1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-moved))))
    return found


def measured(groups: list[tuple[np.ndarray, np.ndarray]]) -> ProbabilityDifference:
    made = ProbabilityDifference()
    for first, second in groups:
        made.add(first, second)
    return made


def test_figures_are_those_of_all_rows_at_once() -> None:
    groups = drawn(300)
    found = measured(groups).figures("a", "b")
    a, b = (np.concatenate(each) for each in zip(*groups, strict=True))
    assert found["rows"] == len(a) and found["largest"] == np.abs(b - a).max()
    assert found["a_mean"] == pytest.approx(a.mean()) and found["b_mean"] == pytest.approx(b.mean())
    assert found["difference"] == pytest.approx((b - a).mean(), abs=1e-12)
    logits = np.log(b / (1 - b)) - np.log(a / (1 - a))
    for name, value in found["logit_difference"].items():
        exact = np.quantile(logits, int(name[1:]) / 100, method="inverted_cdf")
        assert value == pytest.approx(exact, rel=0.0101)


def test_the_standard_error_is_that_of_means_over_drawn_groups() -> None:
    """Against the standard deviation of the mean over 400 draws of 100 groups: rows of a group are not independent."""
    draws = [measured(drawn(100, seed, scatter=0.01)).figures("a", "b") for seed in range(400)]
    deviation = float(np.std([each["difference"] for each in draws], ddof=1))
    error = float(np.mean([each["standard_error"] for each in draws]))
    assert error == pytest.approx(deviation, rel=0.12)  # it is known to 1 / sqrt(800) = 3.5 %


def test_sums_of_parts_add_up_by_json() -> None:
    groups, total = drawn(20), ProbabilityDifference()
    for part in (groups[:7], groups[7:]):
        total.merge(ProbabilityDifference.from_dict(json.loads(json.dumps(measured(part).as_dict()))))
    whole = measured(groups)
    assert total.bins == whole.bins and total.rows == whole.rows and total.largest == whole.largest
    assert total.figures("a", "b")["standard_error"] == pytest.approx(whole.figures("a", "b")["standard_error"])


def test_few_rows_and_extreme_probabilities() -> None:
    assert ProbabilityDifference().figures("a", "b") == {"rows": 0, "a_mean": None, "b_mean": None, **NOTHING}
    one = measured([(np.array([0.5, 0.5]), np.array([0.5, 0.75]))]).figures("a", "b")
    assert one["standard_error"] is None and one["difference"] == 0.125 and one["largest"] == 0.25
    assert one["logit_difference"]["p50"] == 0 and one["logit_difference"]["p99"] == pytest.approx(
        math.log(3), rel=0.01
    )
    ends = measured([(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))] * 2).figures("a", "b")
    assert ends["largest"] == 1 and ends["logit_difference"]["p1"] == pytest.approx(
        -math.log(1e38) - math.log(2**53), rel=0.01
    )
    same = measured([(np.array([0.2]), np.array([0.2]))] * 3).figures("a", "b")
    assert same["difference"] == same["standard_error"] == 0 and set(same["logit_difference"].values()) == {0.0}
