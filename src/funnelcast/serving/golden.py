"""Golden rows: raw rows with the probabilities that a bundle gave them when it was saved.

Whoever loads the bundle can see that it still says the same, on another machine or with other versions of libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.calibration.calibration import Calibration
from funnelcast.data.arrow import array_of
from funnelcast.data.encoder import Encoder
from funnelcast.errors import BundleError
from funnelcast.evaluation.score import score
from funnelcast.models.base import Model
from funnelcast.serving.made_rows import made_rows

FILE: Final = "golden.parquet"
ROWS: Final = 64
LOG_P: Final = "log_p "
"""Before a step's name, the column of its log-probability."""
TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.2}
"""By precision, how far log-probabilities may be apart: other processors sum in another order."""


class Predicting(Protocol):
    """What a bundle predicts with."""

    @property
    def model(self) -> Model: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def keep_negatives(self) -> float: ...
    @property
    def calibration(self) -> Calibration | None: ...


def save_golden(bundle: Predicting, folder: Path) -> None:
    """Write the golden rows."""
    rows = made_rows(bundle.encoder, ROWS)
    for name, log_p in zip(bundle.encoder.schema.funnel.names, _log_p(bundle, rows).T, strict=True):
        rows = rows.append_column(LOG_P + name, array_of(log_p))
    pq.write_table(pa.Table.from_batches([rows]), folder / FILE)


def check_golden(bundle: Predicting, folder: Path, precision: str = "float32") -> None:
    """Raises BundleError where the bundle in a folder says otherwise now. Bundles of old versions have none."""
    if not (folder / FILE).is_file():
        return
    with pq.ParquetFile(folder / FILE) as file:
        rows = file.read().combine_chunks().to_batches()[0]
    names = bundle.encoder.schema.funnel.names
    saved = np.stack([np.asarray(rows.column(LOG_P + name)) for name in names], 1)
    found = _log_p(bundle, rows, precision)
    apart = np.abs(found - saved)
    row, step = np.unravel_index(np.argmax(apart), apart.shape)
    if not apart.max() <= TOLERANCE[precision]:
        raise BundleError(
            f"{folder} gives golden row {row} p_{names[step]} = {np.exp(found[row, step]):.6g}, and gave it "
            f"{np.exp(saved[row, step]):.6g} when it was saved; save it again with these versions of libraries, or "
            "restore it from a copy"
        )


def _log_p(bundle: Predicting, rows: pa.RecordBatch, precision: str = "float32") -> NDArray[np.float32]:
    """(N, T)."""
    columns, kept = bundle.encoder.encode(rows), bundle.keep_negatives
    return score(bundle.model, columns, kept, precision=cast(Any, precision), calibration=bundle.calibration)[0]
