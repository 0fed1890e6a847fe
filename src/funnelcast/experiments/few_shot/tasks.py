"""What the few-shot protocol asks: tasks with labelled rows to learn from, and others to predict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.errors import DataError, did_you_mean
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.rows import Array, Bools, Floats
from funnelcast.experiments.groups import group_by
from funnelcast.schema.funnel import Funnel, Output

Logs = tuple[Floats, Floats]
"""log p and log q (N,) of an output."""


@dataclass(frozen=True)
class Task:
    """A campaign, a shop, a state: something that no model was trained on."""

    name: str
    support: Columns
    """Labelled rows in a random order that stays: a smaller support is its first rows."""
    query: Columns
    """Labelled rows to predict."""


@dataclass(frozen=True)
class Asked:
    """The output that a few-shot figure is about: which rows count, and what is predicted of them."""

    output: Output

    @classmethod
    def of(cls, funnel: Funnel, name: str) -> Asked:
        """`name`: of an output, such as click or conversion_given_click. Raises DataError."""
        outputs = {output.name: output for output in funnel.outputs}
        if name not in outputs:
            raise DataError(f"{name!r} is no output of this funnel; {did_you_mean(name, outputs)}")
        return cls(outputs[name])

    def space(self, rows: Columns) -> Bools:
        """(N,) the rows that count: of a step given its parent, those that reached it."""
        assert rows.labels is not None
        return sample_space(self.output, rows.labels)

    def counted(self, rows: Columns) -> Columns:
        """The rows that count."""
        return rows.take(np.flatnonzero(self.space(rows)))

    def labels(self, rows: Columns) -> NDArray[np.uint8]:
        """(N,) of rows that count."""
        assert rows.labels is not None
        return np.asarray(rows.labels[:, self.output.step])

    def first(self, rows: Columns, size: int) -> Columns:
        """The rows up to the one with which `size` count."""
        ends = np.flatnonzero(self.space(rows)) + 1
        return rows.take(np.arange(ends[size - 1] if size else 0))

    def logs(self, log_p: Array, log_q: Array) -> Logs:
        """From those of reaching each step (N, T)."""
        own, given = self.output.step, self.output.given
        if given is None:
            return log_p[:, own].astype(np.float64), log_q[:, own].astype(np.float64)
        p, q, _ = conditional(log_p[:, own], log_p[:, given])
        return p, q


def tasks_of(table: Table, part: str, by: str, support: int, query: int, seed: int = 0) -> list[Task]:
    """A task of every value of `by`, a kept column or an id feature, that has `support` + `query` rows in a part; all
    rows that are not of the support are the query's. `seed`: of the rows' order. Raises TableError.
    """
    rows, side = table.part(part), table.side(part)
    groups = group_by(table, rows, side, by)
    known = np.flatnonzero(groups.is_known)
    mixed = np.random.default_rng(seed).permutation(known)
    keys, codes, counts = np.unique(groups.keys[mixed], return_inverse=True, return_counts=True)
    each = np.split(mixed[np.argsort(codes, kind="stable")], np.cumsum(counts))[:-1]
    return [
        Task(groups.name(key), rows.take(own[:support]), rows.take(own[support:]))
        for key, own in zip(keys, each, strict=True)
        if len(own) >= support + query
    ]
