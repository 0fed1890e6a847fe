"""Whole networks in plain numpy, one row at a time, from their parameters alone; and small models to compare with.

Written from the equations of the papers, which the recipes' docstrings name; DIN's eq. 3; the Transformer's eq. 1, with
the norms after the sums as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.models.network import FunnelModel
from funnelcast.models.reading import Sum
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.testing.cases import randomise
from funnelcast.testing.drawing import draw
from tests.layers.reference import Floats, arrays, attend_along, linear, perceptron, relu, softmax

PLAIN = InputSpec((("item", "item"), ("user", "user"), ("last", "item")), {"user": 5, "item": 7}, ("price",))
LISTS = (
    ListSpec("tags", "tag", "multi"),
    ListSpec("topics", "tag", "multi", weighted=True),
    ListSpec("viewed", "item", "sequence", max_length=4),
    ListSpec("bought", "item", "sequence", max_length=4),
)
LISTED = InputSpec(PLAIN.fields, PLAIN.sizes | {"tag": 6}, PLAIN.numeric, LISTS)
FUNNELS = {
    "chain": Funnel.parse("click; conversion after click"),
    "tree": Funnel.parse("click; cart after click; buy after cart; like after click"),
    "parallel": Funnel.parse("marital; income", transfer=["marital -> income"]),
}
SMALL: dict[str, Any] = {
    "embedding_dim": 2,
    "embedding_dims": {"item": 4},
    "tower": [4, 3],
    "tower_dropout": [],
}


def small(name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a small network."""
    experts = {} if name in ("aitm", "esmm") else {"expert": [5, 3]}
    split = {"experts_per_step": 1, "shared_experts": 1} if name in ("man", "ple") else {}
    hashed = changes.get("embedding") == "none"  # then widths would have no effect
    sizes = {k: v for k, v in SMALL.items() if not (hashed and k.startswith("embedding_dim"))}
    return sizes | experts | split | ({"experts": 3} if name in ("mmoe", "omoe") else {}) | {"name": name} | changes


def build(
    settings: dict[str, Any], funnel: Funnel, inputs: InputSpec = PLAIN, dtype: torch.dtype = torch.float64
) -> FunnelModel:
    """A model with random parameters."""
    model = recipe_of(settings).build(inputs, funnel)
    assert isinstance(model, FunnelModel)
    randomise(model, 0)
    return model.to(dtype)


def draw_batch(rows: int, seed: int = 0, inputs: InputSpec = PLAIN, dtype: torch.dtype = torch.float64) -> Batch:
    """Without labels."""
    batch = Batch.of(draw(inputs, FUNNELS["chain"], rows, seed))
    lists = {
        n: Lists(e.offsets, e.ids, None if e.weights is None else e.weights.to(dtype)) for n, e in batch.lists.items()
    }
    return Batch(batch.ids, batch.numeric.to(dtype), lists=lists)


class Row(NamedTuple):
    """A batch of one row, in Python's own types."""

    ids: dict[str, int]
    numbers: list[float]
    lists: dict[str, list[tuple[int, float]]]
    """By feature, ids and their weights, oldest first."""


def rows_of(batch: Batch, inputs: InputSpec) -> list[Row]:
    names = [name for name, _ in inputs.fields]
    rows = []
    for i in range(len(batch)):
        lists = {}
        for name, each in batch.lists.items():
            start, stop = int(each.offsets[i]), int(each.offsets[i + 1])
            weights = [1.0] * (stop - start) if each.weights is None else each.weights[start:stop].tolist()
            lists[name] = list(zip(each.ids[start:stop].tolist(), weights, strict=True))
        rows.append(Row(dict(zip(names, batch.ids[i].tolist(), strict=True)), batch.numeric[i].tolist(), lists))
    return rows


class Reference:
    """A network in plain numpy."""

    def __init__(self, settings: dict[str, Any], inputs: InputSpec, funnel: Funnel, model: FunnelModel) -> None:
        self.recipe: Any = recipe_of(settings)
        self.inputs, self.funnel, self.steps = inputs, funnel, len(funnel.names)
        self.weights = arrays(model)
        self.bucket: Callable[..., Any] = getattr(model.embedding, "bucket", int)

    def reach(self, row: Row) -> list[float]:
        """The probability of having reached each step."""
        vectors = [perceptron(m, self.weights, t, "towers.layers.") for t, m in enumerate(self._below_towers(row))]
        if self.recipe.name == "aitm" or getattr(self.recipe, "attention", "") == "tower_top":
            vectors = attend_along(self.funnel.edges, vectors, self._below("top_attention."))
        weight, bias = self.weights["output.weight"], self.weights["output.bias"]
        logits = [linear(vector, weight[t], bias[t])[0] for t, vector in enumerate(vectors)]
        parents = self.funnel.parents if self.recipe.head == "chain" else [-1] * self.steps
        return products(logits, parents)

    def _below_towers(self, row: Row) -> list[Floats]:
        """What the tower of each step reads."""
        name = self.recipe.name
        if name == "single_task":
            own = [self.embed(row, 0 if self.recipe.shared_embedding else t) for t in range(self.steps)]
            return [perceptron(x, self.weights, t, "trunk.experts.layers.") for t, x in enumerate(own)]
        x = self.embed(row)
        if name in ("aitm", "esmm"):
            return [x] * self.steps
        if name == "shared_bottom":
            return [perceptron(x, self.weights, 0, "trunk.experts.layers.")] * self.steps
        if name in ("mmoe", "omoe"):
            gates = range(self.steps) if name == "mmoe" else [0] * self.steps
            trunk, every = self._below("trunk."), range(self.recipe.experts)
            return [mixed(trunk, gate, x, [(n, x) for n in every]) for gate in gates]
        vectors = self._extract(x)
        gated = name == "man" and self.recipe.attention == "gated"
        return attend_along(self.funnel.edges, vectors, self._below("attention.")) if gated else vectors

    def _extract(self, x: Floats) -> list[Floats]:
        """PLE's levels: x_t of every step t, after them x_s of the shared part."""
        own, shared, last = self.recipe.experts_per_step, self.recipe.shared_experts, self.recipe.levels - 1
        read = [x] * (self.steps + 1)
        for level in range(last + 1):
            trunk = self._below(f"trunk.levels.{level}." if last else "trunk.")
            owners = [t for t in range(self.steps) for _ in range(own)] + [self.steps] * shared
            every = [(n, read[owner]) for n, owner in enumerate(owners)]
            seen = [
                [e for e, owner in zip(every, owners, strict=True) if owner in (t, self.steps)]
                for t in range(self.steps)
            ]
            new = [mixed(trunk, t, read[t], seen[t]) for t in range(self.steps)]
            if level < last and shared:
                new.append(mixed(trunk, self.steps, read[self.steps], every))
            read = new
        return read

    def _below(self, prefix: str) -> dict[str, Floats]:
        return {name.removeprefix(prefix): w for name, w in self.weights.items() if name.startswith(prefix)}

    def embed(self, row: Row, copy: int = 0) -> Floats:
        """x: by width, narrow first, fields and then lists that are pooled without parameters; numbers; other lists."""
        if self.recipe.embedding == "none":
            return self._hash(row)
        numbers: list[float] = []
        pools = {each.name: self._pool_of(each) for each in self.inputs.lists}
        for width in sorted({self.recipe.width_of(name) for name in self.inputs.vocabularies}):
            for field, vocabulary in self.inputs.fields:
                if self.recipe.width_of(vocabulary) == width:
                    numbers += self._vector(vocabulary, row.ids[field], copy).tolist()
            for each in self.inputs.lists:
                if self.recipe.width_of(each.vocabulary) == width and isinstance(pools[each.name], str):
                    factors = factors_of(row.lists[each.name], pools[each.name])
                    vectors = [self._vector(each.vocabulary, i, copy) for i, _ in row.lists[each.name]]
                    numbers += sum((f * v for f, v in zip(factors, vectors, strict=True)), np.zeros(width)).tolist()
        numbers += row.numbers
        attended = [each for each in self.inputs.lists if not isinstance(pools[each.name], str)]
        attended.sort(key=lambda each: self.recipe.width_of(each.vocabulary))
        for i, each in enumerate(attended):
            numbers += self._attend(i, each, pools[each.name], row, copy).tolist()
        return np.array(numbers)

    def _pool_of(self, each: ListSpec) -> Any:
        """A word, or the settings of a pool with parameters."""
        default = Sum(kind="weighted_mean" if each.weighted else "mean")
        pool = self.recipe.pooling.get(each.name, default)
        return pool.kind if isinstance(pool, Sum) else pool

    def _hash(self, row: Row) -> Floats:
        """Counts, each id in the bucket where the model's hash function puts it; then numbers."""
        x, salts = np.zeros(self.recipe.hashed_width), {name: i for i, name in enumerate(self.inputs.vocabularies)}
        for field, vocabulary in self.inputs.fields:
            x[int(self.bucket(torch.tensor(row.ids[field]), salts[vocabulary]))] += 1
        for each in self.inputs.lists:
            factors = factors_of(row.lists[each.name], self._pool_of(each))
            for (value, _), factor in zip(row.lists[each.name], factors, strict=True):
                x[int(self.bucket(torch.tensor(value), salts[each.vocabulary]))] += factor
        return np.concatenate([x, row.numbers])

    def _vector(self, vocabulary: str, value: int, copy: int) -> Floats:
        """e of an id: tables by width, narrow first; each holds its vocabularies in the order of their first use."""
        width = self.recipe.width_of(vocabulary)
        widths = {name: self.recipe.width_of(name) for name in self.inputs.vocabularies}
        table = self.weights[f"embedding.tables.{sorted(set(widths.values())).index(width)}.weight"]
        before = [n for n in list(widths)[: list(widths).index(vocabulary)] if widths[n] == width]
        row: Floats = table[sum(self.inputs.sizes[n] for n in before) + value]
        return row[copy * width : (copy + 1) * width]

    def _attend(self, i: int, each: ListSpec, pool: Any, row: Row, copy: int) -> Floats:
        """A sequence with a pool that has parameters."""
        weights, width = self._below(f"pooling.pools.{i}."), self.recipe.width_of(each.vocabulary)
        vectors = [self._vector(each.vocabulary, value, copy) for value, _ in row.lists[each.name]]
        if "positions.weight" in weights:
            positions = weights["positions.weight"][:, copy * width : (copy + 1) * width]
            vectors = [v + positions[len(vectors) - 1 - k] for k, v in enumerate(vectors)]
        if not vectors:
            return np.zeros(width)
        if pool.kind == "target_attention":
            target = self._vector(dict(self.inputs.fields)[pool.field], row.ids[pool.field], copy)
            return attend_to(target, vectors, weights, copy, pool.softmax)
        for layer in range(pool.layers):
            own = {
                n.removeprefix(f"layers.{layer}."): w[copy]
                for n, w in weights.items()
                if n.startswith(f"layers.{layer}.")
            }
            vectors = encode(vectors, own, pool.heads)
        return np.asarray(sum(vectors) / len(vectors))


def factors_of(elements: list[tuple[int, float]], pool: str) -> list[float]:
    """What each vector is multiplied by before they are added up."""
    size = sum(abs(weight) for _, weight in elements)
    return [
        {"sum": w, "mean": 1 / len(elements), "weighted_mean": w / size if size else 0.0}[pool] for _, w in elements
    ]


def attend_to(target: Floats, vectors: list[Floats], weights: dict[str, Floats], copy: int, normed: bool) -> Floats:
    """DIN: Σ_k a(h_k, t) h_k, with a an MLP of [h, t, h - t, h ∘ t] to one number."""
    scores = []
    for h in vectors:
        hidden = np.concatenate([h, target, h - target, h * target])
        hidden = relu(linear(hidden, weights["first.weight"][copy], weights["first.bias"][copy]))
        hidden = perceptron(hidden, weights, copy, "rest.layers.")
        scores.append(float(linear(hidden, weights["score.weight"][copy], weights["score.bias"][copy])[0]))
    scores = softmax(scores) if normed else scores
    return np.asarray(sum(a * h for a, h in zip(scores, vectors, strict=True)))


def encode(vectors: list[Floats], weights: dict[str, Floats], heads: int) -> list[Floats]:
    """A layer of the Transformer over the elements of one sequence."""
    query, key, value = ([linear(h, weights[f"{part}.weight"]) for h in vectors] for part in ("query", "key", "value"))
    size, encoded = len(vectors[0]) // heads, []
    for k, h in enumerate(vectors):
        messages = []
        for head in (slice(i * size, (i + 1) * size) for i in range(heads)):
            shares = softmax([float(query[k][head] @ other[head]) / math.sqrt(size) for other in key])
            messages.append(sum(share * v[head] for share, v in zip(shares, value, strict=True)))
        h = normed(h + linear(np.concatenate(messages), weights["mix.weight"], weights["mix.bias"]), weights, 0)
        wide = relu(linear(h, weights["wide.weight"], weights["wide.bias"]))
        encoded.append(normed(h + linear(wide, weights["narrow.weight"], weights["narrow.bias"]), weights, 1))
    return encoded


def normed(h: Floats, weights: dict[str, Floats], which: int) -> Floats:
    """Layer normalisation."""
    std = math.sqrt(float(((h - h.mean()) ** 2).mean()) + 1e-5)
    return np.asarray((h - h.mean()) / std * weights[f"norms.{which}.scale"][0] + weights[f"norms.{which}.bias"][0])


def mixed(trunk: dict[str, Floats], gate: int, x: Floats, experts: Sequence[tuple[int, Floats]]) -> Floats:
    """Σ_n softmax(G x)_n f_n(x_n) over experts and what each reads."""
    logits = linear(x, trunk[f"gates.logits.{gate}.weight"].T, trunk[f"gates.logits.{gate}.bias"])
    outputs = [perceptron(own, trunk, n, "experts.layers.") for n, own in experts]
    return np.asarray(sum(w * f for w, f in zip(softmax(list(logits)), outputs, strict=True)))


def products(logits: list[float], parents: Sequence[int]) -> list[float]:
    """pCTCVR = pCTR · pCVR."""
    p: list[float] = []
    for z, parent in zip(logits, parents, strict=True):
        p.append((p[parent] if parent >= 0 else 1.0) / (1 + math.exp(-z)))
    return p
