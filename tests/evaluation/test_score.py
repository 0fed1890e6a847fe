"""Scores do not depend on how many threads share the chunks, and progress is told in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.evaluation import score as scoring
from funnelcast.models.network import FunnelModel
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel

ROWS = 1000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 64)


def _model() -> FunnelModel:
    inputs = InputSpec((("a", "a"), ("b", "b")), {"a": 50, "b": 9}, ("n",))
    model = recipe_of({"name": "man"}).build(inputs, Funnel.parse("click; conversion after click"))
    assert isinstance(model, FunnelModel)
    model.reset("xavier_uniform", torch.Generator().manual_seed(0))
    return model


def _rows() -> Columns:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.integers(0, size, ROWS) for size in (50, 9)], axis=1).astype(np.int32)
    return Columns(ids, rng.standard_normal((ROWS, 1)).astype(np.float32))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    model, rows = _model(), _rows()
    alone = scoring.score(model, rows, 0.5, workers=1)
    np.testing.assert_allclose(np.exp(alone).sum(0), 1, rtol=1e-5)
    for workers in (2, 5, None):
        np.testing.assert_array_equal(scoring.score(model, rows, 0.5, workers=workers), alone)


def test_progress_is_told_in_order_and_to_the_end() -> None:
    stops = list[int]()
    scoring.score(_model(), _rows(), on_chunk=stops.append, workers=3)
    assert stops == sorted(stops) and stops[-1] == ROWS and len(stops) == -(-ROWS // 64)


def test_no_rows_have_no_scores() -> None:
    log_p, log_q = scoring.score(_model(), _rows().take(np.empty(0, np.int64)), workers=2)
    assert log_p.shape == log_q.shape == (0, 2)
