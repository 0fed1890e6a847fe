"""What all recipes declare: the space of their loss, and what they refuse beside the input and the funnel."""

from typing import Any

import pytest

from funnelcast.data.encoder import InputSpec
from funnelcast.errors import ConfigError
from funnelcast.registry import RECIPES, recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.testing.cases import FUNNELS, INPUTS

every_recipe = pytest.mark.parametrize("name", RECIPES)


@every_recipe
def test_a_loss_given_the_parent_makes_the_head_a_chain(name: str) -> None:
    recipe = recipe_of({"name": name, "loss_space": "given_parent"})
    assert recipe.head == "chain" and recipe == recipe_of(recipe.model_dump(mode="json"))
    with pytest.raises(ConfigError) as caught:
        recipe_of({"name": name, "loss_space": "given_parent", "head": "independent"})
    [fault] = caught.value.faults
    assert "loss_space = 'given_parent' makes every output conditional" in str(fault)
    assert str(fault).endswith("which head = 'independent' does not multiply; set head = 'chain'")
    assert recipe_of({"name": name, "loss_space": "both"}).head == "chain"


def test_the_heads_that_recipes_have_by_default() -> None:
    chains = {name for name in RECIPES if recipe_of({"name": name}).head == "chain"}
    assert chains == {"esmm", "man"}
    assert all(recipe_of({"name": name}).loss_space == "entire" for name in RECIPES)


@every_recipe
def test_what_recipes_can(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.parallel == {"esmm": "never", "aitm": "with an edge"}.get(name, "any")
    assert recipe.differentiable == recipe.second_order == (name != "lightgbm")


@every_recipe
def test_an_input_that_no_model_reads_is_a_fault(name: str) -> None:
    """A network of width 0 would train on whatever the memory holds."""
    (fault,) = recipe_of({"name": name}).check(InputSpec((), {}, ()), FUNNELS["tree"])
    assert str(fault) == "model: has nothing to read; declare a feature, and prepare again"
    for inputs in INPUTS.values():
        assert not recipe_of({"name": name}).check(inputs, FUNNELS["tree"])


@pytest.mark.parametrize(
    ("name", "funnel", "fault"),
    [
        (
            "esmm",
            FUNNELS["parallel with an edge"],
            "run.name: esmm multiplies probabilities along one funnel, and income and marital are parallel labels; "
            "choose another model",
        ),
        (
            "aitm",
            FUNNELS["parallel"],
            "run.name: aitm transfers information along an edge, and income and marital are parallel labels; declare "
            'one in the funnel, such as transfer = ["income -> marital"], or choose another model',
        ),
        (
            "esmm",
            Funnel.parse("click; buy after click; like; share"),
            "run.name: esmm multiplies probabilities along one funnel, and click and like and share are parallel "
            "labels; choose another model",
        ),
    ],
)
def test_parallel_labels_are_refused_with_the_fix(name: str, funnel: Funnel, fault: str) -> None:
    assert [str(found) for found in recipe_of({"name": name}).check(INPUTS["all"], funnel, "run")] == [fault]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"head": "chian"}, "head: 'chian' is not one of chain, independent; did you mean 'chain'?"),
        ({"loss_space": "clicks"}, "loss_space: 'clicks' is not one of entire, given_parent, both"),
        ({"haed": "chain"}, "haed: is not a setting; did you mean 'head'?"),
    ],
)
@every_recipe
def test_faults(name: str, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of({"name": name} | settings)
    [found] = caught.value.faults
    assert str(found).startswith(fault)
