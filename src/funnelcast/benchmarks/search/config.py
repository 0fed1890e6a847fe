"""A search: models, their spaces, and the budget that each gets."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from funnelcast.benchmarks.search.space import Space, grid_size
from funnelcast.benchmarks.suite import Suite
from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.experiments.experiment import Experiment


class Search(Suite):
    """A file of a search has what a benchmark's has, and spaces. `seeds` are those of the benchmark of the winners."""

    file_kind: ClassVar[str] = "search"

    trials: int = Field(default=30, ge=1)
    """Of each model: the settings of its own file, if they are in the space, and others."""
    method: Literal["tpe", "random", "grid"] = "tpe"
    """How settings are chosen: by a tree-structured Parzen estimator, at random, or all combinations of lists."""
    metric: str = "auc_mean"
    """Of the dev rows: `auc_mean`, `auc_OUTPUT`, or `log_loss`, as in an experiment's stages."""
    pruning: bool = True
    """Stop a trial whose dev metric is worse than the median of others after as many epochs."""
    train_rows: int | None = Field(default=None, ge=100)
    """Search on so many training rows, drawn at random, and at most as many dev rows, which tell trials apart."""
    seed: int = Field(default=0, ge=0)
    """Of the choice of settings, and of the models."""
    space: Space = Field(default_factory=dict)
    """Of every network: lists of values, or {low, high, log}, by the path of a setting."""
    spaces: dict[str, Space] = Field(default_factory=dict)
    """By model, added to `space`, or in place of parts of it."""

    def space_of(self, model: str, experiment: Experiment) -> Space:
        """What is searched of a model. Raises ConfigError where that is nothing, or a grid with too few trials."""
        space = {**(self.space if experiment.model.differentiable else {}), **self.spaces.get(model, {})}
        if not space:
            raise ConfigError([Fault(f"spaces.{model}", "is missing", "give it a space of its own")])
        if self.method == "grid" and self.trials < (size := grid_size(space)):
            problem = f"{self.trials} trials are too few for the {size} combinations of {model}'s grid"
            raise ConfigError([Fault("trials", problem, f"allow {size} or more, or list fewer values")])
        return space

    def check_names(self) -> None:
        """Raises ConfigError for a space of no model."""
        faults = [
            Fault(f"spaces.{name}", "is no model", did_you_mean(name, self.models))
            for name in self.spaces
            if name not in self.models
        ]
        if faults:
            raise ConfigError(faults)
