"""How a trained network is adapted to few rows, and what it has from its training for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator
from torch import Tensor

from funnelcast.models.network import Group
from funnelcast.schema.config import Config
from funnelcast.training.algorithms import Inner
from funnelcast.training.losses import LossConfig
from funnelcast.training.new_ids import Start


class Adapting(Config):
    """How a trained network is adapted to few rows. What is not given is as in the inner loop of its training."""

    inner: Literal["all", "top"] | Annotated[tuple[Group, ...], Field(min_length=1)] | None = None
    """What adapts; the `top` of a network that was trained plainly."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Size of a step; 0.1 for a network that was trained plainly. A step that overshoots, by the loss of its own rows,
    ends where a parabola through what is known is lowest."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """At most so many steps, beside the offsets; 5 for a network that was trained plainly. Fewer are taken where
    held-out rows say so."""
    folds: int = Field(default=5, ge=2, le=100)
    """The rows are held out in so many parts, one after the other, to find the number of steps."""
    prior: float | None = Field(default=None, ge=0)
    """What is known before the first row: 1 / τ², where τ is how much tasks differ, in logits. Steps are as long as
    I / (I + prior) says, where I = Σ p (1 - p) is what the rows tell; so few rows move little. 0 for full steps. By
    default τ is that of each step over the tasks of training, where these have a key; where tasks were alike, nothing
    adapts. It is 2 for a network that was trained plainly, or reads the key."""
    offsets: bool = True
    """Fit the bias of every logit first, to the peak of its posterior, and again after each step; where it adapts, and
    rows count by their likelihood. What is told of an adaptation counts that as its first step."""
    new_ids: Start = "unknown"
    """What ids that training has not seen start from: the row of `unknown` ids, which the network takes for them
    anyway, the `mean` of the ids it knows; `none` for no rows of their own."""

    @field_validator("inner")
    @classmethod
    def _check_inner(cls, value: str | tuple[Group, ...] | None) -> str | tuple[Group, ...] | None:
        if isinstance(value, tuple) and "embedding" in value:
            raise ValueError("the embedding never adapts, its rows are of single ids; leave it out")
        return value


@dataclass(frozen=True)
class Starting:
    """What a network has from its training, beside its parameters."""

    loss: LossConfig
    weights: Sequence[float]
    """(T,) factors on the steps' mean losses."""
    inner: Inner | None
    """Of its last meta stage; none if it was trained plainly."""
    information: Sequence[float]
    """(T,) Σ p (1 - p) of the support rows of a task in training; 0 for a network that was trained plainly."""
    factors: Mapping[str, Tensor]
    """What α is multiplied by, by parameter of the model, where that was learned."""
    differences: Sequence[float] = ()
    """(T,) standard deviation of what an offset of each logit is over the tasks of training; () if not measured."""
    keep_negatives: float = 1.0
    """Share of the rows without a first step that it was trained on."""
