"""A model against the best baseline of each output: paired differences over the same rows, and what they say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.evaluation.auc import Interval, auc_difference
from funnelcast.evaluation.funnel import FunnelMetrics, conditional, sample_space
from funnelcast.evaluation.paired import loss_difference
from funnelcast.experiments.formatting import short, signed
from funnelcast.schema.funnel import Funnel, Output

Reached = tuple[NDArray[Any], NDArray[Any]]
FIGURES = ("auc", "log_loss", "calibration_error", "observed_over_predicted")


def compared(
    funnel: Funnel,
    rows: Columns,
    model: Reached,
    reach: Mapping[str, Reached],
    metrics: Mapping[str, FunnelMetrics],
    dev: Mapping[str, FunnelMetrics],
) -> dict[str, dict[str, Any]]:
    """By output: `figures` by baseline, the `best` by dev, `auc_difference` and `log_loss_difference` of the model and
    that one with their 95 % intervals, and what it `says` where the model is not above it."""
    found = {}
    for output in funnel.outputs:
        best = best_on_dev(dev, output.name)
        figures = {name: _figures(own, output.name) for name, own in metrics.items()}
        auc, loss = differences(output, rows, model, reach[best])
        found[output.name] = {
            "figures": figures,
            "best": best,
            "auc_difference": _json(auc),
            "log_loss_difference": _json(loss),
            "says": list(says(auc, loss, best)),
        }
    return found


def best_on_dev(dev: Mapping[str, FunnelMetrics], output: str) -> str:
    """The baseline of the highest AUC, of the lowest log-loss where there is none."""

    def value(name: str) -> tuple[float, float]:
        metrics = dev[name].outputs[output]
        auc, loss = metrics.auc.estimate, metrics.log_loss
        return (-math.inf if math.isnan(auc) else auc), (-math.inf if math.isnan(loss) else -loss)

    return max(dev, key=value)


def differences(output: Output, rows: Columns, a: Reached, b: Reached) -> tuple[Interval, Interval]:
    """AUC and log-loss of a minus b over the rows of an output's sample space."""
    assert rows.labels is not None
    space = sample_space(output, rows.labels)
    y = (rows.labels[space, output.step] == 1).astype(np.uint8)
    weight = None if rows.weight is None else rows.weight[space]
    first, second = (_of_output(output, space, reach) for reach in (a, b))
    return auc_difference(y, first[0], second[0], weight), loss_difference(y, first, second, weight)


def _of_output(output: Output, space: NDArray[np.bool_], reach: Reached) -> Reached:
    log_p, log_q = (each[space, output.step] for each in reach)
    if output.given is None:
        return log_p, log_q
    given_p, given_q, _ = conditional(log_p, reach[0][space, output.given])
    return given_p, given_q


def _figures(metrics: FunnelMetrics, output: str) -> dict[str, Any]:
    return {name: value for name, value in metrics.outputs[output].as_dict().items() if name in FIGURES}


def _json(interval: Interval) -> dict[str, Any]:
    values = interval._asdict()
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def says(auc: Interval, loss: Interval, best: str) -> Iterator[str]:
    """Where the intervals are known and the model is not above the baseline."""
    if not math.isnan(auc.low) and auc.low <= 0:
        how = "below" if auc.high < 0 else "not shown to be above"
        yield f"AUC is {how} that of {best}: {_signed(auc, 4)}"
    if not math.isnan(loss.low) and loss.high >= 0:
        how = "worse" if loss.low > 0 else "not shown to be better"
        yield f"log-loss is {how} than that of {best}: {_signed(loss, 5)}"


def _signed(interval: Interval, digits: int) -> str:
    """`+.0352 [+.0300, +.0404]`."""
    low, high = (signed(value) if digits == 4 else _long(value) for value in interval[1:3])
    return f"{signed(interval.estimate) if digits == 4 else _long(interval.estimate)} [{low}, {high}]"


def _long(value: float) -> str:
    return ("+" if value >= 0 else "−") + short(abs(value), 5)
