"""The few-shot protocol: every method predicts the query rows of every task from supports of several sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from funnelcast.data.progress import Progress, silent
from funnelcast.errors import DataError
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.metrics import log_loss, observed_over_predicted
from funnelcast.evaluation.rows import Floats
from funnelcast.fewshot.methods import Method
from funnelcast.fewshot.tasks import Task, TaskOutput
from funnelcast.runtime.threads import threads

SIZES = (0, 16, 64, 256, 1024)
"""Rows that count, of which a method sees so many and all that do not count between them."""


class Figures(NamedTuple):
    """Of the query rows of a task, or (sizes, tasks) of all of them."""

    log_loss: Floats
    auc: Floats
    """NaN where the query rows are of one class."""
    observed_over_predicted: Floats


@dataclass(frozen=True)
class Measured:
    """What the protocol measured."""

    output: str
    sizes: tuple[int, ...]
    tasks: tuple[str, ...]
    figures: dict[str, Figures]
    """By method."""


def measure(
    tasks: Sequence[Task],
    methods: Mapping[str, Method],
    target: TaskOutput,
    sizes: Sequence[int] = SIZES,
    workers: int = 1,
    progress: Progress = silent,
) -> Measured:
    """Measure all methods on the query rows that count, all of which weigh alike. `workers`: threads that share the
    tasks, which may be made when they are requested.

    Raises DataError where a task has too few rows that count.
    """
    names, found = [], np.empty((len(tasks), len(methods), len(sizes), 3))
    with threads(workers) as pool:
        run = map if pool is None else pool.map
        done = run(lambda i: _measure(tasks[i], methods, target, sizes), range(len(tasks)))
        for i, (name, figures) in enumerate(done):
            names.append(name)
            found[i] = figures
            progress("few-shot", i + 1, len(tasks), "tasks")
    by_method = {name: Figures(*found[:, m].transpose(2, 1, 0)) for m, name in enumerate(methods)}
    return Measured(target.output.name, tuple(sizes), tuple(names), by_method)


def _measure(task: Task, methods: Mapping[str, Method], target: TaskOutput, sizes: Sequence[int]) -> tuple[str, Floats]:
    """(methods, sizes, figures)."""
    _check(task, target, max(sizes))
    query, figures = target.counted(task.query), np.empty((len(methods), len(sizes), 3))
    labels = target.labels(query)
    for s, size in enumerate(sizes):
        support = target.first(task.support, size)
        for m, method in enumerate(methods.values()):
            log_p, log_q = method(support, query)
            measured = (
                log_loss(labels, log_p, log_q),
                auc(labels, log_p),
                observed_over_predicted(labels, np.exp(log_p)),
            )
            figures[m, s] = measured
    return task.name, figures


def _check(task: Task, target: TaskOutput, size: int) -> None:
    have, wanted = int(target.space(task.support).sum()), target.output.name
    if have < size:
        raise DataError(
            f"task {task.name} has {have} support rows that count for {wanted}, and a support of {size} is requested; "
            "leave out the task, or ask for smaller sizes"
        )
    if not target.space(task.query).any():
        raise DataError(f"task {task.name} has no query rows that count for {wanted}; leave it out")
