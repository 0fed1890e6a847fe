"""What training minimises: a cross-entropy per step over the entire space, and how the steps are weighed together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED
from funnelcast.errors import Fault
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class LossConfig(Config):
    """The loss of each step, and the weights that add them up."""

    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """Fixed weights, or such as are learned from each step's uncertainty σ (eq. 3). Learned ones make a step of few
    positives weigh like the others, and its noise with it."""
    weights: tuple[NotNegative, ...] | None = None
    """With weighting = "fixed": a weight per step, in the order of the funnel; 1 each if not given."""
    form: Literal["paper", "kendall"] = "paper"
    """"paper": L / (2σ²) + log σ; "kendall": L / σ² + log σ, which Kendall et al. derive for classification. Their
    optima weigh the steps alike, 1 / (2L); they start from 1/2 and 1."""
    normalise: bool = False
    """Divide each step's loss by that of always predicting its training rate: rare steps count like frequent ones."""
    clamp: float = Field(default=4.0, ge=0, le=80)
    """log σ² is kept in [-clamp, clamp]; 0 for no limit, as in the paper."""
    learning_rate: Positive = 0.01
    """Of log σ², apart from the model's: Adam moves it by about this much a step, from 0 to a limit in 400 steps. Of
    what correction = "doubly_robust" imputes by, too."""
    positive_weight: float | tuple[float, ...] | None = None
    """Class weight: factor on the loss of reached rows, one for all steps or one per step; none by default."""
    focal_gamma: NotNegative = 0.0
    """γ of the focal loss (Lin et al. 2017), which fades rows that are predicted well; 0 for plain cross-entropy."""
    correction: Literal["none", "ipw", "doubly_robust"] = "none"
    """What makes the loss given the parent stand for all rows: `ipw` weighs rows by the inverse of the predicted
    probability of having reached the parent; `doubly_robust` has an imputed error in every row too. The weights'
    effective sample size is in the log. With `model.loss_space = "both"` these are ESCM²-IPW and ESCM²-DR (Wang et al.
    2022)."""
    largest_weight: float = Field(default=10.0, ge=1)
    """Of a correction, relative to the mean: smaller probabilities are clipped."""
    given_parent_weight: Positive = 1.0
    """Of the loss given the parent beside that over all rows, with `model.loss_space = "both"`."""

    @field_validator("positive_weight")
    @classmethod
    def _check_positive(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if value is not None and any(each <= 0 for each in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{value} is not above 0; a class weight of 1 leaves a step as it is")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weights is not None and self.weighting != "fixed":
            raise ValueError("weights need weighting = 'fixed', and it is 'uncertainty'; set it, or drop weights")
        idle = [n for n in ("form", "clamp", "learning_rate") if getattr(self, n) != type(self).model_fields[n].default]
        if self.correction == "doubly_robust":
            idle = [name for name in idle if name != "learning_rate"]
        if idle and self.weighting == "fixed":
            raise ValueError(f"{idle[0]} is of learned weights, and these are fixed; set weighting = 'uncertainty'")
        if self.largest_weight != 10 and self.correction == "none":
            raise ValueError("largest_weight is of a correction, and there is none; set correction, or leave it out")
        if self.weights is not None and not any(self.weights):
            raise ValueError("weights are all 0, so nothing would be learned; give at least one step a weight above 0")
        return self

    def factors(self, steps: int) -> Tensor:
        """(T,) on the losses of reached rows."""
        return torch.ones(steps) * torch.tensor(self.positive_weight or 1.0)

    def check(self, funnel: Funnel, where: str = "loss") -> list[Fault]:
        """Faults that show only beside the funnel: settings per step that are not one per step."""
        per_step = {"weights": self.weights, "positive_weight": self.positive_weight}
        names = funnel.names
        return [
            Fault(
                f"{where}.{field}",
                f"{len(values)} value{'s' if len(values) != 1 else ''} for {len(names)} steps",
                f"give one for each of {', '.join(names)}",
            )
            for field, values in per_step.items()
            if isinstance(values, tuple) and len(values) != len(names)
        ]


def given_parent(labels: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Labels (B, T) of the rows that reached the step before; UNOBSERVED where that is not known or did not happen."""
    columns = [
        labels[:, t] if parent < 0 else torch.where(labels[:, parent] == 1, labels[:, t], UNOBSERVED)
        for t, parent in enumerate(parents)
    ]
    return torch.stack(columns, 1)


def rates_given_parent(rows: Batch, parents: tuple[int, ...]) -> list[float]:
    """Share of each step's positive label among the rows that reached the step before, by weight; NaN without any."""
    assert rows.labels is not None
    labels = given_parent(rows.labels, parents)
    reached = torch.where(labels == 1, 1, UNOBSERVED).to(torch.uint8)
    shares: Tensor = observed_weight(reached, rows.weight) / observed_weight(labels, rows.weight)
    return shares.tolist()


def observed_weight(labels: Tensor, weight: Tensor | None) -> Tensor:
    """Sum of the weights of the rows where each step was observed, (T,): known before the batch is cut.

    Class weights do not count in it.
    """
    observed = labels != UNOBSERVED
    return observed.sum(0) if weight is None else weight @ observed.to(weight.dtype)


def constant_entropy(rates: Tensor) -> Tensor:
    """Cross-entropy in nats of always predicting the rate, for rates in [0, 1]; 0 where only one class occurs."""
    entropy: Tensor = torch.special.entr(rates) - torch.special.xlog1py(1 - rates, -rates)
    return entropy


class LossWeights(nn.Module, ABC):
    """Adds the steps' mean losses to one number. Its parameters, if any, need their own rate and no weight decay."""

    scale: Tensor  # (T,) what each step's loss is divided by
    imputing: nn.Parameter | None  # (3, T) of correction = "doubly_robust"

    def __init__(self, config: LossConfig, rates: Sequence[float], given: Sequence[float] | None) -> None:
        """`rates`: of the positive label per step in the training rows; `given`: given the parent, where both losses
        are added up, 0 for first steps. A step of one class alone is not normalised."""
        super().__init__()
        entropy = constant_entropy(torch.tensor(rates, dtype=torch.float64))
        if given is not None:
            entropy += config.given_parent_weight * constant_entropy(torch.tensor(given, dtype=torch.float64))
        is_robust = config.correction == "doubly_robust"
        self.register_parameter("imputing", nn.Parameter(torch.zeros(3, len(rates))) if is_robust else None)
        usable = (entropy > 0) & config.normalise
        self.register_buffer("scale", torch.where(usable, entropy, 1.0).to(torch.get_default_dtype()))

    def combine(self, losses: Tensor, share: float = 1.0) -> Tensor:
        """The scalar to minimise, from mean losses (T,).

        For a micro-batch, give its loss sums over the whole batch's weights, and as `share` its part of the batch: the
        results of the microbatches then add up to the batch's.
        """
        weights, penalty = self.task_weights(), self.penalty()
        total = (weights * losses / self.scale).sum()
        return total if penalty is None else total + share * penalty

    @abstractmethod
    def task_weights(self) -> Tensor:
        """The factors (T,) on the normalised losses, for the log too; over `scale` they are those on the raw losses."""

    @abstractmethod
    def penalty(self) -> Tensor | None:
        """The scalar that does not depend on the losses, if there is one."""

    @abstractmethod
    def clamp_(self) -> None:
        """Bring the parameters back into their limits; call after each step of the optimizer."""


class FixedWeights(LossWeights):
    """Weights from the config, 1 each if it names none."""

    weights: Tensor  # (T,)

    def __init__(self, config: LossConfig, rates: Sequence[float], given: Sequence[float] | None = None) -> None:
        super().__init__(config, rates, given)
        self.register_buffer("weights", torch.tensor(config.weights or [1.0] * len(rates)))

    def task_weights(self) -> Tensor:
        return self.weights

    def penalty(self) -> None:
        return None

    def clamp_(self) -> None:
        pass


class UncertaintyWeights(LossWeights):
    """Σ L/(2σ²) + log σ (eq. 3), or L/σ² for the form "kendall"; learned through `log_variance` = log σ², from 0.

    The optimum is σ² = L, or 2L. The limits are kept by projection: a clamp in the forward pass has no gradient
    outside them, and would hold there for good what strayed.
    """

    def __init__(self, config: LossConfig, rates: Sequence[float], given: Sequence[float] | None = None) -> None:
        super().__init__(config, rates, given)
        self.log_variance = nn.Parameter(torch.zeros(len(rates)))
        self.factor = {"paper": 0.5, "kendall": 1.0}[config.form]
        self.limit = config.clamp

    def task_weights(self) -> Tensor:
        return self.factor * torch.exp(-self.log_variance)

    def penalty(self) -> Tensor:
        return 0.5 * self.log_variance.sum()

    @torch.no_grad()
    def clamp_(self) -> None:
        if self.limit > 0:
            self.log_variance.clamp_(-self.limit, self.limit)


def build_loss_weights(
    config: LossConfig, rates: Sequence[float], given: Sequence[float] | None = None
) -> LossWeights:  # fmt: skip
    """The weights that `config` asks for. `rates` (T,): of the positive label per step in the training rows; `given`:
    given the parent, 0 for first steps, if that loss is added to the one over all rows."""
    kinds: dict[str, type[UncertaintyWeights | FixedWeights]] = {
        "uncertainty": UncertaintyWeights, "fixed": FixedWeights
    }  # fmt: skip
    return kinds[config.weighting](config, rates, given)
