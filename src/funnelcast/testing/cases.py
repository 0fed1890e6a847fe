"""What the promises of a model are kept on: funnels × kinds of features, and rows with every corner of an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch

from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.models.base import Model, Recipe
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.schema.funnel import Funnel
from funnelcast.testing.drawing import LONGEST, draw
from funnelcast.training.statistics import fit_layer, folds_of

FUNNELS = {
    "chain of 2": Funnel.parse("click; conversion after click"),
    "chain of 4": Funnel.parse("click; cart after click; buy after cart; review after buy"),
    "tree": Funnel.parse("click; cart after click; buy after cart; like after click"),
    "parallel": Funnel.parse("income; marital"),
    "parallel with an edge": Funnel.parse("income; marital", transfer=["income -> marital"]),
}
"""Shapes of funnels by name."""
SIZES = {"user": 5, "item": 7, "tag": 6}
"""Ids of each vocabulary, with the unknown one."""
FIELDS = (("item", "item"), ("user", "user"), ("last", "item"))
NUMBERS = ("price", "age", "hour")
BIN_EDGES: dict[str, tuple[float, ...]] = {"age": (-1.5, -0.5, 0.0, 0.1, 2.0)}
MULTI = (
    ListSpec("tags", "tag", "multi"),
    ListSpec("words", "tag", "multi"),
    ListSpec("topics", "item", "multi", weighted=True),
)
SEQUENCES = tuple(ListSpec(n, "item", "sequence", max_length=LONGEST) for n in ("viewed", "bought", "returned"))
INPUTS = {
    "categorical": InputSpec(FIELDS, SIZES, ()),
    "numeric": InputSpec((), {}, NUMBERS, bin_edges=BIN_EDGES),
    "multi": InputSpec((), SIZES, (), MULTI),
    "sequence": InputSpec(FIELDS[:1], SIZES, (), SEQUENCES),
    "all": InputSpec(FIELDS, SIZES, NUMBERS, MULTI + SEQUENCES, BIN_EDGES),
}
"""Kinds of features by name. Weighted lists have the weighted mean, and sequences that are not named below the mean."""
POOLING: dict[str, Any] = {
    "tags": "sum",
    "words": "mean",
    "bought": {"kind": "target_attention", "field": "item", "hidden": [6]},
    "returned": {"kind": "transformer", "hidden": 6},
}
"""How lists become vectors, where a recipe has that setting."""


@dataclass(frozen=True)
class Case:
    """A recipe on a funnel and a kind of features."""

    recipe: Recipe
    shape: str
    """Of the funnel, a name in `FUNNELS`."""
    kind: str
    """Of the features, a name in `INPUTS`."""
    formula: Callable[[Case], int] | None = None
    """The number of parameters, as the recipe's docstring says it."""

    def __str__(self) -> str:
        return f"{self.recipe.name}, {self.shape}, {self.kind}"

    @property
    def funnel(self) -> Funnel:
        return FUNNELS[self.shape]

    @property
    def inputs(self) -> InputSpec:
        return INPUTS[self.kind]

    @property
    def refused(self) -> bool:
        """Whether the recipe's capabilities rule the funnel out."""
        firsts, parallel = self.funnel.parents.count(-1), self.recipe.parallel
        return firsts > 1 and (parallel == "never" or (parallel == "with an edge" and not self.funnel.edges))

    def changed(self, **settings: Any) -> Case:
        """The same with other settings."""
        return replace(self, recipe=with_settings(self.recipe, **settings))

    def draw(self, rows: int, seed: int = 0) -> Columns:
        """Rows with labels: of random ids, some unknown; of random lists, one empty and one as long as can be."""
        return draw(self.inputs, self.funnel, rows, seed)

    def batch(self, rows: int, seed: int = 0) -> Batch:
        """The same on the CPU."""
        return Batch.of(self.draw(rows, seed))

    @cached_property
    def model(self) -> Model:
        """A network with random parameters, or boosters of 40 rows; for all promises, so none may change it."""
        if self.recipe.differentiable:
            return self.network(0)
        with TemporaryDirectory() as folder:
            return self.boosters(Path(folder), 0)

    def network(self, seed: int) -> FunnelModel:
        """With random parameters, and target statistics of 40 rows where it reads some."""
        model = cast(NetworkRecipe, self.recipe).build(self.inputs, self.funnel)
        randomise(model, seed)
        if model.statistics is not None:
            rows = self.batch(40, 1)
            fit_layer(model.statistics, rows, np.arange(40), folds_of(40, 4, seed), "other")
        return model

    def boosters(self, folder: Path, seed: int) -> Model:
        """Of 40 rows, trained in a folder."""
        recipe = cast(LightGBM, self.recipe)
        boosting = Boosting(recipe, self.funnel, folder, seed)
        return boosting.run(recipe.build(self.inputs, self.funnel), self.draw(40, 1), self.draw(20, 2))


def cases(recipe: Recipe, formula: Callable[[Case], int] | None = None) -> list[Case]:
    """Every funnel × every kind of features. Networks need widths of 6 or more, as smaller ones die of their ReLUs."""
    recipes = {kind: _with_pools(recipe, inputs) for kind, inputs in INPUTS.items()}
    return [Case(recipes[kind], shape, kind, formula) for shape in FUNNELS for kind in INPUTS]


def with_settings(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with other settings. Raises ConfigError."""
    return type(recipe).from_dict(recipe.model_dump(mode="json", exclude_unset=True) | settings)


def _with_pools(recipe: Recipe, inputs: InputSpec) -> Recipe:
    if "pooling" not in type(recipe).model_fields:
        return recipe
    vectors = getattr(recipe, "embedding", "tables") == "tables"
    pools = {name: pool for name, pool in POOLING.items() if vectors or isinstance(pool, str)}
    return with_settings(recipe, pooling={e.name: pools[e.name] for e in inputs.lists if e.name in pools})


@torch.no_grad()
def randomise(model: FunnelModel, seed: int) -> None:
    """Every parameter from N(0.1, 0.5), biases above 0: a narrow ReLU network would else say the same of every row."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(0.1, 0.5, generator=generator)
        if name.endswith("bias"):
            parameter.abs_()
