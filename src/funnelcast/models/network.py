"""The one network class, and the settings that all networks have."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, Self, final

import safetensors.torch
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.encoder import Encoder, InputSpec
from funnelcast.data.loader import generator_of
from funnelcast.data.statistics import TargetStatistics
from funnelcast.data.vectors import read_vectors
from funnelcast.layers.attention import NoAttention
from funnelcast.layers.banks import LinearBank, MLPBank
from funnelcast.layers.embedding import Embedded, Init
from funnelcast.layers.members import average
from funnelcast.layers.pooling import Norm, Positions
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.base import Head, LossSpace
from funnelcast.models.parts import Parts, joined
from funnelcast.models.penalties import Penalty
from funnelcast.models.reading import Rate, Reading, ReadingRecipe, Width
from funnelcast.ops import DropoutKey, Precision, Reach, chain_reach
from funnelcast.schema.funnel import Funnel

Group = Literal["embedding", "pooling", "experts", "gates", "attention", "towers"]
TOP: tuple[Group, ...] = ("gates", "attention", "towers")
"""The high-level layers, which a second stage goes on training."""
GROUPS: tuple[Group, ...] = ("embedding", "pooling", "experts", *TOP)
LEAK: Final = 0.1
"""Slope of a leaky ReLU below 0."""
_PARTS: dict[str, Group] = {
    "embedding": "embedding",
    "pooling": "pooling",
    "trunk": "experts",
    "attention": "attention",
    "top_attention": "attention",
    "towers": "towers",
    "output": "towers",
}


class NetworkRecipe(ReadingRecipe):
    """Settings of every network."""

    tower: tuple[Width, ...] = Field(default=(128, 16, 32), min_length=1)
    """Widths of a tower's layers; a linear layer to one number follows."""
    tower_dropout: tuple[Rate, ...] = (0.1, 0.3, 0.3)
    """Dropout after each layer of a tower, as AITM; [] for none."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Of experts and towers. `leaky_relu` has a slope of 0.1 below 0: no unit is ever without a gradient, so that no
    step can die."""
    start: Literal["zero", "rates"] = "zero"
    """Biases of the logits before the first step: 0, or the log odds of the training rates, which spares the first
    epoch from learning them."""
    members: int = Field(default=1, ge=1, le=64)
    """Networks of these sizes, each with parameters of its own but for the embedding, that are trained together and
    whose probabilities are averaged."""

    @model_validator(mode="after")
    def _check_dropout(self) -> Self:
        rates, layers = len(self.tower_dropout), len(self.tower)
        if rates not in (0, layers):
            raise ValueError(f"tower_dropout has {rates} rates for {layers} layers of tower; give one each, or []")
        return self

    @abstractmethod
    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        """What stands between the embedding and the towers, without fitted parameters.

        `width`: of what is read of a row; `columns`: of it, by copy of the embedding.
        """

    @property
    def slope(self) -> float:
        """Of the activation below 0."""
        return LEAK if self.activation == "leaky_relu" else 0.0

    def copies(self, funnel: Funnel) -> int:
        """Vectors per id, one for each step that shares none; 1 where all read the same."""
        return 1

    def build(self, inputs: InputSpec, funnel: Funnel) -> FunnelModel:
        """A network without fitted parameters."""
        copies = self.copies(funnel)
        reading = self.read(inputs, funnel, copies)
        columns = [reading.pooling.columns(copy) for copy in range(copies)]
        made = [self.parts(reading.width, columns, funnel) for _ in range(self.members)]
        parts = made[0] if self.members == 1 else joined(made, len(funnel.names))
        towers = MLPBank(self.members * len(funnel.names), parts.width, self.tower, self.tower_dropout, self.slope)
        return FunnelModel(
            reading,
            parts,
            towers,
            funnel=funnel,
            head=self.head,
            loss_space=self.loss_space,
            members=self.members,
            penalties=self.penalties(),
        )

    def penalties(self) -> tuple[Penalty, ...]:
        """What training minimises next to the losses of the steps."""
        return ()

    def fresh(self, encoder: Encoder, seed: int) -> FunnelModel:
        """A network with its first parameters: by the seed, or from pretrained vectors."""
        model = self.build(encoder.inputs, encoder.schema.funnel)
        model.reset(self.embedding_init, generator_of(seed, "parameters"))
        for name, pretrained in self.pretrained.items():
            found = read_vectors(pretrained.file, encoder.vocabularies[name], name, self.width_of(name))
            model.embedding.take_over(name, torch.from_numpy(found.ids), torch.from_numpy(found.values))
        return model


class ExpertRecipe(NetworkRecipe):
    """Settings of every network that has experts between embedding and towers."""

    expert: tuple[Width, ...] = Field(default=(256, 128), min_length=1)
    """Widths of an expert's layers."""


@final
class FunnelModel(nn.Module):
    """embedding -> pooling -> trunk -> attention -> towers -> attention -> output -> head.

    Shapes: ids (B, F) and lists -> (B, D) -> (T, B, H), or (1, B, H) if all steps share it -> (T, B, tower) -> logits
    (B, T) -> Reach (B, T). With K members there are K × T vectors and towers, and the logits of a row's members stand
    one after the other, (B × K, T); their probabilities are averaged.
    """

    def __init__(
        self,
        reading: Reading,
        parts: Parts,
        towers: MLPBank,
        *,
        funnel: Funnel,
        head: Head,
        loss_space: LossSpace,
        members: int = 1,
        penalties: tuple[Penalty, ...] = (),
    ) -> None:
        """`towers`: of every step of each member; `loss_space`: the rows that steps are trained on; `penalties`: what
        training minimises next to their losses."""
        super().__init__()
        self.embedding, self.pooling = reading
        self.trunk, self.attention = parts.trunk, parts.attention or NoAttention()
        self.towers, self.top_attention = towers, parts.top_attention or NoAttention()
        self.output = LinearBank(members * len(funnel.names), towers.width, 1)
        self.parents, self.members = funnel.parents, members
        self.head, self.loss_space = head, loss_space
        self.penalties = penalties

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    @property
    def size(self) -> int:
        """Numbers that are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def fingerprint(self) -> str:
        """Hash of the parameters, 12 hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        if self.statistics is not None:
            for name, values in sorted(self.statistics.fitted.arrays().items()):
                digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()[:12]

    @property
    def statistics(self) -> StatisticsLayer | None:
        """Target statistics among the inputs, if there are any."""
        return getattr(self.embedding, "statistics", None)

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors`, and `statistics.safetensors` where there are target statistics."""
        state = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / "weights.safetensors")
        if self.statistics is not None:
            self.statistics.fitted.save(folder / "statistics.safetensors")

    def load(self, folder: Path) -> None:
        self.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
        if self.statistics is not None:
            self.statistics.set(TargetStatistics.load(folder / "statistics.safetensors"))

    @property
    def logit_parents(self) -> tuple[int, ...]:
        """(T,) the step that must have been reached for a logit to be of a row; -1 where it is of every row."""
        return self.parents if self.head == "chain" or self.loss_space != "entire" else (-1,) * len(self.parents)

    def forward(self, batch: Batch, key: DropoutKey | None = None) -> Reach:
        """Log-probabilities (B, T) of having reached and not having reached each step."""
        return self.network(self.embedding(batch), key)

    @torch.inference_mode()
    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach:
        """The same to float tolerance, by the fastest kernels that there are."""
        with self.compute(precision=precision, order=0):
            return self.forward(batch)

    def compute(self, *, precision: Precision = "float32", order: int = 1) -> AbstractContextManager[None]:
        """`ops.compute` for where the parameters are."""
        weight = self.output.weight
        return ops.compute(weight.device, precision=precision, order=order, dtype=weight.dtype)

    def network(self, embedded: Embedded, key: DropoutKey | None = None) -> Reach:
        """The same from embedded rows."""
        along = self.parents if self.head == "chain" else (-1,) * len(self.parents)
        reach = Reach(*ops.reach(self.logits(embedded, key), along))
        return reach if self.members == 1 else average(reach, self.members, along)

    def trained_reach(self, logits: Tensor) -> Reach:
        """What the loss is of: reach, or each step's probability given its parent where that is all."""
        return chain_reach(logits, self.trained_along)

    @torch.no_grad()
    def start_at(self, rates: Sequence[float]) -> None:
        """Let the biases of the logits be the log odds of the steps' rates, which are (T,) over all rows; given the
        parent where a logit is of that."""
        assert self.output.bias is not None
        for t, parent in enumerate(self.logit_parents):
            rate = rates[t] if parent < 0 else rates[t] / rates[parent] if rates[parent] else 0.5
            if 0 < rate < 1:  # also not for NaN
                self.output.bias.view(self.members, -1)[:, t] = math.log(rate / (1 - rate))

    @property
    def trained_along(self) -> tuple[int, ...]:
        """(T,) whose reach a step's is multiplied with in `trained_reach`; -1 where it is of its logit alone."""
        return self.parents if self.head == "chain" and self.loss_space != "given_parent" else (-1,) * len(self.parents)

    def logits(self, embedded: Embedded, key: DropoutKey | None = None) -> Tensor:
        """-> (B × K, T)."""
        pooled = self.pooling(embedded, key)
        return self.logits_of(ops.deduplicate(pooled, embedded.ids, self.embedding.id_fields), key)

    def logits_of(self, pooled: Tensor, key: DropoutKey | None = None) -> Tensor:
        """The same of what pooling made of embedded rows."""
        vectors = self.attention(self.trunk(pooled, key))
        if vectors.dim() == 3 and len(vectors) == 1:
            vectors = vectors.squeeze(0)  # which all towers read
        x = self.top_attention(self.towers(vectors, key))
        assert self.output.bias is not None
        logits = ops.logits(x, self.output.weight, self.output.bias)
        return logits if self.members == 1 else logits.reshape(-1, len(self.parents))

    def groups(self, names: Sequence[Group]) -> dict[str, nn.Parameter]:
        """Parameters by name of the named groups of layers."""
        frozen = {id(table.weight) for table in self.embedding.all_tables() if table.frozen}
        named = self.named_parameters()
        return {name: p for name, p in named if id(p) not in frozen and _group_of(name) in names}

    @torch.no_grad()
    def reset(self, init: Init, generator: torch.Generator) -> None:
        """Fresh parameters: embeddings by `init`, other weights xavier-uniform, biases zero."""
        self.embedding.reset(init, generator)
        for module in self.modules():
            if isinstance(module, (LinearBank, Positions, Norm)):
                module.reset(generator)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _group_of(parameter: str) -> Group:
    parts = parameter.split(".")
    return "gates" if parts[0] == "trunk" and "gates" in parts else _PARTS[parts[0]]
