"""Captured passes of few rows give the model's own numbers, bit for bit."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision, Reach
from funnelcast.serving.few_rows import SIZES, FewRows
from tests.training.test_captured import MODELS, drawn, step_of

needs_bfloat16 = pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
PRECISIONS = ["float32", pytest.param("bfloat16", marks=needs_bfloat16)]


def built(model: str = "mmoe", **changes: Any) -> FunnelModel:
    return step_of(model, **changes).objective.model


def are_equal(one: Reach, other: Reach) -> bool:
    return torch.equal(one.log_p, other.log_p) and torch.equal(one.log_q, other.log_q)


def captured(few: FewRows) -> int:
    return sum(map(len, few.captured._idle.values()))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", MODELS)
def test_they_are_the_models_own(model: str, precision: Precision) -> None:
    few = FewRows(built(model))
    for batch in map(of_seed, range(4)):
        assert are_equal(few.score(batch, precision=precision), few.model.score(batch, precision=precision))
    assert captured(few) == 1


@needs_bfloat16
def test_precisions_are_captured_apart() -> None:
    few, batch = FewRows(built()), of_seed(0)
    for _ in range(3):
        rough, exact = few.score(batch, precision="bfloat16"), few.score(batch)
        assert are_equal(exact, few.model.score(batch)) and not are_equal(rough, exact)
    assert captured(few) == 2


def of_seed(seed: int) -> Batch:
    return drawn(20, seed)


def test_any_number_of_rows_some_of_which_are_captured() -> None:
    few = FewRows(built())
    for seed in range(3):
        for rows in range(1, SIZES + 3):
            batch = drawn(rows, seed)
            assert are_equal(few.score(batch), few.model.score(batch))
    assert captured(few) == SIZES


def test_threads_may_score_at_once() -> None:
    few, batches = FewRows(built("man")), [drawn(20, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(few.score, batches))
    assert all(are_equal(one, few.model.score(batch)) for one, batch in zip(found, batches, strict=True))


def test_sequences_are_not_captured() -> None:
    few = FewRows(built(pooling={"history": {"kind": "transformer", "hidden": 3}}))
    for batch in map(of_seed, range(3)):
        assert are_equal(few.score(batch), few.model.score(batch))
    assert captured(few) == 0


def test_no_rows() -> None:
    few = FewRows(built())
    for _ in range(3):
        assert few.score(drawn(1, 0).slice(0, 0)).log_p.shape == (0, 3)
