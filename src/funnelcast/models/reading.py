"""How a network reads its input: settings of embeddings and pooling, and what is built of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.errors import Fault, did_you_mean
from funnelcast.layers.embedding import Block, Embedding, Init
from funnelcast.layers.hashing import HashedIds
from funnelcast.layers.lists import Pool
from funnelcast.layers.pooling import SequencePooling, TargetAttention, TransformerPooling
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.base import Recipe
from funnelcast.schema.config import Config
from funnelcast.schema.features import Name
from funnelcast.schema.funnel import Funnel

Width = Annotated[int, Field(ge=1, le=65536)]
Rate = Annotated[float, Field(ge=0, le=0.99)]


class Sum(Config):
    """Added up, with or without weights."""

    kind: Pool
    """`sum`: Σ w e, with w = 1 where ids have no weights; `mean`: Σ e / n; `weighted_mean`: Σ w e / Σ |w|."""


class Target(Config):
    """Attention of a sequence's elements to another field of the row, as in DIN."""

    kind: Literal["target_attention"] = "target_attention"
    """Σ a(h, t) h over the elements h, with t the vector of a field and a a small network."""
    field: Name
    """The categorical feature whose vector is the target; of the same embedding size, best of the same vocabulary."""
    hidden: tuple[Width, ...] = Field(default=(36,), min_length=1)
    """Widths of the network's layers; DIN has one of 36."""
    softmax: bool = False
    """Normalise the weights over the sequence; DIN does not, so that a long history of one interest weighs more."""
    positions: bool = False
    """Add a learned vector per place, counted from the newest element."""


class Transformer(Config):
    """Self-attention over a sequence with learned positions, then the mean."""

    kind: Literal["transformer"] = "transformer"
    """Layers of self-attention, as in Vaswani et al. 2017."""
    layers: int = Field(default=1, ge=1, le=64)
    """One after the other."""
    heads: int = Field(default=1, ge=1, le=64)
    """Parts of a vector that attend by themselves; must divide the embedding size."""
    hidden: Width = 32
    """Width of the network after each attention."""
    dropout: Rate = 0.0
    """After attention, and in the network."""


def _from_kind(value: Any) -> Any:
    """`tags = "sum"` is short for `tags = {kind = "sum"}`."""
    return {"kind": value} if isinstance(value, str) else value


Pooling = Annotated[Annotated[Sum | Target | Transformer, Field(discriminator="kind")], BeforeValidator(_from_kind)]


class Pretrained(Config):
    """Vectors that the rows of a vocabulary start from."""

    file: Path
    """A Parquet file with two columns: the raw value, named like the vocabulary, and `vector`, a list of numbers."""
    frozen: bool = False
    """Leave them as they are."""


class StatisticsConfig(Config):
    """Target statistics among the inputs: of each category, and per step over all rows and given the step before, the
    log odds of the smoothed rate, and log(1 + rows)."""

    features: Literal["all"] | tuple[Name, ...] = "all"
    """Categorical features, numbers by bins, and lists by the mean over their ids."""
    crosses: tuple[tuple[Name, Name], ...] | Annotated[int, Field(ge=0, le=1000)] = ()
    """Pairs of categorical features or numbers, such as `[["campaign", "hour"]]`, by each pair of values. A number: at
    most so many, chosen by the training rows: those that surely tell more than both features alone."""
    bins: int = Field(default=64, ge=2, le=65536)
    """Bins of a number, at most."""
    folds: int = Field(default=10, ge=2, le=200)
    """Parts of the training rows. A row reads what the other parts say, and where the split is by time the earlier
    ones."""

    def check(self, inputs: InputSpec, where: str) -> Iterator[Fault]:
        """Faults that show only with the input."""
        single = [name for name, _ in inputs.fields] + list(inputs.numeric)
        known = [*single, *(each.name for each in inputs.lists)]
        for name in () if self.features == "all" else self.features:
            if name not in known:
                yield Fault(f"{where}.features", f"{name!r} is no feature", did_you_mean(name, known))
        for pair in self.pairs:
            for name in pair:
                if name not in single:
                    problem = f"{name!r} is no categorical feature and no number"
                    yield Fault(f"{where}.crosses", problem, did_you_mean(name, single))
            if pair[0] == pair[1]:
                yield Fault(f"{where}.crosses", f"{pair[0]!r} is crossed with itself", "name two features")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Those that are named."""
        return () if isinstance(self.crosses, int) else self.crosses

    def layer(self, inputs: InputSpec, parents: tuple[int, ...]) -> StatisticsLayer:
        """Without statistics yet."""
        every = [name for name, _ in inputs.fields] + [*inputs.numeric, *(each.name for each in inputs.lists)]
        return StatisticsLayer(
            inputs, parents, every if self.features == "all" else self.features, self.pairs, self.bins
        )


class Reading(NamedTuple):
    """The first layers of a network."""

    embedding: Embedding | HashedIds
    pooling: SequencePooling

    @property
    def width(self) -> int:
        """D, the numbers per row."""
        return self.pooling.width


class ReadingRecipe(Recipe):
    """Settings of every network's first layers."""

    embedding_dim: Width = 5
    """Numbers per id; 5 as in AITM."""
    embedding_dims: dict[str, Width] = Field(default_factory=dict)
    """Other widths by vocabulary."""
    embedding_min_rows: int = Field(default=1, ge=1, le=1_000_000_000)
    """Training rows of an id that has a vector of its own; rarer ones read that of unknown ids, which is so trained.
    Target statistics tell them apart all the same."""
    embedding_init: Init = "xavier_uniform"
    """`xavier_uniform`, the paper's "uniformly initialised", or `normal`, N(0, 0.01), as AITM."""
    pretrained: dict[str, Pretrained] = Field(default_factory=dict)
    """By vocabulary, a file of vectors to start from; ids that it lacks start like all others."""
    pooling: dict[str, Pooling] = Field(default_factory=dict)
    """By feature, how a list of ids becomes one vector: `sum`, `mean`, `weighted_mean`, or for a sequence a table with
    `kind = "target_attention"` or `kind = "transformer"`. By default the mean, weighted where ids have weights."""
    statistics: StatisticsConfig | None = None
    """Target statistics among the inputs, as a table `[model.statistics]`; none by default."""
    embedding: Literal["tables", "none"] = "tables"
    """`none`: no embeddings; ids are hashed into one vector of `hashed_width` buckets, each a count."""
    hashed_width: Width = 1024
    """With `embedding = "none"`: buckets of the hashed vector."""

    @model_validator(mode="after")
    def _check_embedding(self) -> Self:
        """No setting without effect."""
        defaults = ReadingRecipe.model_fields
        idle = (
            ("hashed_width",)
            if self.embedding == "tables"
            else ("embedding_dim", "embedding_dims", "embedding_init", "embedding_min_rows")
        )
        for name in idle:
            if getattr(self, name) != defaults[name].get_default(call_default_factory=True):
                raise ValueError(f"{name} has no effect with embedding = {self.embedding!r}; take one of them out")
        return self

    def check(self, inputs: InputSpec, funnel: Funnel, where: str = "model") -> list[Fault]:
        """Also names of vocabularies and lists that there are not, and pools that do not fit them."""
        faults = super().check(inputs, funnel, where)
        for setting in ("embedding_dims", "pretrained"):
            unknown = [name for name in getattr(self, setting) if name not in inputs.vocabularies]
            faults += [
                Fault(f"{where}.{setting}.{n}", "is no vocabulary", did_you_mean(n, inputs.vocabularies))
                for n in unknown
            ]
        if self.statistics is not None:
            faults += self.statistics.check(inputs, f"{where}.statistics")
        if self.embedding == "none" and self.statistics is not None:
            faults.append(Fault(f"{where}.statistics", "needs embeddings", "set embedding = 'tables', or take it out"))
        if self.embedding == "none" and self.pretrained:
            faults.append(Fault(f"{where}.pretrained", "needs embeddings", "set embedding = 'tables', or take it out"))
        lists = {each.name: each for each in inputs.lists}
        for name, pool in self.pooling.items():
            place = f"{where}.pooling.{name}"
            if name not in lists:
                faults.append(Fault(place, "is no list", did_you_mean(name, lists) if lists else "take it out"))
            else:
                faults += self._pool_faults(lists[name], pool, inputs, place)
        return faults

    def _pool_faults(
        self, spec: ListSpec, pool: Sum | Target | Transformer, inputs: InputSpec, where: str
    ) -> Iterator[Fault]:
        if isinstance(pool, Sum):
            if pool.kind == "weighted_mean" and not spec.weighted:
                yield Fault(
                    where, "'weighted_mean' of ids without weights", "write 'mean', or give the feature weights"
                )
            return
        if spec.kind != "sequence":
            yield Fault(where, f"{pool.kind!r} of a multi-valued feature", "declare it as a sequence, or write 'mean'")
            return
        if self.embedding == "none":
            yield Fault(where, f"{pool.kind!r} needs vectors", "set embedding = 'tables', or write 'mean'")
        width = self.width_of(spec.vocabulary)
        if isinstance(pool, Transformer) and width < 3:
            fix = f"set embedding_dims = {{{spec.vocabulary} = 8}}, or so"
            yield Fault(where, f"{width} numbers an id leave nothing to learn after layer normalisation", fix)
        elif isinstance(pool, Transformer) and width % pool.heads:
            yield Fault(f"{where}.heads", f"{pool.heads} heads do not divide {width} numbers", "set heads = 1")
        if isinstance(pool, Target):
            fields = dict(inputs.fields)
            if pool.field not in fields:
                yield Fault(f"{where}.field", f"{pool.field!r} is no field", did_you_mean(pool.field, fields))
            elif self.width_of(fields[pool.field]) != width:
                problem = f"{pool.field!r} has {self.width_of(fields[pool.field])} numbers, the sequence {width}"
                yield Fault(f"{where}.field", problem, "give both vocabularies the same embedding size")

    def width_of(self, vocabulary: str) -> int:
        """Numbers per id."""
        return self.embedding_dims.get(vocabulary, self.embedding_dim)

    def read(self, inputs: InputSpec, funnel: Funnel, copies: int = 1) -> Reading:
        """The first layers; `copies`: vectors per id, one for each step that shall share none."""
        simple = {each.name: self._simple(each) for each in inputs.lists}
        if self.embedding == "none":
            hashed = HashedIds(inputs, self.hashed_width, {name: pool or "mean" for name, pool in simple.items()})
            return Reading(hashed, SequencePooling(hashed.layout, []))
        frozen = [name for name, pretrained in self.pretrained.items() if pretrained.frozen]
        statistics = None if self.statistics is None else self.statistics.layer(inputs, funnel.parents)
        embedding = Embedding(
            inputs, self.embedding_dim, self.embedding_dims, simple, frozen, copies, statistics, self.embedding_min_rows
        )
        specs, blocks = {each.name: each for each in inputs.lists}, {block.feature: block for block in embedding.layout}
        pools = [self._pool(specs[name], blocks, copies) for name, _ in embedding.attended]
        return Reading(embedding, SequencePooling(embedding.layout, pools))

    def _simple(self, spec: ListSpec) -> Pool | None:
        pool = self.pooling.get(spec.name) or Sum(kind="weighted_mean" if spec.weighted else "mean")
        return pool.kind if isinstance(pool, Sum) else None

    def _pool(self, spec: ListSpec, blocks: dict[str, Block], copies: int) -> TargetAttention | TransformerPooling:
        pool, length = self.pooling[spec.name], spec.max_length
        if isinstance(pool, Target):
            longest = length if pool.positions else 0
            return TargetAttention(spec.name, blocks[pool.field], pool.hidden, softmax=pool.softmax, positions=longest)
        assert isinstance(pool, Transformer)
        return TransformerPooling(
            spec.name,
            self.width_of(spec.vocabulary),
            copies,
            length,
            heads=pool.heads,
            layers=pool.layers,
            hidden=pool.hidden,
            dropout=pool.dropout,
        )
