"""Boosted models that are fitted in a moment."""

from pathlib import Path
from typing import Any

from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.model import BoostedModel
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.data.progress import Progress, silent
from funnelcast.schema.funnel import Funnel

FAST: dict[str, Any] = {
    "rounds": 12,
    "patience": 12,
    "learning_rate": 0.3,
    "num_leaves": 5,
    "min_rows_per_leaf": 5,
    "feature_fraction": 1.0,
    "l2": 0.0,
    "max_cat_threshold": 32,
}


def fitted(
    folder: Path,
    inputs: InputSpec,
    funnel: Funnel,
    parts: tuple[Columns, Columns],
    seed: int = 0,
    keep_negatives: float = 1.0,
    workers: int = 1,
    progress: Progress = silent,
    **changes: Any,
) -> BoostedModel:
    """`parts`: train and dev; `changes`: of the recipe's settings."""
    recipe = LightGBM.from_dict({"name": "lightgbm", **FAST, **changes})
    boosting = Boosting(recipe, funnel, folder, seed, keep_negatives, workers, progress)
    return boosting.run(recipe.build(inputs, funnel), *parts)
