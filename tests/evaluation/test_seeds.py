"""Differences over seeds, and over rows and seeds, against variances from all pairs and from loops."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t, ttest_rel

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import auc, auc_difference
from funnelcast.evaluation.seeds import BLOCKS, Part, freedom_of, over_seeds, rows_and_seeds, rows_part, seeds_part
from funnelcast.evaluation.standard_errors import quantile

Array = NDArray[Any]
NAN = math.nan


def kernel(y: Array, s: Array) -> Array:
    """(m, n) 1 where the positive outscores the negative, half where they tie."""
    wins = s[y == 1][:, None] > s[y == 0][None, :]
    losses: Array = s[y == 1][:, None] < s[y == 0][None, :]
    result: Array = 0.5 + 0.5 * wins - 0.5 * losses
    return result


def draw(seed: int, m: int, n: int, seeds: tuple[int, int] = (4, 3), noise: float = 0.5) -> tuple[Array, Array, Array]:
    """Labels, and scores of two models whose seeds differ in sharpness and row by row."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([1, 0], [m, n]).astype(np.uint8))
    common = rng.normal(size=m + n)
    a, b = (
        (common + rng.normal(size=m + n) * 0.4 + shift * y) * rng.normal(1, 0.2, (count, 1))
        + rng.normal(size=(count, m + n)) * noise
        for count, shift in zip(seeds, (1.0, 1.2), strict=True)
    )
    return y, a, b


def slow_parts(y: Array, a: Array, b: Array) -> list[tuple[float, float]]:
    """(variance, freedom) of seeds of a, seeds of b, positives, negatives: the two-way table by loops."""
    kernels = [[kernel(y, s) for s in scores] for scores in (a, b)]
    several = [[float(k.mean()) for k in model] for model in kernels if len(model) > 1]
    parts = [(float(np.var(aucs, ddof=1)) / len(aucs), len(aucs) - 1.0) for aucs in several]
    for axis in (1, 0):
        tables = [np.array([k.mean(axis) for k in model]) for model in kernels]
        rows = tables[0].shape[1]
        main = np.mean(tables[0], 0) - np.mean(tables[1], 0)
        whole, crossed = sum((value - main.mean()) ** 2 for value in main) / (rows - 1) / rows, 0.0
        for table in tables:
            for s in range(len(table) if len(table) > 1 else 0):
                for k in range(rows):
                    residual = table[s, k] - table[s].mean() - table[:, k].mean() + table.mean()
                    crossed += residual**2 / (rows - 1) / (len(table) - 1) / rows / len(table)
        parts.append((max(0.0, whole - crossed), (rows - 1) * max(0.0, 1 - crossed / whole) ** 2))
    return parts


def slow_freedom(seeds: list[tuple[float, float]], rows: list[tuple[float, float]]) -> float:
    counted = [(v, f) for v, f in rows if v]
    if seeds:
        f = sum(v for v, _ in seeds) ** 2 / sum(v**2 / (f + 1) for v, f in seeds) - 1
        counted.append((sum(v for v, _ in seeds) * (1 + 3 / f), f))
    return sum(v for v, _ in counted) ** 2 / sum(v**2 / f for v, f in counted)


def test_over_seeds_is_the_paired_t_test() -> None:
    a, b = np.random.default_rng(0).normal(0.7, 0.01, (2, 5))
    found, slow = over_seeds(a, b, 0.9), ttest_rel(a, b).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high))
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.std_error == pytest.approx(np.std(a - b, ddof=1) / 5**0.5) and found.note == ""


def test_two_seeds_by_hand() -> None:
    """Differences 1 and 3: mean 2, error 1, and 12.706 the quantile with one degree of freedom."""
    assert over_seeds(np.array([1.0, 3]), np.zeros(2))[:4] == pytest.approx((2, 2 - 12.7062, 2 + 12.7062, 1), rel=1e-5)


@pytest.mark.parametrize(
    ("a", "estimate", "note"),
    [
        ([], NAN, "under 2 seeds: no interval"),
        ([0.7], 0.2, "under 2 seeds: no interval"),
        ([NAN, NAN], NAN, "2 of 2 seeds undefined, under 2 seeds: no interval"),
        ([NAN, 0.7], 0.2, "1 of 2 seeds undefined, under 2 seeds: no interval"),
    ],
)
def test_no_interval_over_seeds(a: list[float], estimate: float, note: str) -> None:
    found = over_seeds(np.array(a), np.full(len(a), 0.5))
    assert found.estimate == pytest.approx(estimate, nan_ok=True)
    assert all(map(math.isnan, found[1:4])) and found.note == note


def test_undefined_seeds_are_left_out_and_counted() -> None:
    a, b = np.array([0.7, NAN, 0.8, 0.75]), np.array([0.6, 0.6, 0.65, NAN])
    found = over_seeds(a, b)
    assert found[:4] == over_seeds(a[[0, 2]], b[[0, 2]])[:4] and found.note == "2 of 4 seeds undefined"


def test_seeds_without_spread_say_so() -> None:
    found = over_seeds(np.full(3, 0.75), np.full(3, 0.5))
    assert found == (0.25, 0.25, 0.25, 0, "no spread: all seeds differ alike")


def test_seeds_of_other_numbers_are_refused() -> None:
    for a, b in ((np.ones(3), np.ones(2)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ComparisonError, match="are no pairs of seeds"):
            over_seeds(a, b)


@pytest.mark.parametrize("seeds", [(4, 3), (1, 3), (2, 1), (1, 1)])
@pytest.mark.parametrize("decimals", [1, 9])
def test_rows_and_seeds_equals_the_two_way_table(seeds: tuple[int, int], decimals: int) -> None:
    y, a, b = draw(1, 25, 70, seeds)
    a, b = a.round(decimals), b.round(decimals)
    parts = slow_parts(y, a, b)
    found = rows_and_seeds(y, a, b, replicates=20_000)
    aucs = [np.mean([auc(y, s) for s in scores]) for scores in (a, b)]
    assert found.estimate == pytest.approx(aucs[0] - aucs[1])
    assert found.std_error == pytest.approx(sum(variance for variance, _ in parts) ** 0.5, rel=0.02)
    freedom = slow_freedom(parts[:-2], parts[-2:])
    assert (found.high - found.estimate) / found.std_error == pytest.approx(t.ppf(0.975, freedom), rel=1e-6)
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)


def test_one_seed_of_either_is_delongs_difference() -> None:
    y, a, b = draw(2, 40, 90, (1, 1))
    found, slow = rows_and_seeds(y, a, b, replicates=20_000), auc_difference(y, a[0], b[0])
    assert found.estimate == pytest.approx(slow.estimate)
    assert found.std_error == pytest.approx(slow.std_error, rel=0.02)
    assert (found.high - found.estimate) / found.std_error == pytest.approx(
        (slow.high - slow.estimate) / slow.std_error, rel=1e-6
    )
    assert found.note == "one seed of a and b: what seeds add is not in the interval"
    assert rows_and_seeds(y, np.repeat(a, 2, 0), b).note.startswith("one seed of b:")


@pytest.mark.parametrize("repeats", [1, 3])
def test_weights_and_blocks_keep_delongs_variance(repeats: int) -> None:
    """Of 2,400 and 900 rows, some of which weigh nothing; sorted by what they tell; blocks of one or two positives."""
    y, a, b = draw(3, BLOCKS + 400, 900, (1, 1))
    order = np.argsort(a[0] - b[0])
    y, a, b = y[order], a[:, order], b[:, order]
    w = np.random.default_rng(4).integers(0, 4, len(y)).astype(np.float32)
    found, slow = rows_and_seeds(y, np.repeat(a, repeats, 0), b, w), auc_difference(y, a[0], b[0], w)
    assert found.estimate == pytest.approx(slow.estimate)
    assert found.std_error == pytest.approx(slow.std_error, rel=0.06)


def test_weights_are_repeated_rows() -> None:
    y, a, b = draw(5, 60, 150)
    w = np.random.default_rng(6).integers(1, 3, len(y))
    twice = np.repeat(np.arange(len(y)), w)
    weighted, repeated = rows_and_seeds(y, a, b, w.astype(float)), rows_and_seeds(y[twice], a[:, twice], b[:, twice])
    assert weighted.estimate == pytest.approx(repeated.estimate, abs=1e-12)
    assert rows_and_seeds(y, a, b, np.full(len(y), 0.2)) == pytest.approx(rows_and_seeds(y, a, b))


def test_the_bootstrap_has_its_seed() -> None:
    y, a, b = draw(7, 30, 60)
    assert rows_and_seeds(y, a, b, seed=1) == rows_and_seeds(y, a, b, seed=1)
    assert rows_and_seeds(y, a, b, seed=1) != rows_and_seeds(y, a, b, seed=2)


def test_the_other_way_round_is_the_mirror() -> None:
    y, a, b = draw(8, 30, 60)
    found, back = rows_and_seeds(y, a, b, replicates=20_000), rows_and_seeds(y, b, a, replicates=20_000)
    assert (back.estimate, back.low, back.high) == pytest.approx((-found.estimate, -found.high, -found.low), abs=0.004)


def test_a_model_against_itself_has_no_spread() -> None:
    y, a, _ = draw(9, 30, 60, (1, 1))
    assert rows_and_seeds(y, a, np.exp(a))[:4] == (0, 0, 0, 0)
    assert rows_and_seeds(y, a, np.exp(a)).note.endswith("no spread: all rows differ alike")


def test_deviations_are_scaled_to_unbiased_variances() -> None:
    seeds = seeds_part(np.array([0.6, 0.7, 0.8]))
    assert seeds.variance == pytest.approx(0.01 / 3) and seeds.freedom == 2
    drawn = seeds.draw(np.random.default_rng(0), 40_000)
    assert drawn.var() == pytest.approx(seeds.variance, rel=0.03) and abs(drawn.mean()) < 1e-3
    assert rows_part(np.zeros((2, 5)), np.zeros((2, 5)), 5)[1] == 0
    noise = np.array([[1.0, -1, 0], [-1, 1, 0]])
    assert rows_part(noise, np.zeros((1, 3)), 3).variance == 0


def part(variance: float, freedom: float) -> Part:
    return Part(np.array([1.0, -1]) * (2 * variance) ** 0.5, freedom)


def test_degrees_of_freedom_by_hand() -> None:
    """Seeds of variances 1 and 3 with 2 and 4 degrees of freedom: 16 / (1 / 3 + 9 / 5) - 1 = 6.5; rows 5 with 100."""
    seeds = [part(1, 2), part(3, 4)]
    assert freedom_of(seeds, []) == pytest.approx(6.5)
    more = 4 * (1 + 3 / 6.5)
    assert freedom_of(seeds, [part(5, 100), part(0, 0)]) == pytest.approx((more + 5) ** 2 / (more**2 / 6.5 + 25 / 100))
    assert freedom_of([part(2, 4)], []) == pytest.approx(4)
    assert freedom_of([part(0, 2)], [part(1, 50)]) == pytest.approx(50)
    assert freedom_of([], []) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize("variances", [(0.5, 0.5), (0.2, 0.8), (0.0, 1.0)])
@pytest.mark.parametrize("rows", [0.0, 0.2, 2.0])
def test_three_normal_seeds_are_covered(variances: tuple[float, float], rows: float) -> None:
    rng = np.random.default_rng(0)
    held = []
    for estimate in rng.normal(0, (1 + rows) ** 0.5, 3000):
        seen = [part(v * rng.chisquare(2) / 2, 2) for v in variances if v]
        total = sum(each.variance for each in seen) + rows
        held.append(abs(estimate) < quantile(0.95, freedom_of(seen, [part(rows, 199)])) * total**0.5)
    assert 0.935 < np.mean(held) < 0.965


@pytest.mark.parametrize(
    ("y", "s", "note"),
    [
        ([1, 1], [0.1, 0.2], "undefined: one class only"),
        ([], [], "no rows"),
        ([0, 1], [0.1, NAN], "undefined: a score is NaN"),
    ],
)
def test_undefined_is_nan(y: list[int], s: list[float], note: str) -> None:
    found = rows_and_seeds(np.array(y, np.uint8), np.array([s, s]), np.array([s]))
    assert found.note == note and all(map(math.isnan, found[:4]))


@pytest.mark.parametrize(("m", "n", "note"), [(9, 50, "too few positives"), (50, 9, "too few negatives"), (10, 10, "")])
def test_too_few_rows_get_no_interval(m: int, n: int, note: str) -> None:
    y, a, b = draw(10, m, n)
    found = rows_and_seeds(y, a, b)
    assert found.note == note and math.isnan(found.low) == bool(note) and not math.isnan(found.estimate)


def test_other_shapes_are_refused() -> None:
    y, a, b = draw(11, 20, 30)
    for scores, shape in ((a[0], r"\(50,\)"), (a[:0], r"\(0, 50\)"), (a[:, 1:], r"\(4, 49\)")):
        with pytest.raises(ComparisonError, match=f"scores are {shape} for labels \\(50,\\)"):
            rows_and_seeds(y, scores, b)
    with pytest.raises(ComparisonError, match="scores are"):
        rows_and_seeds(y, a, b[:, 1:])
    with pytest.raises(ValueError, match="255"):
        rows_and_seeds(np.full(50, 255), a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "noise"), [((3, 3), 0.5), ((5, 5), 2.0)])
def test_the_variance_is_that_of_repeated_comparisons(seeds: tuple[int, int], noise: float) -> None:
    """New rows and new seeds each time: the standard errors' root mean square is the deviation of the estimates."""
    found = [rows_and_seeds(*draw(100 + i, 20, 60, seeds, noise), replicates=200) for i in range(500)]
    deviation = np.std([each.estimate for each in found])
    assert np.mean([each.std_error**2 for each in found]) ** 0.5 == pytest.approx(deviation, rel=0.1)
