"""A feature that predicts a step too well by itself: its value, or the rates of its values in other rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Ragged
from funnelcast.data_checks.column import Column
from funnelcast.data_checks.finding import ALONE, Finding, Severity
from funnelcast.data_checks.formatting import output_name
from funnelcast.data_checks.sample import Sample
from funnelcast.evaluation.auc import TOO_FEW, Interval, auc_interval
from funnelcast.evaluation.funnel import sample_space
from funnelcast.schema.dataset import Schema
from funnelcast.schema.funnel import Funnel, Output

TOO_GOOD, TOO_GOOD_LOW = 0.99, 0.95
"""AUC above which a feature is reported, and the least low end of its interval, as few positives give any AUC. Honest
features reach .978: in Census the family status tells who never married."""
CERTAIN, CERTAIN_LOW = 0.999, 0.98
"""The same for an error."""
FAR, FAR_LOW = 3.0, 0.95
"""A feature below them is reported when its low end is this high, and it parts the classes so many times as far as the
next best feature: by the distance of two normal distributions of that AUC."""


@dataclass(frozen=True)
class Alone:
    """How well a feature alone tells one output."""

    feature: str
    output: Output
    how: str
    auc: Interval
    rows: int
    positives: int

    @property
    def low(self) -> float:
        return self.auc.low

    @property
    def is_too_good(self) -> bool:
        return self.auc.estimate >= TOO_GOOD and self.low >= TOO_GOOD_LOW

    @property
    def is_certain(self) -> bool:
        return self.auc.estimate >= CERTAIN and self.low >= CERTAIN_LOW


def measure_alone(column: Column, outputs: tuple[Output, ...]) -> list[Alone]:
    """Of each output that has rows enough, the best way to score: fitted on every other stretch of the training rows,
    measured on the rest."""
    found = (_best(column, output) for output in outputs)
    return [each for each in found if each is not None]


def too_few(sample: Sample, funnel: Funnel) -> list[str]:
    """The outputs that are not measured for want of rows of a class."""
    return [
        f"{output_name(output, funnel)} has under {TOO_FEW} rows of a class in half of the training rows"
        for output in funnel.outputs
        if _halves(sample, output) is None
    ]


def _halves(sample: Sample, output: Output) -> tuple[Rows, Rows] | None:
    """The rows that rates are taken from, and those that are scored; none where a class has too few."""
    space, reached = sample_space(output, sample.labels), sample.labels[:, output.step] == 1
    fit, held = (np.flatnonzero(space & (sample.stretch % 2 == half)) for half in (0, 1))
    classes = (reached[rows] == is_reached for rows in (fit, held) for is_reached in (True, False))
    return None if min(np.count_nonzero(each) for each in classes) < TOO_FEW else (fit, held)


def _best(column: Column, output: Output) -> Alone | None:
    halves, reached = _halves(column.sample, output), column.sample.labels[:, output.step] == 1
    if halves is None:
        return None
    fit, held = halves
    found = [(how, _auc(reached[held], values)) for how, values in scores(column, fit, reached[fit], held)]
    how, auc = max(found, key=lambda each: each[1].estimate)
    return Alone(column.name, output, how, auc, len(held), int(reached[held].sum()))


def _auc(labels: NDArray[np.bool_], values: NDArray[np.float64]) -> Interval:
    """In whichever direction is the better."""
    found = auc_interval(labels, values)
    if found.estimate >= 0.5:
        return found
    return Interval(1 - found.estimate, 1 - found.high, 1 - found.low, found.std_error, found.note)


def too_good(measured: list[Alone], schema: Schema) -> Iterator[Finding]:
    """A finding per feature that is too good for any output, by the output that it tells best."""
    by_feature: dict[str, list[Alone]] = {}
    for each in measured:
        by_feature.setdefault(each.feature, []).append(each)
    for own in by_feature.values():
        best = max(own, key=lambda each: each.auc.estimate)
        if best.is_too_good:
            yield _finding(best, "error" if best.is_certain else "warning", schema)
            continue
        for each in own:
            if (next_best := _next_best(each, measured, schema)) and _is_far(each, next_best):
                yield _finding(each, "warning", schema, next_best)
                break


def _next_best(found: Alone, measured: list[Alone], schema: Schema) -> Alone | None:
    """Among features of other columns."""
    others = [
        each
        for each in measured
        if each.output == found.output
        and not each.is_too_good
        and schema.column(each.feature) != schema.column(found.feature)
    ]
    return max(others, key=lambda each: each.auc.estimate, default=None)


def _is_far(found: Alone, other: Alone) -> bool:
    return found.low >= FAR_LOW and _distance(found.low) >= FAR * _distance(max(other.auc.estimate, 0.55))


def _distance(auc: float) -> float:
    return NormalDist().inv_cdf(min(auc, 1 - 1e-9))


def _finding(found: Alone, severity: Severity, schema: Schema, next_best: Alone | None = None) -> Finding:
    name = output_name(found.output, schema.funnel)
    beside = f"; the next best feature, {next_best.feature}, has {next_best.auc.estimate:.3f}" if next_best else ""
    return Finding(
        ALONE,
        found.feature,
        severity,
        f"its {found.how} alone ranks {name} with an AUC of {found.auc.estimate:.4f} "
        f"({found.auc.low:.3f} – {found.auc.high:.3f}) on {found.rows:,} training rows, {found.positives:,} of which "
        f"reached it{beside}",
        "find out when and from what it is made: what is made of the outcome, or of rows that came later, must go",
    )


Rows = NDArray[np.int64]
STRENGTH = 10.0
"""A value's rate is drawn to that of all rows as by so many of them."""


def scores(
    column: Column, fit: Rows, labels: NDArray[np.bool_], held: Rows
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """How rows `held` (h,) are scored, and their scores; rates are those of the rows `fit` (f,) with `labels` (f,)."""
    if column.numbers is not None:
        yield "length" if column.lists else "value", column.numbers[held]
    codes = column.binned
    yield "rate of each value", _rates(codes[fit], labels, int(codes.max()) + 1)[codes[held]]
    if column.lists is not None and len(column.lists.ids):
        lists = column.lists.take(fit)
        of_ids = np.repeat(labels, np.diff(lists.offsets))
        rates = _rates(lists.ids, of_ids, int(column.lists.ids.max()) + 1)
        yield from _of_lists(column.lists.take(held), rates, float(labels.mean()))


def _rates(codes: NDArray[np.int32] | Rows, labels: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """(count,) the rate of each code, drawn to that of all."""
    rate = float(labels.mean()) if len(labels) else 0.0
    rows, reached = np.bincount(codes, minlength=count), np.bincount(codes[labels], minlength=count)
    return np.asarray((reached + STRENGTH * rate) / (rows + STRENGTH))


def _of_lists(lists: Ragged, rates: NDArray[np.float64], empty: float) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Mean and highest rate of the ids of each list; `empty` of one without."""
    each, lengths = rates[lists.ids], np.diff(lists.offsets)
    starts = lists.offsets[:-1][lengths > 0]
    for how, ufunc, shares in (("mean rate of its ids", np.add, lengths), ("highest rate of its ids", np.maximum, 1)):
        found = np.full(len(lengths), empty)
        if len(starts):
            found[lengths > 0] = ufunc.reduceat(each, starts)
            found[lengths > 0] /= shares[lengths > 0] if isinstance(shares, np.ndarray) else shares
        yield how, found
