"""What every recipe declares, and what the rest of the package asks of a trained model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import model_validator

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import Encoder, InputSpec
from funnelcast.errors import Fault
from funnelcast.ops import Precision, Reach
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel

Head = Literal["chain", "independent"]
LossSpace = Literal["entire", "given_parent", "both"]
Parallel = Literal["any", "with an edge", "never"]


class Model(Protocol):
    """What scoring, bundles and evaluation ask of a model, however it was trained."""

    parents: tuple[int, ...]
    """Of the funnel's steps."""

    @property
    def device(self) -> torch.device:
        """Where batches must be."""

    @property
    def size(self) -> int:
        """How many numbers were learned; of boosted trees, leaves."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything learned, 12 hex digits."""

    def __call__(self, batch: Batch) -> Reach:
        """Log-probabilities (B, T) of having reached and not having reached each step."""

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach:
        """The same to float tolerance in the fastest way there is, without a gradient; `precision`: of the
        operands of matrix products, if there are any."""

    def save(self, folder: Path) -> None:
        """Write everything learned into an existing folder."""

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote."""


class Recipe(Config, ABC):
    """Settings that every model has, and what it can do."""

    name: str
    """The recipe."""
    head: Head = "independent"
    """`chain`: a step's probability is the product of the conditional ones before it; `independent`: a sigmoid of its
    own."""
    loss_space: LossSpace = "entire"
    """Rows whose loss trains a step: `entire`, all of them; `given_parent`, those that reached the step before, as
    classical CVR models are trained on clicks; `both` adds the two losses up. The latter two take `head = "chain"`, and
    set it."""

    differentiable: ClassVar[bool] = True
    """Whether it is trained by gradients: in stages, by an optimizer, with learned loss weights."""
    second_order: ClassVar[bool] = True
    """Whether a second derivative exists, as meta-learning needs."""
    parallel: ClassVar[Parallel] = "any"
    """Whether it takes steps that are not one funnel: several first steps, as of parallel labels; `with an edge`: if
    the funnel declares an edge for transfer."""
    why_not_parallel: ClassVar[str] = ""
    """The reason, for whoever is refused."""

    @model_validator(mode="before")
    @classmethod
    def _chain_for_conditionals(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("loss_space") in ("given_parent", "both"):
            return {"head": "chain", **values}
        return values

    @model_validator(mode="after")
    def _check_space(self) -> Any:
        if self.loss_space != "entire" and self.head != "chain":
            raise ValueError(
                f"loss_space = {self.loss_space!r} makes every output conditional, which head = {self.head!r} does not "
                "multiply; set head = 'chain'"
            )
        return self

    @abstractmethod
    def build(self, inputs: InputSpec, funnel: Funnel) -> Model:
        """A model without fitted parameters."""

    def fresh(self, encoder: Encoder, seed: int) -> Model:
        """A model to be trained, with what it has before: a network its first parameters, by the seed. Raises
        InputError for files that the settings name."""
        return self.build(encoder.inputs, encoder.schema.funnel)

    def check(self, inputs: InputSpec, funnel: Funnel, where: str = "model") -> list[Fault]:
        """Faults that show only beside the input and the funnel."""
        faults = []
        if not (inputs.fields or inputs.numeric or inputs.lists):
            faults.append(Fault(where, "has nothing to read", "declare a feature, and prepare again"))
        firsts = [name for name, parent in zip(funnel.names, funnel.parents, strict=True) if parent < 0]
        refused = {"any": False, "with an edge": not funnel.edges, "never": True}[self.parallel]
        if len(firsts) > 1 and refused:
            fix = "choose another model"
            if self.parallel == "with an edge":
                fix = f'declare one in the funnel, such as transfer = ["{firsts[0]} -> {firsts[1]}"], or {fix}'
            problem = f"{self.name} {self.why_not_parallel}, and {' and '.join(firsts)} are parallel labels"
            faults.append(Fault(f"{where}.name", problem, fix))
        return faults
