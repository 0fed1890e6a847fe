"""Offsets of logits against a search over a fine grid of the posterior that is written a second way."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.training.offsets import offsets
from tests.layers.inputs import source

GRID = [i / 500 for i in range(-2500, 2501)]
PARENTS = (-1, 0, 0)


def drawn(rows: int = 60) -> tuple[Tensor, Tensor]:
    """Logits, and labels of a tree, some of them unobserved."""
    rng = source(3)
    logits = torch.randn(rows, 3, generator=rng)
    labels = (torch.rand(rows, 3, generator=rng) < 0.5).byte()
    labels[:, 1:] *= labels[:, :1]
    labels[:7, 2] = 255
    return logits, labels


def by_search(logits: Tensor, labels: Tensor, t: int, prior: float, weight: Tensor) -> float:
    """Weights are scaled so that rows tell (Σ w i)² / Σ w² i."""
    kept = [
        (float(x), int(y), float(w))
        for x, y, w, reached in zip(logits[:, t], labels[:, t], weight, labels[:, 0], strict=True)
        if y != 255 and (PARENTS[t] < 0 or reached == 1)
    ]
    information_of_rows = [math.exp(-abs(x)) / (1 + math.exp(-abs(x))) ** 2 for x, _, _ in kept]
    scale = sum(w * i for (_, _, w), i in zip(kept, information_of_rows, strict=True))
    scale /= sum(w * w * i for (_, _, w), i in zip(kept, information_of_rows, strict=True))

    def surprise(offset: float) -> float:
        own = sum(scale * w * math.log1p(math.exp(-(x + offset) if y else x + offset)) for x, y, w in kept)
        return own + prior * offset**2 / 2

    return min(GRID, key=surprise)


@pytest.mark.parametrize("weighed", [False, True])
def test_they_are_where_the_posterior_is_highest(weighed: bool) -> None:
    logits, labels = drawn()
    weight = 5 * torch.rand(len(logits), generator=source(4)) if weighed else None
    priors = (0.5, 2.0, 0.01)
    found = offsets(logits, labels, PARENTS, priors, weight)
    w = torch.ones(len(logits)) if weight is None else weight
    for t, prior in enumerate(priors):
        assert float(found[t]) == pytest.approx(by_search(logits, labels, t, prior, w), abs=0.002)


def test_the_size_of_weights_does_not_matter_and_rows_without_any_tell_nothing() -> None:
    logits, labels = drawn()
    weight: Any = (torch.arange(60) < 40) * 3.0
    found = offsets(logits, labels, PARENTS, [2.0] * 3, weight)
    torch.testing.assert_close(found, offsets(logits[:40], labels[:40], PARENTS, [2.0] * 3))
    assert offsets(logits, labels, PARENTS, [2.0] * 3, torch.zeros(60)).tolist() == [0, 0, 0]


def test_there_is_none_where_tasks_are_alike_and_a_peak_for_one_class() -> None:
    logits, labels = drawn()
    found = offsets(logits, labels, PARENTS, [math.inf, 2.0, math.inf])
    assert found[0] == found[2] == 0 != found[1]
    alone = offsets(torch.zeros(50, 1), torch.zeros(50, 1, dtype=torch.uint8), (-1,), [0.0])
    assert -15 < float(alone) < -5


def test_large_logits_converge() -> None:
    labels = (torch.arange(1000) < 300).byte()[:, None]
    for base in (-12.0, 12.0):
        found = offsets(torch.full((1000, 1), base), labels, (-1,), [0.0])
        assert base + float(found) == pytest.approx(math.log(0.3 / 0.7), abs=1e-3)
