"""What the few-shot protocol asks: tasks with labelled rows to learn from, and others to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.errors import DataError, TableError, did_you_mean
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.paired import TOO_FEW
from funnelcast.evaluation.rows import Array, Bools, Floats
from funnelcast.experiments.groups import Groups, group_by
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
class TaskOutput:
    """The output that a few-shot figure is about: which rows count, and what is predicted of them."""

    output: Output

    @classmethod
    def of(cls, funnel: Funnel, name: str) -> TaskOutput:
        """`name`: of an output, such as click or conversion_given_click. Raises DataError."""
        outputs = {output.name: output for output in funnel.outputs}
        if name not in outputs:
            raise DataError(f"{name!r} is no output of this funnel; {did_you_mean(name, outputs)}")
        return cls(outputs[name])

    def unit(self, funnel: Funnel) -> str:
        """What the rows that count are."""
        given = self.output.given
        return "rows" if given is None else f"rows that reached {funnel.names[given]}"

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


def unseen_tasks(table: Table, by: str, target: TaskOutput, support: int, query: int, seed: int = 0) -> list[Task]:
    """A task of every value of the kept column `by` that test rows alone have, with support + query rows that count.

    `support` of these, and the rows between them, are its support, all others its query; `seed`: of the rows' order.
    Raises TableError for fewer than four tasks, and for a column that is not there.
    """
    rows, groups = table.part("test"), _groups(table, "test", by)
    trained = [_groups(table, part, by) for part in ("train", "dev")]
    seen = np.concatenate([np.unique(own.keys[own.is_known]) for own in trained])
    new = np.flatnonzero(groups.is_known & ~np.isin(groups.keys, seen))
    mixed = np.random.default_rng(seed).permutation(new)
    keys, inverse, sizes = np.unique(groups.keys[mixed], return_inverse=True, return_counts=True)
    each = np.split(mixed[np.argsort(inverse, kind="stable")], np.cumsum(sizes))[:-1]
    counted = target.space(rows)
    enough = [(key, own) for key, own in zip(keys, each, strict=True) if counted[own].sum() >= support + query]
    if len(enough) < TOO_FEW:
        have = [int(counted[own].sum()) for own in each]
        raise TableError(_too_few(table.folder, by, target, have, support, query))
    return [_task(groups.name(key), rows.take(own), target, support) for key, own in enough]


def _groups(table: Table, part: str, by: str) -> Groups:
    return group_by(table, table.part(part), table.side(part), by)


def _task(name: str, rows: Columns, target: TaskOutput, support: int) -> Task:
    first = target.first(rows, support)
    return Task(name, first, rows.take(np.arange(len(first), len(rows))))


def _too_few(folder: Path, by: str, target: TaskOutput, have: list[int], support: int, query: int) -> str:
    """`have`: rows that count, of each value."""
    if not have:
        return (
            f"{folder} has no {by} in its test rows that train and dev rows have not; keep some out of what is trained "
            f"on, and prepare with their rows as --test and {by!r} among what the schema keeps"
        )
    enough = sum(count >= support + query for count in have)
    return (
        f"of {len(have)} values of {by!r} that test rows alone have, {enough} have {support:,} + {query:,} rows that "
        f"count for {target.output.name}, and {TOO_FEW} are needed (the largest has {max(have):,}); ask for smaller "
        "sizes, or for fewer query rows"
    )
