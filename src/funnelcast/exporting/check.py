"""An exported model next to the bundle that it was made of: the same probabilities, for any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.errors import FunnelcastError
from funnelcast.exporting.feed import Feed
from funnelcast.runtime.extras import require_extra
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.made_rows import made_rows
from funnelcast.serving.predictor import Predictor

BATCHES: Final = (1, 7, 4096)
"""Numbers of rows that a model is checked with."""
TOLERANCE: Final = 1e-4
"""Of log-probabilities: networks sum float32 in another order here. What is usual is below 1e-5."""


def check_model(bundle: Bundle, path: Path, feed_of: Callable[[pa.RecordBatch], Feed]) -> float:
    """Compare a model with `predict` on rows made of known, unknown and missing values; returns the largest difference.

    Raises FunnelcastError where it is larger than `TOLERANCE`, a size is fixed, or the file breaks a rule of ONNX.
    """
    onnx, runtime = (require_extra(name, "onnx", "exporting to ONNX") for name in ("onnx", "onnxruntime"))
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _require_dynamic(session, path)
    predictor, largest = Predictor(bundle), 0.0
    for count in BATCHES:
        rows = made_rows(bundle.encoder, count, seed=count)
        found = dict(zip(predictor.columns, session.run(None, feed_of(rows)), strict=True))
        for name, apart in differences(found, predictor.predict_arrow(pa.Table.from_batches([rows]))).items():
            largest = max(largest, float(apart.max()))
            if not apart.max() <= TOLERANCE:
                raise FunnelcastError(
                    f"{path.name} differs from predict by {apart.max():.1e} in log {name}, in row {apart.argmax()} of "
                    f"{count} made ones, and {TOLERANCE:.0e} is allowed; nothing was written: please report it, with "
                    "the versions of torch, onnxscript and onnxruntime"
                )
    return largest


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """By column (N,) how far log-probabilities are apart, over the largest of the row where that is beyond 1. Two
    probabilities that are both 0 are alike."""
    with np.errstate(divide="ignore"):
        ours, theirs = ({name: np.log(values) for name, values in each.items()} for each in (expected, found))
    finite = np.stack([np.where(np.isfinite(log), np.abs(log), 0) for log in ours.values()])
    scale = np.maximum(1, finite.max(0))
    return {name: np.where(log == theirs[name], 0, np.abs(log - theirs[name]) / scale) for name, log in ours.items()}


def _require_dynamic(session: Any, path: Path) -> None:
    """Names stand for sizes that are free."""
    for tensor in (*session.get_inputs(), *session.get_outputs()):
        if not isinstance(tensor.shape[0], str):
            raise FunnelcastError(
                f"this version of torch fixed {path.name} to {tensor.shape[0]} rows of {tensor.name!r}; install "
                "another one, 2.8 or newer"
            )
