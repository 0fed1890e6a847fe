"""Every recipe file is registered under its own name; what is not is told."""

import pkgutil
from typing import Any

import pytest

import funnelcast.models
from funnelcast.errors import ConfigError
from funnelcast.models.man import MAN
from funnelcast.models.shared_bottom import SharedBottom
from funnelcast.registry import RECIPES, recipe_of

PARTS = {"penalties", "parts", "base", "network", "reading"}
"""Files that are no recipe."""


def test_every_recipe_file_is_registered_under_its_name() -> None:
    files = {module.name for module in pkgutil.iter_modules(funnelcast.models.__path__)}
    assert set(RECIPES) == files - PARTS | {"lightgbm"} and files >= PARTS
    for name, recipe in RECIPES.items():
        assert recipe.__module__ == f"funnelcast.{'boosting' if name == 'lightgbm' else 'models'}.{name}"
        assert recipe_of({"name": name}) == recipe.from_dict({}) and recipe_of({"name": name}).name == name


def test_settings_reach_the_recipe() -> None:
    assert recipe_of({"name": "man", "experts_per_step": 2}) == MAN(experts_per_step=2)
    assert recipe_of({"name": "shared_bottom", "head": "chain"}) == SharedBottom(head="chain")
    recipe = recipe_of({"name": "man", "expert": [8, 4], "tower": [2], "tower_dropout": [0.25]})
    assert recipe_of(recipe.model_dump(mode="json")) == recipe


KNOWN = ", ".join(sorted(RECIPES))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"name": "mna"}, "model: 'mna' is no model; did you mean 'man'?"),
        ({"name": "sharedbottom"}, "model: 'sharedbottom' is no model; did you mean 'shared_bottom'?"),
        ({"name": "mmoe2"}, "model: 'mmoe2' is no model; did you mean 'mmoe'?"),
        ({"name": "transformer"}, f"model: 'transformer' is no model; known: {KNOWN}"),
        ({"name": 3}, f"model: 3 is no model; known: {KNOWN}"),
        ({}, f"model: has no name; known: {KNOWN}"),
    ],
)
def test_a_name_that_there_is_not(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(settings)
    assert str(caught.value) == fault
