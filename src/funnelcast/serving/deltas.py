"""Scoring rows of many adapted networks at once, over one base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from funnelcast.boosting.stacked import Stacked, network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.errors import DeltaError
from funnelcast.evaluation.score import CHUNK, score
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision, Reach, check_precision, compute
from funnelcast.ops.reach import undo_downsampling
from funnelcast.runtime.subnormals import flush_to_zero
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta
from funnelcast.serving.few_rows import FEW, FewRows
from funnelcast.serving.keys import Keys
from funnelcast.serving.network import Replicas
from funnelcast.serving.new_rows import NewRows
from funnelcast.training.added_statistics import AddedStatistics
from funnelcast.training.overlay import laid_over

BLOCK = 16 * CHUNK
"""Rows that are embedded at once."""


class Deltas:
    """Deltas on one base, whose tensors they share. Threads may score at once."""

    def __init__(self, bundle: Bundle, deltas: Sequence[Delta], precision: Precision = "float32") -> None:
        """Raises DeltaError for a delta of another bundle, or deltas that exclude each other."""
        model = network_of(bundle.model)
        for delta in deltas:
            if delta.base != bundle.fingerprint:
                whose = ", ".join(f"{column} = {value!r}" for column, value in delta.key.items()) or "all rows"
                raise DeltaError(
                    f"the delta for {whose} is of the bundle {delta.base}, not of {bundle.fingerprint}; load that one, "
                    "or adapt this one"
                )
        check_precision(precision, model.device)
        self.precision = precision
        self.model, self.keep, self.keys = model, bundle.keep_negatives, Keys([delta.key for delta in deltas])
        self.calibration = bundle.calibration
        self.changed = [delta for delta in deltas if not delta.is_empty]
        self.indices = np.full(len(deltas) + 1, -1, np.int32)  # in `changed`: of each delta, and at the end of none
        self.indices[[i for i, delta in enumerate(deltas) if not delta.is_empty]] = np.arange(len(self.changed))
        can_record = isinstance(model, FunnelModel) and model.device.type == "cpu"  # without deltas it may be trees
        self.stacked = bundle.model if isinstance(bundle.model, Stacked) else None
        few = FewRows(model) if can_record else model
        self.base, self.few = bundle.model, few if self.stacked is None else self.stacked.over(few)
        self.new, self.replicas = NewRows(model, bundle.encoder, self.changed), Replicas(model)
        layer, added = getattr(model, "statistics", None), [delta.statistics for delta in self.changed]
        self.added = AddedStatistics(layer, added) if isinstance(layer, StatisticsLayer) and any(added) else None

    @flush_to_zero()
    @torch.inference_mode()
    def score(self, rows: pa.RecordBatch, columns: Columns) -> NDArray[np.float32]:
        """Log p (N, T) of raw rows, which `columns` are encoded.

        A row without a delta, or with an empty one, has the base's own numbers, bit for bit: each chunk of the rows in
        which there is one goes through the base as a whole. A row with a delta goes through its network with the others
        of its delta in the call; as always, the last bits depend on how many these are.
        """
        which = self.indices[self.keys.of(rows)]
        log_p = self._of_base(columns, which < 0)
        if (which >= 0).any():
            self._score_adapted(log_p, rows, columns, which)
        return log_p

    def _score_adapted(
        self, log_p: NDArray[np.float32], rows: pa.RecordBatch, columns: Columns, which: NDArray[np.int32]
    ) -> None:
        """In place, delta by delta."""
        order = np.argsort(which, kind="stable")[(which < 0).sum() :]
        new, own = self.new.encode(rows, which) if self.new.values else None, dict(self.model.named_parameters())
        with self.replicas.one() as network, compute(self.model.device, precision=self.precision, order=0):
            for start in range(0, len(order), BLOCK):
                block = order[start : start + BLOCK]
                x = self._embedded(columns.take(block), None if new is None else new.take(block), which[block])
                for i, chunk in _chunks(which[block]):
                    reach = network.under(self.changed[i].parameters(own), x.slice(chunk.start, chunk.stop))
                    log_p[block[chunk]] = self._corrected(reach, columns, block[chunk]).log_p.cpu().numpy()

    def _corrected(self, reach: Reach, columns: Columns, rows: NDArray[np.int64]) -> Reach:
        """A network's reach of some rows, as `score` corrects a bundle's."""
        is_read = self.stacked is not None or self.calibration is not None
        batch = Batch.of(columns.take(rows)).to(self.model.device) if is_read else None
        if self.stacked is not None and batch is not None:
            reach = self.stacked.mixed(reach, batch)
        if self.keep < 1:
            reach = undo_downsampling(reach, self.model.parents, self.keep)
        return reach if self.calibration is None or batch is None else self.calibration(reach, batch)

    def _of_base(self, columns: Columns, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Of the chunks that hold a wanted row; all rows in one go where every chunk does."""
        starts = [start for start in range(0, len(columns), CHUNK) if wanted[start : start + CHUNK].any()]
        if len(starts) * CHUNK >= len(columns):
            return self._scored(columns)
        log_p = np.zeros((len(columns), len(self.model.parents)), np.float32)
        for start in starts:
            rows = np.arange(start, min(start + CHUNK, len(columns)))
            log_p[rows] = self._scored(columns.take(rows))
        return log_p

    def _scored(self, columns: Columns) -> NDArray[np.float32]:
        """Log p (N, T) of the base."""
        scorer = self.few if len(columns) <= FEW else self.base
        return score(scorer, columns, self.keep, precision=self.precision, calibration=self.calibration)[0]

    def _embedded(self, columns: Columns, new: Columns | None, which: NDArray[np.int32]) -> Embedded:
        batch = Batch.of(columns).to(self.model.device)
        x: Embedded = self.model.embedding(batch)
        if self.added is not None:
            x = self.added(x, batch, torch.from_numpy(which).long().to(self.model.device))
        if new is None or self.new.embedding is None:
            return x
        return laid_over(x, self.new.embedding(Batch.of(new).to(self.model.device)))


def _chunks(which: NDArray[np.int32]) -> Iterator[tuple[int, slice]]:
    """Stretches of one delta, of at most `CHUNK` rows."""
    starts = [0, *np.flatnonzero(np.diff(which)) + 1]
    for start, end in zip(starts, [*starts[1:], len(which)], strict=True):
        for first in range(start, end, CHUNK):
            yield int(which[first]), slice(first, min(first + CHUNK, end))
