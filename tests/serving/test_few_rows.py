"""Recorded passes of few rows give the model's own numbers, bit for bit."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.ops.reach import Reach
from funnelcast.layers.mode import HAS_BFLOAT16
from funnelcast.models.network import FunnelModel
from funnelcast.serving.few_rows import SIZES, FewRows
from tests.training.test_passes import MODELS, drawn, step_of

HALVES = [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_BFLOAT16, reason="no such instructions here"))]


def built(model: str = "mmoe", **changes: Any) -> FunnelModel:
    return step_of(model, **changes).objective.model


def are_equal(one: Reach, other: Reach) -> bool:
    return torch.equal(one.log_p, other.log_p) and torch.equal(one.log_q, other.log_q)


def recorded(few: FewRows) -> int:
    return sum(map(len, few.passes._idle.values()))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("model", MODELS)
def test_they_are_the_models_own(model: str, half: bool) -> None:
    few = FewRows(built(model))
    found = [(few.score(batch, half=half), few.model.score(batch, half=half)) for batch in map(of_seed, range(4))]
    assert all(are_equal(*pair) for pair in found)
    assert recorded(few) == 1


def of_seed(seed: int) -> Batch:
    return drawn(20, seed)


def test_any_number_of_rows_some_of_which_are_recorded() -> None:
    few = FewRows(built())
    for seed in range(3):
        for rows in range(1, SIZES + 3):
            batch = drawn(rows, seed)
            assert are_equal(few.score(batch), few.model.score(batch))
    assert recorded(few) == SIZES


def test_threads_may_score_at_once() -> None:
    few, batches = FewRows(built("man")), [drawn(20, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(few.score, batches))
    assert all(are_equal(one, few.model.score(batch)) for one, batch in zip(found, batches, strict=True))


def test_sequences_are_not_recorded() -> None:
    few = FewRows(built(pooling={"history": {"kind": "transformer", "hidden": 3}}))
    for batch in map(of_seed, range(3)):
        assert are_equal(few.score(batch), few.model.score(batch))
    assert recorded(few) == 0


def test_no_rows() -> None:
    few = FewRows(built())
    for _ in range(3):
        assert few.score(drawn(1, 0).slice(0, 0)).log_p.shape == (0, 3)
