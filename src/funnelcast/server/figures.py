"""What a scoring process counts: rows, missing and unknown values, and the distribution of its predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import numbers_of
from funnelcast.evaluation.distribution import counts_of
from funnelcast.server.infer import Columns
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Encoded

WINDOW: Final = 50_000
"""Rows after which older ones are forgotten, at the latest after twice as many."""
PARTS: Final = ("test", "dev")
"""Of the table that a bundle was trained on: the first one that was measured is what predictions are compared with."""


@dataclass
class Window:
    """Sums over rows."""

    rows: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    """By column."""
    unknown: dict[str, int] = field(default_factory=dict)
    """By column of one id per row, with the missing ones."""
    sums: dict[str, float] = field(default_factory=dict)
    """By output."""
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """By output, rows in the bins of the distribution that it is compared with."""


class Figures:
    """Of the rows that a bundle scores."""

    def __init__(self, bundle: Bundle) -> None:
        part: dict[str, Any] = next((bundle.metrics[part] for part in PARTS if part in bundle.metrics), {})
        schema, fields = bundle.encoder.schema, bundle.encoder.inputs.fields
        self.expected = {f"p_{name}": said["predicted"] for name, said in part.items() if "predicted" in said}
        self._edges = {name: np.asarray(said["edges"]) for name, said in self.expected.items()}
        self._columns = list(dict.fromkeys(schema.column(name) for name in schema.features))
        ids = {i: name for i, (name, _) in enumerate(fields) if schema.features[name].kind == "categorical"}
        self._ids = {schema.column(name): i for i, name in ids.items()}
        self.total, self._now, self._before = 0, Window(), Window()

    def add(self, encoded: Encoded, shared: pa.RecordBatch | None, predicted: Columns) -> None:
        """Rows that were scored."""
        rows = encoded.rows.num_rows
        if self._now.rows >= WINDOW:
            self._before, self._now = self._now, Window()
        now = self._now
        self.total += rows
        now.rows += rows
        for batch, times in ((encoded.rows, 1), *([] if shared is None else [(shared, rows)])):
            for name in batch.schema.names:
                now.missing[name] = now.missing.get(name, 0) + times * _missing(batch.column(name))
        zeros = (encoded.columns.ids == 0).sum(0)
        for name, i in self._ids.items():
            now.unknown[name] = now.unknown.get(name, 0) + int(zeros[i])
        for name, p in predicted.items():
            now.sums[name] = now.sums.get(name, 0.0) + float(p.sum())
            if name in self._edges:
                now.counts[name] = counts_of(p, self._edges[name]) + now.counts.get(name, np.int64(0))

    def as_dict(self) -> dict[str, Any]:
        """Of the last rows, and all rows since the bundle was loaded under `total`."""
        both, names = (self._before, self._now), [*self._now.sums]
        missing = {name: sum(each.missing.get(name, 0) for each in both) for name in self._columns}
        unknown = {name: sum(each.unknown.get(name, 0) for each in both) - missing[name] for name in self._ids}
        sums = {name: sum(each.sums.get(name, 0.0) for each in both) for name in names}
        counts = {name: sum(each.counts[name] for each in both if name in each.counts) for name in self._now.counts}
        return {
            "total": self.total,
            "rows": sum(each.rows for each in both),
            "missing": missing,
            "unknown": {name: max(0, count) for name, count in unknown.items()},
            "sums": sums,
            "counts": {name: np.asarray(each).tolist() for name, each in counts.items()},
            "expected": self.expected,
        }


def _missing(values: pa.Array) -> int:
    nan = 0
    if pa.types.is_floating(values.type) and not pa.types.is_float16(values.type):
        nan = int(np.isnan(numbers_of(values, missing=0.0)).sum())
    return int(values.null_count) + nan
