"""Whole models in plain numpy, one row at a time, from their state alone; and small models to compare with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.models.network import FunnelModel
from funnelcast.models.man import MAN
from funnelcast.models.registry import recipe_of
from funnelcast.models.shared_bottom import SharedBottom
from funnelcast.schema.funnel import Funnel
from tests.layers.reference import Floats, arrays, attend_along, draw, linear, perceptron, randomise, softmax

INPUTS = InputSpec(
    fields=(("item", "item"), ("user", "user"), ("last", "item")), sizes={"user": 5, "item": 7}, numeric=("price",)
)
FUNNELS = {
    "chain": Funnel.parse("click; conversion after click"),
    "tree": Funnel.parse("click; cart after click; buy after cart; like after click"),
    "parallel": Funnel.parse("marital; income", transfer=["marital -> income"]),
}
SMALL: dict[str, Any] = {
    "embedding_dim": 2,
    "embedding_dims": {"item": 3},
    "expert": [4, 3],
    "tower": [3, 2],
    "tower_dropout": [],
}
SMALL_MAN = SMALL | {"name": "man", "experts_per_step": 1, "shared_experts": 1}
SMALL_SHARED_BOTTOM = SMALL | {"name": "shared_bottom"}


def build(settings: dict[str, Any], funnel: Funnel, dtype: torch.dtype = torch.float64) -> FunnelModel:
    """A model with random parameters, biases too; these above 0, as narrow ReLU networks would else be 0 everywhere."""
    model = recipe_of(settings).build(INPUTS, funnel).to(dtype)
    randomise(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(parameter.abs() if name.endswith("bias") else parameter)
    return model


def draw_batch(rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sizes = [INPUTS.sizes[vocabulary] for _, vocabulary in INPUTS.fields]
    ids = [torch.randint(size, (rows,), generator=generator, dtype=torch.int32) for size in sizes]
    return Batch(torch.stack(ids, 1), draw(seed, rows, 1, dtype=dtype))


def reach_by_hand(recipe: MAN | SharedBottom, funnel: Funnel, model: FunnelModel, row: Batch) -> list[float]:
    """The probability of having reached each step, of a batch of one row."""
    weights = arrays(model)
    x = embed(recipe, weights, row.ids[0].tolist(), row.numeric[0].tolist())
    steps = range(len(funnel.names))
    mixed = [mix(recipe, below("trunk.", weights), len(steps), t, x) for t in steps]
    if isinstance(recipe, MAN) and recipe.attention == "gated":
        mixed = attend_along(funnel.edges, mixed, below("attention.", weights))
    towers = [perceptron(m, weights, t, "towers.layers.") for t, m in enumerate(mixed)]
    if isinstance(recipe, MAN) and recipe.attention == "tower_top":
        towers = attend_along(funnel.edges, towers, below("top_attention.", weights))
    logits = [linear(h, weights["output.weight"][t], weights["output.bias"][t])[0] for t, h in enumerate(towers)]
    return reach(logits, funnel.parents if recipe.head == "chain" else [-1] * len(steps))


def below(prefix: str, weights: dict[str, Floats]) -> dict[str, Floats]:
    return {name.removeprefix(prefix): values for name, values in weights.items() if name.startswith(prefix)}


def embed(recipe: MAN | SharedBottom, weights: dict[str, Floats], ids: list[int], numeric: list[float]) -> Floats:
    """Fields by width, narrow first; each storage holds its vocabularies in the order in which fields name them."""
    named = list(dict.fromkeys(vocabulary for _, vocabulary in INPUTS.fields))
    widths = {name: recipe.embedding_dims.get(name, recipe.embedding_dim) for name in named}
    numbers: list[float] = []
    for table, width in enumerate(sorted(set(widths.values()))):
        start, starts = 0, {}
        for name in named:
            if widths[name] == width:
                starts[name] = start
                start += INPUTS.sizes[name]
        for value, (_, name) in zip(ids, INPUTS.fields, strict=True):
            if name in starts:
                numbers += weights[f"embedding.tables.{table}.weight"][starts[name] + value].tolist()
    return torch.tensor(numbers + numeric, dtype=torch.float64).numpy()


def mix(recipe: MAN | SharedBottom, weights: dict[str, Floats], steps: int, step: int, x: Floats) -> Floats:
    """m_t: of MAN over the step's own experts, then the shared ones; of shared bottom the one network."""
    if isinstance(recipe, SharedBottom):
        return perceptron(x, weights, 0, "experts.layers.")
    own, shared = recipe.experts_per_step, recipe.shared_experts
    seen = [*range(step * own, (step + 1) * own), *range(steps * own, steps * own + shared)]
    gate = softmax(list(linear(x, weights[f"gates.logits.{step}.weight"].T, weights[f"gates.logits.{step}.bias"])))
    mixed: Floats = sum(w * perceptron(x, weights, n, "experts.layers.") for w, n in zip(gate, seen, strict=True))  # type: ignore[assignment]
    return mixed


def reach(logits: list[float], parents: Sequence[int]) -> list[float]:
    """pCTCVR = pCTR · pCVR."""
    p: list[float] = []
    for z, parent in zip(logits, parents, strict=True):
        p.append((p[parent] if parent >= 0 else 1.0) / (1 + math.exp(-z)))
    return p


def count_by_formula(recipe: MAN | SharedBottom, funnel: Funnel) -> int:
    """Parameters: embedding, experts, gates, attention, towers, output."""
    steps, width = len(funnel.names), len(INPUTS.numeric)
    rows = {
        name: recipe.embedding_dims.get(name, recipe.embedding_dim)
        for name in dict.fromkeys(dict(INPUTS.fields).values())
    }
    width += sum(rows[name] for _, name in INPUTS.fields)
    total = sum(INPUTS.sizes[name] * dim for name, dim in rows.items())
    experts = 1
    if isinstance(recipe, MAN):
        experts = steps * recipe.experts_per_step + recipe.shared_experts
        total += steps * (width + 1) * (recipe.experts_per_step + recipe.shared_experts)
        h = {"gated": recipe.expert[-1], "tower_top": recipe.tower[-1], "none": 0}[recipe.attention]
        total += len(funnel.edges) * (h + 1) * h + len({target for _, target in funnel.edges}) * 3 * h * h
    total += experts * perceptron_count(width, recipe.expert)
    return total + steps * (perceptron_count(recipe.expert[-1], recipe.tower) + recipe.tower[-1] + 1)


def perceptron_count(width: int, widths: Sequence[int]) -> int:
    return sum((before + 1) * after for before, after in zip([width, *widths[:-1]], widths, strict=True))
