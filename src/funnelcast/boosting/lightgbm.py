"""LightGBM (Ke et al. 2017): boosted trees, one booster per step. The baseline of MAN's Table 1."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from funnelcast.boosting.matrix import Ids, Matrix
from funnelcast.boosting.model import BoostedModel
from funnelcast.boosting.trees import require_lightgbm
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import Fault, FunnelcastError
from funnelcast.models.base import Recipe
from funnelcast.schema.funnel import Funnel

Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class LightGBM(Recipe):
    """logit_t = Σ_k tree_tk(x): a binary model per step, on the rows of the step's loss space.

    Needs the package lightgbm: `python -m pip install lightgbm`.
    """

    name: Literal["lightgbm"] = "lightgbm"
    """The recipe."""
    ids: Ids = "categorical"
    """How id features enter: as LightGBM's categories, as the smoothed rate of every step among the rows with the id,
    and their count, or as both. Training rows get rates that their own labels are not in. Lists of ids always enter by
    rates."""
    metric: Literal["auc", "log_loss"] = "log_loss"
    """Of a step on the dev rows of its loss space, by which its booster stops early."""
    rounds: int = Field(default=2000, ge=1, le=1_000_000)
    """At most this many trees per step."""
    patience: int = Field(default=50, ge=1, le=1_000_000)
    """Stop after this many trees in a row without a better dev metric."""
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    """Factor on every tree."""
    num_leaves: int = Field(default=31, ge=2, le=131_072)
    """Most leaves of a tree."""
    min_rows_per_leaf: int = Field(default=50, ge=1, le=1 << 30)
    """Least training rows in a leaf."""
    feature_fraction: Share = 0.5
    """Share of the columns that a tree is grown on."""
    bagging_fraction: Share = 1.0
    """Share of the rows that a tree is grown on."""
    l2: NotNegative = 5.0
    """Penalty on the squares of the leaves."""
    max_bin: int = Field(default=255, ge=2, le=65_535)
    """Most bins of a column of numbers."""
    cat_smooth: NotNegative = 10.0
    """Damps the rates by which a split sorts categories: of those with few rows."""
    cat_l2: NotNegative = 10.0
    """Added to `l2` in a split of categories."""
    max_cat_threshold: int = Field(default=4, ge=1, le=1 << 30)
    """Most categories that a split parts from the others. LightGBM's own 32 overfits where there are many."""
    smoothing: float = Field(default=20.0, gt=0)
    """Weight of the rows that the rate of an id starts with, at the rate of all rows."""
    folds: int = Field(default=5, ge=2, le=100)
    """Parts of the training rows; the rates that a row gets are those of the other parts."""

    differentiable: ClassVar[bool] = False
    second_order: ClassVar[bool] = False

    def build(self, inputs: InputSpec, funnel: Funnel) -> BoostedModel:
        """A model that is not fitted yet. Raises FunnelcastError where lightgbm is missing."""
        require_lightgbm()
        return BoostedModel(Matrix(inputs, self.ids), funnel.parents, self.head)

    def check(self, inputs: InputSpec, funnel: Funnel, where: str = "model") -> list[Fault]:
        """Faults that show only beside the input and the funnel, and the package that may be missing."""
        faults = super().check(inputs, funnel, where)
        if self.head == "chain" and self.loss_space == "entire":
            problem = (
                "'chain' multiplies conditional probabilities, and the loss of their product over all rows takes all "
                "boosters at once, while lightgbm fits one by one"
            )
            faults.append(Fault(f"{where}.head", problem, "set loss_space = 'given_parent', or head = 'independent'"))
        if self.loss_space == "both":
            problem = "'both' adds up two losses, of which that over all rows takes all boosters at once"
            faults.append(Fault(f"{where}.loss_space", problem, "set 'given_parent' or 'entire'"))
        try:
            require_lightgbm()
        except FunnelcastError as error:
            faults.append(Fault(f"{where}.name", str(error)))
        return faults

    def given(self, funnel: Funnel) -> tuple[int, ...]:
        """The step that a row must have reached to count for each step; -1 for none."""
        return funnel.parents if self.loss_space == "given_parent" else (-1,) * len(funnel.parents)

    def parameters(self) -> dict[str, Any]:
        """What decides the trees, in LightGBM's own names; the metric is ours."""
        own = ("learning_rate", "num_leaves", "feature_fraction", "bagging_fraction", "max_bin", "cat_smooth", "cat_l2")
        return {name: getattr(self, name) for name in (*own, "max_cat_threshold")} | {
            "objective": "binary",
            "metric": "None",
            "min_data_in_leaf": self.min_rows_per_leaf,
            "lambda_l2": self.l2,
            "bagging_freq": int(self.bagging_fraction < 1),
        }
