"""Every network against a second computation of it, row by row, under every setting and with every kind of feature."""

from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.encoder import InputSpec
from funnelcast.schema.funnel import Funnel
from tests.models.reference import FUNNELS, LISTED, PLAIN, Reference, build, draw_batch, rows_of, small

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("aitm", {}),
    ("aitm", {"head": "chain", "tower": [3]}),
    ("esmm", {}),
    ("esmm", {"head": "independent", "tower": [5, 4, 3]}),
    ("man", {}),
    ("man", {"attention": "tower_top"}),
    ("man", {"attention": "none"}),
    ("man", {"head": "independent"}),
    ("man", {"head": "independent", "attention": "tower_top"}),
    ("man", {"experts_per_step": 2, "shared_experts": 3}),
    ("man", {"experts_per_step": 2, "shared_experts": 0}),
    ("man", {"levels": 3, "experts_per_step": 2}),
    ("man", {"levels": 2, "attention": "tower_top"}),
    ("mmoe", {}),
    ("mmoe", {"head": "chain", "experts": 1, "expert": [6]}),
    ("omoe", {}),
    ("omoe", {"head": "chain", "experts": 5}),
    ("ple", {}),
    ("ple", {"head": "chain", "experts_per_step": 3, "shared_experts": 2}),
    ("ple", {"levels": 2}),
    ("ple", {"levels": 3, "experts_per_step": 2, "shared_experts": 2}),
    ("ple", {"levels": 2, "experts_per_step": 2, "shared_experts": 0}),
    ("shared_bottom", {}),
    ("shared_bottom", {"head": "chain", "embedding_dim": 4, "embedding_dims": {"user": 1}}),
    ("single_task", {}),
    ("single_task", {"loss_space": "given_parent", "shared_embedding": True}),
    ("single_task", {"embedding_dims": {}}),
]
TARGET = {"kind": "target_attention", "field": "last", "hidden": [5]}
POOLS: list[dict[str, Any]] = [
    {},
    {"tags": "sum", "topics": "sum", "viewed": "sum"},
    {"tags": "mean", "topics": "mean"},
    {"viewed": TARGET, "bought": {"kind": "transformer", "hidden": 5}},
    {"viewed": {"kind": "transformer", "heads": 2, "layers": 2, "hidden": 3}, "bought": TARGET | {"hidden": [5, 4]}},
    {"viewed": TARGET | {"softmax": True}, "bought": TARGET | {"field": "item", "positions": True}},
    {"bought": TARGET | {"softmax": True, "positions": True, "hidden": [4, 3, 3]}},
]


def compare(settings: dict[str, Any], inputs: InputSpec, funnel: Funnel, rtol: float) -> None:
    model, batch = build(settings, funnel, inputs), draw_batch(5, 0, inputs)
    log_p, log_q = model(batch)
    assert torch.all(log_p.std(0) > 0), "a step says the same of every row"
    reference = Reference(settings, inputs, funnel, model)
    p = np.array([reference.reach(row) for row in rows_of(batch, inputs)])
    np.testing.assert_allclose(log_p.detach().exp(), p, rtol=rtol)
    np.testing.assert_allclose(log_q.detach().exp(), 1 - p, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("name", "changes", "shape"),
    [(n, changes, s) for n, changes in SETTINGS for s in FUNNELS if (n, s) != ("esmm", "parallel")],  # it refuses that
    ids=str,
)
def test_fields_and_numbers(name: str, changes: dict[str, Any], shape: str) -> None:
    compare(small(name, **changes), PLAIN, FUNNELS[shape], 1e-10)


@pytest.mark.parametrize("pooling", POOLS, ids=str)
@pytest.mark.parametrize("name", ["esmm", "man", "single_task"])
def test_lists(name: str, pooling: dict[str, Any]) -> None:
    """With factors of means in float32."""
    compare(small(name, pooling=pooling), LISTED, FUNNELS["chain"], 1e-6)


@pytest.mark.parametrize("pooling", [{}, {"tags": "sum", "topics": "mean", "viewed": "sum"}], ids=str)
@pytest.mark.parametrize("width", [3, 64])
@pytest.mark.parametrize("name", ["aitm", "ple", "single_task"])
def test_hashed_ids(name: str, width: int, pooling: dict[str, Any]) -> None:
    """Where nearly all meet in one place, and where few do."""
    settings = small(name, embedding="none", hashed_width=width, pooling=pooling)
    compare(settings, LISTED, FUNNELS["tree"], 1e-6)
