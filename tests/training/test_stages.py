"""Which groups a stage trains, and which number it watches."""

import json
import math
from typing import Any

import numpy as np
import pytest

from funnelcast.data.columns import UNOBSERVED
from funnelcast.errors import ConfigError
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.schema.funnel import Funnel
from funnelcast.training.stages import Stage, value_of
from tests import tiny

FUNNEL = Funnel.parse("click; conversion after click")


def measured(labels: list[list[int]]) -> FunnelMetrics:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.9, (len(labels), 2)).cumprod(1)
    return measure_funnel(FUNNEL, np.array(labels, np.uint8), np.log(p), np.log1p(-p))


BOTH = [[0, 0], [1, 0], [1, 1], [1, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("train", "groups"),
    [
        ("all", ("embedding", "pooling", "experts", "gates", "attention", "towers")),
        ("top", ("gates", "attention", "towers")),
        (["towers", "embedding"], ("towers", "embedding")),
    ],
)
def test_groups(train: Any, groups: tuple[str, ...]) -> None:
    assert Stage(train=train).groups == groups


def test_the_value_of_each_metric() -> None:
    metrics = measured(BOTH)
    outputs = metrics.outputs
    names = ["click", "conversion", "conversion_given_click"]
    assert list(outputs) == names
    for name in names:
        assert Stage(metric=f"auc_{name}").value(metrics, FUNNEL) == outputs[name].auc.estimate
    both = outputs["click"].auc.estimate + outputs["conversion"].auc.estimate
    assert Stage().value(metrics, FUNNEL) == pytest.approx(both / 2, rel=1e-15)
    losses = outputs["click"].log_loss + outputs["conversion"].log_loss
    assert Stage(metric="log_loss").value(metrics, FUNNEL) == pytest.approx(-losses, rel=1e-15)


def test_undefined_aucs_are_left_out_of_the_mean() -> None:
    metrics = measured([[0, 0], [1, 0], [1, 0]])
    assert Stage().value(metrics, FUNNEL) == metrics.outputs["click"].auc.estimate
    assert math.isnan(Stage(metric="auc_conversion").value(metrics, FUNNEL))
    assert math.isnan(Stage().value(measured([[0, 0], [0, 0]]), FUNNEL))


def test_a_step_that_is_never_observed_leaves_the_log_loss_undefined() -> None:
    metrics = measured([[0, UNOBSERVED], [1, UNOBSERVED]])
    assert math.isnan(Stage(metric="log_loss").value(metrics, FUNNEL))
    logged = json.loads(json.dumps({name: own.as_dict() for name, own in metrics.outputs.items()}))
    assert math.isnan(value_of(logged, "log_loss", FUNNEL))
    assert value_of(logged, "auc_mean", FUNNEL) == metrics.outputs["click"].auc.estimate


def test_a_metric_that_the_funnel_does_not_have() -> None:
    (fault,) = Stage(metric="auc_conversion_given_clic").check(FUNNEL, "stages.1")
    assert fault.where == "stages.1.metric"
    assert "did you mean 'auc_conversion_given_click'?" in str(fault)
    known = ["auc_mean", "log_loss", "auc_click", "auc_conversion", "auc_conversion_given_click"]
    assert all(Stage(metric=metric).check(FUNNEL, "") == [] for metric in known)


@pytest.mark.parametrize("settings", [{"train": []}, {"train": ["tower"]}, {"epochs": 0}, {"patience": 0}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Stage.from_dict(settings)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"order": "reptile"}, "plain training; set steps"),
        ({"order": "reptile", "steps": 2, "learned": True}, "leave out learned"),
        ({"order": "reptile", "steps": 2, "support_loss": 1.0}, "leave out learned and support_loss"),
        ({"min_rows": 8, "stratified": False}, "min_rows, stratified need `by`"),
        ({"inner": ["embedding"]}, "embedding"),
        ({"support_share": 1.0, "by": "user"}, "less than 1"),
        ({"steps": 0}, "greater than or equal to 1"),
    ],
)
def test_meta_settings_that_make_no_sense(meta: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Stage.from_dict({"meta": meta})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": [{"meta": {"tasks": 40}}]}, "stages.0.meta.tasks: 40 tasks of at least 2 rows do not fit"),
        (
            {"stages": [{"meta": {"adapt_loss_weights": True}}], "loss": {"weighting": "fixed"}},
            "stages.0.meta.adapt_loss_weights: the loss weights are fixed",
        ),
        ({"stages": [{"epochs": 1}, {"train": "top"}]}, "stages.1.name: 'general' is the name of two stages"),
    ],
)
def test_settings_that_do_not_fit_the_experiment(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny.experiment(**changes).check(tiny.fitted_encoder())
