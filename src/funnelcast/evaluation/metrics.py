"""What is measured of one output: ranking, likelihood and calibration of its probabilities."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from funnelcast.evaluation.auc import Interval, auc_interval
from funnelcast.evaluation.rows import Array, Floats, check_rows, cumulative, midpoints, tie_starts


@dataclass(frozen=True)
class Metrics:
    """The metrics of one output over the `rows` of its sample space; NaN where one is undefined."""

    rows: int
    positives: int
    auc: Interval
    log_loss: float
    normalised_entropy: float
    calibration_error: float
    observed_over_predicted: float

    def as_dict(self) -> dict[str, object]:
        """Values as JSON has them: `auc` a dictionary of its own, None for what is not a finite number."""
        values = asdict(self) | {"auc": {name: _json(value) for name, value in self.auc._asdict().items()}}
        return {name: _json(value) for name, value in values.items()}


def measure(labels: Array, log_p: Array, log_q: Array, weights: Array | None = None) -> Metrics:
    """All metrics of one output.

    labels (N,) in {0, 1}; log_p, log_q (N,) natural logs of the probability of a 1 and of a 0; weights (N,) >= 0.
    No rows are legal: every metric is then NaN and `auc.note` is "no rows". Raises ValueError as `auc` does.
    """
    p = np.exp(log_p, dtype=np.float64)
    return Metrics(
        rows=len(labels),
        positives=int(np.count_nonzero(labels)),
        auc=auc_interval(labels, log_p, weights),
        log_loss=log_loss(labels, log_p, log_q, weights),
        normalised_entropy=normalised_entropy(labels, log_p, log_q, weights),
        calibration_error=expected_calibration_error(labels, p, weights),
        observed_over_predicted=observed_over_predicted(labels, p, weights),
    )


def log_loss(labels: Array, log_p: Array, log_q: Array, weights: Array | None = None) -> float:
    """Weighted mean of −log of the probability given to what happened, in nats, >= 0; NaN without rows.

    Arguments and errors as for `measure`. Made from the logs, so finite wherever they are.
    """
    y, w = check_rows(labels, log_p, log_q, weights=weights)
    return -_mean(np.where(y, log_p, log_q).astype(np.float64), w)


def normalised_entropy(labels: Array, log_p: Array, log_q: Array, weights: Array | None = None) -> float:
    """Log-loss over that of always predicting the mean label rate (He et al. 2014); 1 is no better than that.

    Arguments and errors as for `measure`. NaN if there is one class only, whose rate has no entropy.
    """
    y, w = check_rows(labels, log_p, log_q, weights=weights)
    rate = _mean(y.astype(np.float64), w)
    if not (np.any(w[y]) and np.any(w[~y])):
        return math.nan
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
    return log_loss(labels, log_p, log_q, weights) / entropy


def expected_calibration_error(labels: Array, p: Array, weights: Array | None = None, bins: int = 20) -> float:
    """Mean over bins of |observed − predicted rate|, weighted by the bin's mass (Naeini et al. 2015), in [0, 1].

    labels (N,) in {0, 1}; p (N,) probabilities; weights (N,) >= 0. Bins are of equal mass (Nguyen & O'Connor 2015): a
    value of p belongs to the bin its mid-rank falls in, so equal ones are never parted and a constant predictor has
    one bin. NaN without rows. Raises ValueError as `auc` does.
    """
    y, w = check_rows(labels, p, weights=weights)
    if not np.any(w):
        return math.nan
    order = np.argsort(p)
    cum = cumulative(w[order])
    rank = midpoints(cum, tie_starts(p[order])) / cum[-1]
    of_bin = np.minimum((rank * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(of_bin, weights=(w * (y - p.astype(np.float64)))[order])
    return float(np.abs(gaps).sum() / cum[-1])


def observed_over_predicted(labels: Array, p: Array, weights: Array | None = None) -> float:
    """Sum of labels over sum of probabilities: 1 if calibrated in the large, above 1 if the model predicts too little.

    labels (N,) in {0, 1}; p (N,) probabilities; weights (N,) >= 0. NaN if nothing is predicted. Raises ValueError as
    `auc` does.
    """
    y, w = check_rows(labels, p, weights=weights)
    predicted = float(np.sum(w * p))
    return float(np.sum(w[y])) / predicted if predicted else math.nan


def _mean(values: Floats, w: Floats) -> float:
    return float(np.average(values, weights=w)) if np.any(w) else math.nan


def _json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
