"""Drawn rows with every kind of input: two fields, a number, weighted lists that rows share, and a sequence."""

import numpy as np

from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.schema.funnel import Funnel

INPUTS = InputSpec(
    fields=(("user", "user"), ("item", "item")),
    sizes={"user": 9, "item": 6, "tag": 12},
    numeric=("price",),
    lists=(ListSpec("tags", "tag", "multi", weighted=True), ListSpec("history", "item", "sequence", max_length=4)),
)
FUNNEL = Funnel.parse("click; conversion after click; like")


def draw(rows: int, seed: int = 0, steps: int = 3, shared: int = 7) -> Columns:
    """Some labels are unobserved, some weights 0, some lists empty, some weights of ids negative or 0."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 9, rows), rng.integers(0, 6, rows)
    chance = rng.random((rows, steps)) < 0.3 + 0.4 * (user % 2)[:, None]
    labels = chance.astype(np.uint8)
    labels[:, 1:2] &= labels[:, :1]
    labels[rng.random((rows, steps)) < 0.1] = UNOBSERVED
    tags = _lists(rng, shared, 5, 12)
    factors = rng.choice([-1.5, 0.0, 0.5, 2.0], len(tags.ids)).astype(np.float32)
    index = rng.integers(0, shared, rows).astype(np.int32)
    return Columns(
        np.stack([user, item], 1).astype(np.int32),
        rng.normal(size=(rows, 1)).astype(np.float32),
        {"tags": Ragged(tags.offsets, tags.ids, factors, index), "history": _lists(rng, rows, 5, 6)},
        labels,
        rng.choice([0.0, 0.5, 1.0, 3.0], rows).astype(np.float32),
    )


def _lists(rng: np.random.Generator, number: int, longest: int, ids: int) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, longest, number))])
    return Ragged(offsets, rng.integers(0, ids, offsets[-1]).astype(np.int32))
