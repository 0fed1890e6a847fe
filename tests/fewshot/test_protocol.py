"""The protocol from tasks to figures: what each method is shown, and what is measured of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.errors import DataError
from funnelcast.fewshot.protocol import measure
from funnelcast.fewshot.tasks import Logs, TaskOutput
from tests.fewshot.tiny import CLICK, CONVERSION, tasks

SIZES = (0, 3, 20)


class Counting:
    """Predicts the positives among its support, plus one, over two more rows than that; notes what it was shown."""

    def __init__(self, target: TaskOutput) -> None:
        self.target, self.seen = target, list[tuple[Columns, Columns]]()

    def __call__(self, support: Columns, query: Columns) -> Logs:
        self.seen.append((support, query))
        labels = self.target.labels(self.target.counted(support))
        p = np.full(len(query), (labels.sum() + 1) / (len(labels) + 2))
        return np.log(p), np.log1p(-p)


@pytest.mark.parametrize("target", [CLICK, CONVERSION], ids=["click", "conversion"])
def test_what_is_measured_by_hand(target: TaskOutput) -> None:
    method, given = Counting(target), tasks(target, number=3)
    measured = measure(given, {"counting": method}, target, SIZES)
    assert measured.output == target.output.name and measured.tasks == ("held-out 0", "held-out 1", "held-out 2")
    figures = measured.figures["counting"]
    assert figures.log_loss.shape == (3, 3)
    for i, task in enumerate(given):
        y, known = target.labels(task.query), target.labels(target.counted(task.support))
        for s, size in enumerate(SIZES):
            p = (known[:size].sum() + 1) / (size + 2)
            loss = -(y.sum() * np.log(p) + (len(y) - y.sum()) * np.log(1 - p)) / len(y)
            assert figures.log_loss[s, i] == pytest.approx(loss)
            assert figures.observed_over_predicted[s, i] == pytest.approx(y.mean() / p)
            assert figures.auc[s, i] == pytest.approx(0.5) or y.sum() in (0, len(y))


def test_supports_grow_by_the_rows_that_count_and_queries_stay() -> None:
    method = Counting(CONVERSION)
    measure(tasks(CONVERSION, number=1), {"counting": method}, CONVERSION, SIZES)
    supports, queries = zip(*method.seen, strict=True)
    assert [int(CONVERSION.space(support).sum()) for support in supports] == list(SIZES)
    for few, more in pairwise(supports):
        assert len(few) < len(more) and np.array_equal(more.ids[: len(few)], few.ids)
    assert all(np.array_equal(query.ids, queries[0].ids) for query in queries)


def test_threads_measure_the_same() -> None:
    given, methods = tasks(CLICK, number=6), {"counting": Counting(CLICK)}
    alone, shared = (measure(given, methods, CLICK, SIZES, workers) for workers in (1, 3))
    for one, other in zip(alone.figures["counting"], shared.figures["counting"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert alone.tasks == shared.tasks


def test_queries_are_cut_to_the_rows_that_count() -> None:
    task = tasks(CLICK, number=1, query=400)[0]
    method = Counting(CONVERSION)
    measure([replace(task, name="mixed")], {"counting": method}, CONVERSION, (0,))
    assert 0 < len(method.seen[0][1]) < 60


def test_tasks_with_too_few_rows_are_named() -> None:
    task = tasks(CLICK, number=1)[0]
    with pytest.raises(DataError, match="held-out 0 has 40 support rows that count for click, and a support of 41"):
        measure([task], {"counting": Counting(CLICK)}, CLICK, (0, 41))
    empty = replace(task, query=task.query.take(np.arange(0)))
    with pytest.raises(DataError, match="held-out 0 has no query rows that count for click"):
        measure([empty], {"counting": Counting(CLICK)}, CLICK, (0,))
