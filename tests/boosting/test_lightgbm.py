"""LightGBM's settings: what they become, and what is refused with which fix."""

import sys
from typing import Any

import pytest

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from tests.data.listed import INPUTS

CHAIN = Funnel.parse("click; conversion after click")
TREE = Funnel.parse("click; cart after click; buy after cart; like after click")
PARALLEL = Funnel.parse("marital; income")


def recipe(**settings: Any) -> LightGBM:
    return LightGBM.from_dict({"name": "lightgbm", **settings})


def test_defaults_are_one_binary_model_per_label_with_ids_as_categories() -> None:
    assert recipe_of({"name": "lightgbm"}) == recipe() == LightGBM()
    assert (recipe().ids, recipe().head, recipe().loss_space) == ("categorical", "independent", "entire")
    assert not recipe().differentiable and not recipe().second_order
    assert LightGBM.from_dict(recipe(num_leaves=7).model_dump(mode="json")) == recipe(num_leaves=7)


@pytest.mark.parametrize("funnel", [CHAIN, TREE, PARALLEL], ids=["chain", "tree", "parallel"])
def test_every_funnel_is_taken_in_two_ways(funnel: Funnel) -> None:
    for settings in ({}, {"loss_space": "given_parent"}):
        assert not recipe(**settings).check(INPUTS, funnel)
        assert recipe(**settings).build(INPUTS, funnel).parents == funnel.parents
    assert recipe().given(funnel) == (-1,) * len(funnel.names)
    conditional = recipe(loss_space="given_parent")
    assert conditional.given(funnel) == funnel.parents and conditional.head == "chain"


def test_a_product_over_all_rows_is_refused() -> None:
    (fault,) = recipe(head="chain").check(INPUTS, CHAIN)
    assert str(fault) == (
        "model.head: 'chain' multiplies conditional probabilities, and the loss of their product over all rows takes "
        "all boosters at once, while lightgbm fits one by one; set loss_space = 'given_parent', or head = 'independent'"
    )


def test_the_sum_of_both_losses_is_refused() -> None:
    (fault,) = recipe(loss_space="both").check(INPUTS, CHAIN)
    assert str(fault) == (
        "model.loss_space: 'both' adds up two losses, of which that over all rows takes all boosters at once; set "
        "'given_parent' or 'entire'"
    )


def test_nothing_to_read() -> None:
    (fault,) = recipe().check(InputSpec((), {}, ()), CHAIN)
    assert "has nothing to read" in str(fault)


def test_what_lightgbm_is_given() -> None:
    changes = {"num_leaves": 7, "min_rows_per_leaf": 3, "l2": 2.5, "feature_fraction": 0.5, "bagging_fraction": 0.25}
    found = recipe(
        **changes, learning_rate=0.5, max_bin=63, cat_smooth=1.0, cat_l2=2.0, max_cat_threshold=4
    ).parameters()
    assert found == {
        "objective": "binary",
        "metric": "None",
        "num_leaves": 7,
        "min_data_in_leaf": 3,
        "lambda_l2": 2.5,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.25,
        "bagging_freq": 1,
        "learning_rate": 0.5,
        "max_bin": 63,
        "cat_smooth": 1.0,
        "cat_l2": 2.0,
        "max_cat_threshold": 4,
    }
    assert recipe(bagging_fraction=1.0).parameters()["bagging_freq"] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": "target_statistic"}, "did you mean 'target_statistics'?"),
        ({"metric": "logloss"}, "did you mean 'log_loss'?"),
        ({"num_leafs": 3}, "did you mean 'num_leaves'?"),
        ({"num_leaves": 1}, "num_leaves: 1 is not allowed"),
        ({"rounds": 0}, "rounds: 0 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed"),
        ({"feature_fraction": 1.5}, "feature_fraction: 1.5 is not allowed"),
        ({"bagging_fraction": 0.0}, "bagging_fraction: 0.0 is not allowed"),
        ({"folds": 1}, "folds: 1 is not allowed"),
        ({"folds": 101}, "folds: 101 is not allowed"),
        ({"smoothing": 0.0}, "smoothing: 0.0 is not allowed"),
        ({"max_bin": 65536}, "max_bin: 65536 is not allowed"),
        ({"loss_space": "given_parent", "head": "independent"}, "set head = 'chain'"),
    ],
)
def test_faults(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(**changes)
    (fault,) = caught.value.faults
    assert said in str(fault)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    (fault,) = recipe().check(INPUTS, CHAIN)
    assert fault.where == "model.name" and "python -m pip install lightgbm" in str(fault)
    with pytest.raises(FunnelcastError, match="need the package lightgbm, .*python -m pip install lightgbm"):
        recipe().build(INPUTS, CHAIN)
