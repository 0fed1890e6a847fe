"""The methods that a figure compares, from end to end on tiny networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from funnelcast.errors import ComparisonError
from funnelcast.fewshot.methods import Adapted
from funnelcast.fewshot.protocol import measure
from funnelcast.fewshot.report import report
from funnelcast.fewshot.standard_methods import (
    META,
    META_ADAPTED,
    OFFSET,
    OWN_RATE,
    PLAIN,
    PLAIN_ADAPTED,
    SCRATCH,
    standard_methods,
)
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.serving.bundle import Bundle
from funnelcast.training.adapting import Adapting
from funnelcast.training.algorithms import Inner
from proofs.simulators.campaigns import encoder
from tests.fewshot.tiny import CLICK, CONVERSION, bundle, tasks, training_rows

SIZES = (0, 40)


@pytest.mark.parametrize(
    "target", [CLICK, pytest.param(CONVERSION, marks=pytest.mark.slow)], ids=["click", "conversion"]
)
def test_all_methods_on_four_tasks(target: TaskOutput) -> None:
    methods = standard_methods(bundle(0), bundle(1), target, *training_rows(), Adapting(steps=3, folds=2))
    measured = measure(tasks(target), methods, target, SIZES, workers=2)
    assert set(measured.figures) == {META_ADAPTED, PLAIN_ADAPTED, OFFSET, META, PLAIN, OWN_RATE, SCRATCH}
    assert all(np.isfinite(own.log_loss).all() for own in measured.figures.values())
    json.dumps(report(measured), allow_nan=False)
    losses = {name: own.log_loss for name, own in measured.figures.items()}
    for adapted, as_it_is in ((META_ADAPTED, META), (PLAIN_ADAPTED, PLAIN)):
        assert np.array_equal(losses[adapted][0], losses[as_it_is][0])  # without rows
        assert not np.array_equal(losses[adapted][1], losses[as_it_is][1])
        assert np.array_equal(losses[as_it_is][0], losses[as_it_is][1])
    assert not np.array_equal(losses[META], losses[PLAIN])


def test_both_networks_take_the_inner_steps_of_the_meta_trained_one() -> None:
    meta = bundle(0)
    assert meta.starting is not None
    inner = Inner(inner="top", learning_rate=0.3, steps=4)
    meta = replace(meta, starting=replace(meta.starting, inner=inner))
    methods = standard_methods(meta, bundle(1), CLICK, *training_rows(), Adapting(steps=7))
    plain = methods[PLAIN_ADAPTED]
    assert isinstance(plain, Adapted) and plain.config == Adapting(inner="top", learning_rate=0.3, steps=7)


def test_bundles_of_other_inputs_are_refused() -> None:
    rows, groups = training_rows()
    other: Bundle = replace(bundle(), encoder=encoder(5))
    with pytest.raises(ComparisonError, match="not the same features, ids and funnel"):
        standard_methods(other, bundle(), CLICK, rows, groups)


def test_a_bundle_that_cannot_adapt_is_refused() -> None:
    rows, groups = training_rows()
    with pytest.raises(ComparisonError, match="holds shared_bottom, which cannot adapt"):
        standard_methods(replace(bundle(), starting=None), bundle(), CLICK, rows, groups)
