"""The posterior of a campaign against sums over a fine grid; and that nothing of the process beats it."""

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.evaluation.logistic import sigmoid
from funnelcast.evaluation.rows import Floats
from funnelcast.fewshot.methods import Method
from funnelcast.fewshot.protocol import measure
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.schema.funnel import Funnel
from proofs.simulators.campaign_tasks import CampaignTasks
from proofs.simulators.campaigns import ALIKE, CampaignSimulator, Differences
from proofs.simulators.exact_bayes import ExactBayes, NotAdapted, draw_posterior

FUNNEL = Funnel.parse("click; conversion after click")
CLICK, CONVERSION = (TaskOutput.of(FUNNEL, name) for name in ("click", "conversion_given_click"))
GRID = np.linspace(-6, 6, 4001)


def weights_on_grid(design: Floats, base: Floats, labels: Floats) -> Floats:
    """Posterior of one number."""
    log_likelihood = -(GRID**2) / 2
    for d, b, y in zip(design[:, 0], base, labels, strict=True):
        log_likelihood = log_likelihood - np.logaddexp(0, (1 - 2 * y) * (b + d * GRID))
    weights = np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize(("rows", "scale"), [(0, 1.0), (1, 1.0), (16, 0.7), (300, 0.7), (3000, 2.0)])
def test_one_number_against_quadrature(rows: int, scale: float) -> None:
    rng = np.random.default_rng(rows)
    design = np.asarray(scale * rng.choice([-1.0, 1, 2], (rows, 1)), np.float64)
    base = np.asarray(rng.normal(-3, 1, rows), np.float64)
    labels = (rng.random(rows) < sigmoid(base + design[:, 0])).astype(np.float64)
    found = draw_posterior(design, base, labels, rng, 4096)
    expected = weights_on_grid(design, base, labels)
    mean = float(expected @ GRID)
    error = float(expected @ (GRID - mean) ** 2) ** 0.5
    assert found.weights @ found.at[:, 0] == pytest.approx(mean, abs=0.05 * error)
    variance = found.weights @ (found.at[:, 0] - mean) ** 2
    assert variance == pytest.approx(error**2, rel=0.07)
    for target in (-4.0, -1.0):
        p = expected @ sigmoid(target + GRID)
        assert found.weights @ sigmoid(target + found.at[:, 0]) == pytest.approx(p, rel=0.01)
    assert found.effective > 2500


def test_a_campaign_of_one_number_by_its_rows() -> None:
    """Offsets of the click alone: the whole method, from ids to probabilities, against sums over the offset."""
    simulator = CampaignSimulator(3, Differences(offset=0.9, taste=0.0, correlation=0.0))
    task = CampaignTasks(simulator, CLICK, number=1, support=300, query=40)[0]
    base, labels = simulator.base(task.support.ids)[:, 0], labels_of(task.support)[:, 0]
    weights = weights_on_grid(np.full((300, 1), 0.9), base, labels)
    expected = sigmoid(simulator.base(task.query.ids)[:, :1] + 0.9 * GRID) @ weights
    log_p, log_q = ExactBayes(simulator, CLICK)(task.support, task.query)
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=0.01)
    np.testing.assert_allclose(np.exp(log_q), 1 - expected, rtol=0.001)


@pytest.mark.slow
def test_clicks_tell_of_conversions_where_the_two_go_together() -> None:
    """With offsets that are the same, 1,000 impressions without a click move p(conversion | click)."""
    found = {}
    for correlation in (0.0, 1.0):
        simulator = CampaignSimulator(3, Differences(offset=0.9, taste=0.0, correlation=correlation))
        rows = simulator.sample(np.zeros((1000, 2, 3)), np.random.default_rng(0)).columns
        unclicked = Columns(rows.ids, rows.numeric, labels=np.zeros((len(rows), 2), np.uint8))
        bayes = ExactBayes(simulator, CONVERSION)
        found[correlation] = [
            np.exp(bayes(known, rows)[0]).mean() for known in (unclicked.take(np.arange(0)), unclicked)
        ]
    assert found[0.0][1] == pytest.approx(found[0.0][0], rel=0.02)
    assert found[1.0][1] < 0.6 * found[1.0][0]


def test_conversions_of_clicked_rows_against_sums_over_both_offsets() -> None:
    """p(conversion | click, x) where a click tells of the offset too: with as many clicks of every campaign, or with as
    many as there are in a log."""
    simulator = CampaignSimulator(3, Differences(offset=0.9, taste=0.0, correlation=0.5))
    query = CampaignTasks(simulator, CONVERSION, number=1, support=1, query=20)[0].query
    bayes, of_log = (
        method(simulator, CONVERSION)(query.take(np.arange(0)), query)[0] for method in (ExactBayes, NotAdapted)
    )
    nodes = np.linspace(-4, 4, 161)
    first, own = np.meshgrid(0.9 * nodes, nodes, indexing="ij")
    second = 0.5 * first + 0.75**0.5 * 0.9 * own
    weights = np.exp(-(nodes[:, None] ** 2 + nodes**2) / 2)
    ids = np.random.default_rng(0).integers(1, 11, (4000, 8), np.int32)
    clicks = sigmoid(simulator.base(ids)[:, :1] + 0.9 * nodes).mean(
        0
    )  # Z, over rows of the first ten values: about the same
    for row in range(20):
        base = simulator.base(query.ids[row : row + 1])[0]
        by_click = weights * sigmoid(base[0] + first)
        for found, of_row in ((bayes, by_click / clicks[:, None]), (of_log, by_click)):
            mean = (of_row * sigmoid(base[1] + second)).sum() / of_row.sum()
            assert np.exp(found[row]) == pytest.approx(mean, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("target", [CLICK, CONVERSION], ids=["click", "conversion"])
def test_it_is_better_than_what_does_not_adapt_and_worse_than_the_truth(target: TaskOutput) -> None:
    simulator = CampaignSimulator(3, Differences(offset=1.5, taste=1.0))
    tasks = CampaignTasks(simulator, target, number=8, support=200, query=200)
    methods: dict[str, Method] = {"bayes": ExactBayes(simulator, target), "not adapted": NotAdapted(simulator, target)}
    found = measure(tasks, methods, target, (0, 200)).figures
    losses = {name: own.log_loss.mean(1) for name, own in found.items()}
    assert losses["bayes"][0] < losses["not adapted"][0] + 0.001
    truths = []
    for i, task in enumerate(tasks):
        p, y = tasks.truth(i)[:, target.output.step], target.labels(task.query)
        truths.append(-np.log(np.where(y, p, 1 - p)).mean())
    assert np.mean(truths) < losses["bayes"][1] < 0.95 * losses["bayes"][0]


def test_where_campaigns_are_alike_there_is_nothing_to_learn() -> None:
    simulator = CampaignSimulator(3, ALIKE)
    task = CampaignTasks(simulator, CLICK, number=1, support=500, query=30)[0]
    log_p, _ = ExactBayes(simulator, CLICK)(task.support, task.query)
    np.testing.assert_allclose(log_p, np.log(sigmoid(simulator.base(task.query.ids)[:, 0])), atol=1e-5)
    np.testing.assert_allclose(log_p, NotAdapted(simulator, CLICK)(task.support, task.query)[0], atol=1e-5)


def labels_of(columns: Columns) -> Floats:
    assert columns.labels is not None
    return columns.labels.astype(np.float64)
