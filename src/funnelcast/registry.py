"""Every recipe. To add a model: one file, and its class in this union."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Field

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.models.aitm import AITM
from funnelcast.models.base import Recipe
from funnelcast.models.esmm import ESMM
from funnelcast.models.man import MAN
from funnelcast.models.mmoe import MMoE
from funnelcast.models.omoe import OMoE
from funnelcast.models.ple import PLE
from funnelcast.models.shared_bottom import SharedBottom
from funnelcast.models.single_task import SingleTask

AnyRecipe = Annotated[
    AITM | ESMM | LightGBM | MAN | MMoE | OMoE | PLE | SharedBottom | SingleTask,
    Field(discriminator="name"),
]

RECIPES: dict[str, type[Recipe]] = {
    recipe.model_fields["name"].default: recipe for recipe in get_args(get_args(AnyRecipe)[0])
}


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """The recipe that `settings` names, with its settings. Raises ConfigError."""
    if problem := wrong_name(settings):
        raise ConfigError([Fault("model", problem)])
    return RECIPES[str(settings["name"])].from_dict(settings)


def wrong_name(settings: dict[str, Any]) -> str:
    """What is wrong with the name in `settings`, with the fix; empty if a recipe has it."""
    name = settings.get("name")
    if str(name) in RECIPES:
        return ""
    said = "has no name" if name is None else f"{name!r} is no model"
    return f"{said}; {did_you_mean(str(name), RECIPES)}"
