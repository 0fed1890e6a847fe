"""Every recipe. To add a model: one file, and its class in this union."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from funnelcast.models.man import MAN
from funnelcast.models.shared_bottom import SharedBottom

AnyRecipe = Annotated[MAN | SharedBottom, Field(discriminator="name")]

RECIPES: dict[str, type[MAN | SharedBottom]] = {
    recipe.model_fields["name"].default: recipe for recipe in get_args(get_args(AnyRecipe)[0])
}


def recipe_of(settings: dict[str, object]) -> MAN | SharedBottom:
    """The recipe that `settings` names, with its settings. Raises ConfigError."""
    return RECIPES[str(settings["name"])].from_dict(settings)
