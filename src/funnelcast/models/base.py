"""The one model class, and what every recipe declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import Fault, did_you_mean
from funnelcast.layers.banks import LinearBank, MLPBank
from funnelcast.layers.embedding import Embedding, Init
from funnelcast.layers.heads import HEADS, Reach
from funnelcast.layers.mode import EVALUATE, Mode
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel

Group = Literal["embedding", "experts", "gates", "attention", "towers"]
TOP: tuple[Group, ...] = ("gates", "attention", "towers")
"""The high-level layers, which a second stage goes on training."""
_PREFIXES: dict[Group, tuple[str, ...]] = {
    "embedding": ("embedding.",),
    "experts": ("trunk.experts.",),
    "gates": ("trunk.gates.",),
    "attention": ("attention.", "top_attention."),
    "towers": ("towers.", "output."),
}

Width = Annotated[int, Field(ge=1, le=65536)]
Rate = Annotated[float, Field(ge=0, le=0.99)]


class Recipe(Config):
    """Settings that every model has."""

    embedding_dim: Width = 5
    """Numbers per id; 5 as in AITM."""
    embedding_dims: dict[str, Width] = Field(default_factory=dict)
    """Other widths by vocabulary."""
    embedding_init: Init = "xavier_uniform"
    """`xavier_uniform`, the paper's "uniformly initialised", or `normal`, N(0, 0.01), as AITM."""
    expert: tuple[Width, ...] = Field(default=(256, 128), min_length=1)
    """Widths of an expert's layers."""
    tower: tuple[Width, ...] = Field(default=(128, 16, 32), min_length=1)
    """Widths of a tower's layers; a linear layer to one number follows."""
    tower_dropout: tuple[Rate, ...] = (0.1, 0.3, 0.3)
    """Dropout after each layer of a tower, as AITM; () for none."""
    head: Literal["chain", "independent"] = "chain"
    """`chain`: a step's probability is the product of the conditional ones before it; `independent`: a sigmoid of its
    own."""

    second_order: ClassVar[bool] = True
    """Whether a second derivative exists, as meta-learning needs."""

    @model_validator(mode="after")
    def _check_dropout(self) -> Self:
        rates, layers = len(self.tower_dropout), len(self.tower)
        if rates not in (0, layers):
            raise ValueError(f"tower_dropout has {rates} rates for {layers} layers of tower; give one each, or []")
        return self

    def check(self, inputs: InputSpec, where: str = "model") -> list[Fault]:
        """Faults that show only beside the input: nothing to read, or widths for vocabularies that there are not."""
        if not inputs.fields and not inputs.numeric:
            return [
                Fault(where, "has nothing to read", "declare a categorical or a numeric feature, and prepare again")
            ]
        known = dict.fromkeys(vocabulary for _, vocabulary in inputs.fields)
        unknown = [name for name in self.embedding_dims if name not in known]
        return [Fault(f"{where}.embedding_dims.{n}", "is no vocabulary", did_you_mean(n, known)) for n in unknown]


@final
class FunnelModel(nn.Module):
    """embedding -> trunk -> attention -> towers -> attention -> output -> head.

    Shapes: ids (B, F) -> (B, D) -> (T, B, H), or (B, H) if all steps share it -> (T, B, tower) -> logits (B, T)
    -> Reach (B, T).
    """

    def __init__(
        self,
        embedding: Embedding,
        trunk: nn.Module,
        towers: MLPBank,
        funnel: Funnel,
        head: Literal["chain", "independent"],
        attention: nn.Module | None = None,
        top_attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.trunk = trunk
        self.attention = attention or nn.Identity()
        self.towers = towers
        self.top_attention = top_attention or nn.Identity()
        self.output = LinearBank(len(funnel.names), towers.width, 1)
        self.parents = funnel.parents
        self.head = head

    def forward(self, batch: Batch, mode: Mode = EVALUATE) -> Reach:
        """Log-probabilities (B, T) of having reached and not having reached each step."""
        return self.network(self.embedding(batch), mode)

    def network(self, x: Tensor, mode: Mode = EVALUATE) -> Reach:
        """The same from embedded rows (B, D)."""
        return HEADS[self.head](self.logits(x, mode), self.parents)

    def logits(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(B, D) -> (B, T)."""
        towers = self.towers(self.attention(self.trunk(x, mode)), mode)
        logits: Tensor = self.output(self.top_attention(towers))
        return logits.squeeze(-1).t()

    def groups(self, names: Sequence[Group]) -> dict[str, nn.Parameter]:
        """Parameters by name of the named groups of layers."""
        prefixes = tuple(prefix for name in names for prefix in _PREFIXES[name])
        return {name: p for name, p in self.named_parameters() if name.startswith(prefixes)}

    @torch.no_grad()
    def reset(self, init: Init, generator: torch.Generator) -> None:
        """Fresh parameters: embeddings by `init`, other weights xavier-uniform, biases zero."""
        self.embedding.reset(init, generator)
        for module in self.modules():
            if isinstance(module, LinearBank):
                module.reset(generator)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def embedding_of(recipe: Recipe, inputs: InputSpec) -> Embedding:
    """What the recipe's model reads of its input."""
    return Embedding(inputs, recipe.embedding_dim, recipe.embedding_dims)


def towers_of(recipe: Recipe, funnel: Funnel, width: int) -> MLPBank:
    """A tower per step on vectors of `width`."""
    return MLPBank(len(funnel.names), width, recipe.tower, recipe.tower_dropout)
