"""A part of a table with a model's scores: rows, labels and probabilities of one output at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.rows import Array, Bools, Floats
from funnelcast.evaluation.score import score
from funnelcast.schema.funnel import Output
from funnelcast.serving.bundle import Bundle


@dataclass(frozen=True)
class Rows:
    """Those that an output is measured over."""

    where: Bools
    """(N,) of the part."""
    labels: Array
    log_p: Floats
    weight: Floats


@dataclass(frozen=True)
class Scored:
    """All of them, once scored."""

    table: Table
    columns: Columns
    log_p: NDArray[np.float32]
    """(N, T)."""
    part: str

    @classmethod
    def of(cls, bundle: Bundle, table: Table, part: str) -> Scored:
        """Scored by a bundle."""
        columns = table.part(part)
        return cls(table, columns, score(bundle.model, columns, bundle.keep_negatives)[0], part)

    def outputs(self) -> tuple[Output, ...]:
        """Of the table's funnel."""
        return self.table.schema.funnel.outputs

    def rows(self, output: Output) -> Rows:
        """Of one output."""
        labels, weight = self.columns.labels, self.columns.weight
        assert labels is not None
        where = sample_space(output, labels)
        log_p = self.log_p[where, output.step].astype(np.float64)
        if output.given is not None:
            log_p = conditional(log_p, self.log_p[where, output.given])[0]
        own = np.ones(len(log_p)) if weight is None else np.asarray(weight[where], np.float64)
        return Rows(where, labels[where, output.step], log_p, own)
