"""Each method against what it must do by hand; none changes the network that it was given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.evaluation.group_priors import OffsetPrior, RatePrior, recalibrated
from funnelcast.evaluation.score import score
from funnelcast.fewshot.methods import Adapted, Recalibrated, SmoothedRate, Unadapted, with_parameters
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.training.adaptation import adapt
from funnelcast.training.adapting import Adapting
from tests.fewshot.tiny import CLICK, CONVERSION, bundle, network, tasks, training_rows

either = pytest.mark.parametrize("target", [CLICK, CONVERSION], ids=["click", "conversion"])
FAST = Adapting(learning_rate=0.5, steps=6, prior=0.0, offsets=False)


@either
def test_a_model_as_it_is(target: TaskOutput) -> None:
    task, model = tasks(target)[0], network(bundle())
    log_p, log_q = Unadapted(model, target)(task.support, task.query)
    reach, _ = score(model, task.query)
    expected = reach[:, 0] if target is CLICK else reach[:, 1] - reach[:, 0]
    np.testing.assert_allclose(log_p, expected, rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_p) + np.exp(log_q), 1, rtol=1e-6)
    np.testing.assert_allclose(Unadapted(model, target).logits(task.query), log_p - log_q)


def test_negatives_that_were_left_out_in_training_are_put_back() -> None:
    task, model = tasks(CLICK)[0], network(bundle())
    whole, tenth = (Unadapted(model, CLICK, keep).logits(task.query) for keep in (1.0, 0.1))
    np.testing.assert_allclose(tenth, whole + np.log(0.1), rtol=1e-5)


@either
def test_an_adapted_network_is_the_one_with_adapted_parameters(target: TaskOutput) -> None:
    task, of = tasks(target)[0], bundle()
    assert of.starting is not None
    before = network(of).fingerprint
    found = adapt(network(of), of.starting, Batch.of(task.support), FAST)
    assert found.steps > 0
    log_p, _ = Adapted(network(of), of.starting, FAST, target)(task.support, task.query)
    other = network(bundle())
    other.load_state_dict(other.state_dict() | found.parameters)
    np.testing.assert_allclose(log_p, Unadapted(other, target)(task.support, task.query)[0])
    assert network(of).fingerprint == before
    plain, _ = Unadapted(network(of), target)(task.support, task.query)
    assert np.abs(log_p - plain).max() > 0.001
    none, _ = Adapted(network(of), of.starting, FAST, target)(task.support.take(np.arange(0)), task.query)
    assert np.array_equal(none, plain)


def test_an_adapted_network_puts_back_the_negatives_too() -> None:
    task, of = tasks(CLICK)[0], bundle()
    assert of.starting is not None
    starting = replace(of.starting, keep_negatives=0.1)
    found = adapt(network(of), starting, Batch.of(task.support), FAST)
    other = with_parameters(network(of), found.parameters)
    log_p, log_q = Adapted(network(of), starting, FAST, CLICK)(task.support, task.query)
    expected = Unadapted(other, CLICK).logits(task.query) + np.log(0.1)
    np.testing.assert_allclose(log_p - log_q, expected, rtol=1e-4)


def test_other_parameters_stand_beside_the_network() -> None:
    model = network(bundle())
    name = "output.bias"
    other = with_parameters(model, {name: torch.full_like(model.state_dict()[name], 7.0)})
    assert (other.state_dict()[name] == 7).all() and (model.state_dict()[name] == -3).all()
    shared = {name for name, p in other.named_parameters() if p is dict(model.named_parameters())[name]}
    assert shared == dict(model.named_parameters()).keys() - {name}


@either
def test_an_offset_of_the_logit_by_the_rows_that_count(target: TaskOutput) -> None:
    task, unadapted, prior = tasks(target)[1], Unadapted(network(bundle()), target), OffsetPrior(-0.1, 0.8)
    known = target.counted(task.support)
    labels = known.labels[:, target.output.step]  # type: ignore[index]
    expected = recalibrated(prior, unadapted.logits(known), labels, unadapted.logits(task.query))
    found = Recalibrated(unadapted, prior)(task.support, task.query)
    np.testing.assert_array_equal(found, expected)
    shift = found[0] - found[1] - unadapted.logits(task.query)
    assert np.ptp(shift) < 0.05 and abs(shift.mean()) > 0.01


def test_how_campaigns_differ_is_told_by_other_campaigns() -> None:
    """The simulator's offsets have a deviation of 1.5, its tastes of 0.5."""
    rows, campaign = training_rows()
    found = Recalibrated.fit(Unadapted(network(bundle()), CLICK), rows, campaign).prior
    assert found.std == pytest.approx(1.5, abs=0.35)


def test_groups_go_with_the_rows_that_count() -> None:
    rows, campaign = training_rows()
    clicked = rows.labels[:, 0] == 1  # type: ignore[index]
    counted = CONVERSION.counted(rows)
    unadapted, labels = Unadapted(network(bundle()), CONVERSION), CONVERSION.labels(counted)
    expected = OffsetPrior.fit(unadapted.logits(counted), labels, campaign[clicked])
    assert Recalibrated.fit(unadapted, rows, campaign).prior == expected
    assert SmoothedRate.fit(CONVERSION, rows, campaign).prior == RatePrior.fit(labels, campaign[clicked])


def test_a_rate_by_the_rows_that_count() -> None:
    task = tasks(CONVERSION)[0]
    labels = CONVERSION.labels(CONVERSION.counted(task.support))
    log_p, log_q = SmoothedRate(CONVERSION, RatePrior(0.1, 30.0))(task.support, task.query)
    assert len(labels) == 40 and np.exp(log_p) == pytest.approx(np.full(60, (labels.sum() + 3) / 70))
    assert np.exp(log_q) == pytest.approx(1 - np.exp(log_p))
    rows, campaign = training_rows()
    prior = SmoothedRate.fit(CONVERSION, rows, campaign).prior
    clicked = rows.labels[rows.labels[:, 0] == 1]  # type: ignore[index]
    assert prior.rate == pytest.approx(clicked[:, 1].mean())
