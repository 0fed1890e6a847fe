"""Drift of the rates of steps between train and another part."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from funnelcast.data_checks.finding import DRIFT, Finding
from funnelcast.data_checks.formatting import output_name, percent, percent_range
from funnelcast.data_checks.sample import Sample, Share, by_stretches
from funnelcast.evaluation.auc import TOO_FEW
from funnelcast.evaluation.funnel import sample_space
from funnelcast.schema.funnel import Funnel, Output

TIMES = 1.25
"""Ratio of the odds of a step in the two parts that is reported."""
STANDARD_ERRORS = 5.0
"""A difference of more standard errors than these is a finding."""
FEWEST = 8
"""Stretches of each part, without which the error of a rate is not known."""


def rate_drift(train: Sample, other: Sample, funnel: Funnel) -> Iterator[Finding]:
    """Of the share of rows that reach each step, over all rows or else given the step before."""
    steps: set[int] = set()
    for output in funnel.outputs:
        before, after = _rate(train, output), _rate(other, output)
        if before is not None and after is not None and output.step not in steps and _differ(before, after):
            steps.add(output.step)
            yield _finding(output_name(output, funnel), other.part, before, after)


def _rate(sample: Sample, output: Output) -> Share | None:
    """None where one class has too few rows."""
    space, reached = sample_space(output, sample.labels), sample.labels[:, output.step] == 1
    positives = np.count_nonzero(space & reached)
    if min(positives, np.count_nonzero(space) - positives) < TOO_FEW or sample.stretches < FEWEST:
        return None
    return by_stretches(sample, reached, space)


def _differ(before: Share, after: Share) -> bool:
    is_significant = abs(after.value - before.value) > STANDARD_ERRORS * math.hypot(before.error, after.error)
    return is_significant and abs(math.log(_odds(after.value) / _odds(before.value))) >= math.log(TIMES)


def _odds(share: float) -> float:
    return share / (1 - share)


def _finding(name: str, part: str, before: Share, after: Share) -> Finding:
    rates = [f"{percent(rate.value)} ({percent_range(rate.low, rate.high)})" for rate in (before, after)]
    return Finding(
        DRIFT,
        name,
        "warning",
        f"it is reached in {rates[0]} of the training rows and in {rates[1]} of the {part} rows",
        "look whether the labels were gathered alike and for as long; probabilities will be off by that much until the "
        "model is trained on such rows",
    )
