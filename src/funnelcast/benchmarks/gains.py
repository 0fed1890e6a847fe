"""How much better than another a model is, and how significantly: over rows and seeds, or over random splits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.benchmarks.model_run import scores_of
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.splits import TEST_SHARE
from funnelcast.benchmarks.suite import Suite
from funnelcast.data.table import Table
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.repeated_splits import resampled_interval
from funnelcast.evaluation.rows import Floats
from funnelcast.evaluation.seeds import Measured, Resampling, over_seeds
from funnelcast.evaluation.significance import holm, p_value, smallest_of
from funnelcast.schema.funnel import Output

Gain = dict[str, Any]


def gains_of(
    suite: Suite, by_model: Mapping[str, Sequence[ModelRun]], bases: Sequence[str]
) -> tuple[dict[str, dict[str, dict[str, Gain]]], dict[str, dict[str, Any]]]:
    """AUC over others', with p values that are corrected over the models.

    Gains over each of `bases` by base, model and output; and by output the model with the highest mean AUC, and the
    gains of the others over it, which are not above 0. Unless that is the reference, chosen before, it shows in these
    same scores: its p values then count all others (Bonferroni, as Hsu's 1984 comparisons with the best), by which the
    model that truly is the best is told to be lower at most α of the time, whichever it is. A model without a finished
    run has no part in it.
    """
    known = {model: runs for model, runs in by_model.items() if runs}
    over: dict[str, dict[str, dict[str, Gain]]] = {base: {} for base in bases}
    best = dict[str, dict[str, Any]]()
    if not known:
        return over, best
    table = Table.open(next(iter(known.values()))[0].table)
    for output in table.schema.funnel.outputs:
        pairs = _Splits(output, known) if suite.splits is not None else _Rows(output, known, table)
        for base in bases:
            for model, gain in _corrected(pairs.gains(base)).items():
                over[base].setdefault(model, {})[output.name] = gain
        if (top := pairs.top()) is not None:
            comparisons = None if top == suite.base else len(known) - 1
            best[output.name] = {"model": top, "others": _corrected(pairs.gains(top), comparisons)}
    return over, best


class _Pairs(ABC):
    """Any two models on one output."""

    def __init__(self, output: Output, known: Mapping[str, Sequence[ModelRun]]) -> None:
        self.aucs = {model: {run.seed: _auc(run, output) for run in runs} for model, runs in known.items()}
        """By model and seed (or split)."""

    @abstractmethod
    def gain(self, model: str, base: str) -> Gain:
        """Of one over the other."""

    def shared(self, model: str, base: str) -> tuple[Floats, Floats]:
        """AUCs of the seeds (or splits) that both have."""
        own, others = self.aucs[model], self.aucs[base]
        both = sorted(own.keys() & others.keys())
        return np.array([own[seed] for seed in both], np.float64), np.array([others[seed] for seed in both], np.float64)

    def gains(self, base: str) -> dict[str, Gain]:
        """Of all other models over one; none where that one has no runs."""
        return {model: self.gain(model, base) for model in self.aucs if model != base} if base in self.aucs else {}

    def top(self) -> str | None:
        """The model with the highest mean AUC."""
        means = {model: float(np.mean(list(aucs.values()))) for model, aucs in self.aucs.items()}
        known = [model for model, mean in means.items() if not math.isnan(mean)]
        return max(known, key=lambda model: means[model], default=None)


class _Splits(_Pairs):
    def gain(self, model: str, base: str) -> Gain:
        own, others = self.shared(model, base)
        return _gain(resampled_interval(own - others, TEST_SHARE))


class _Rows(_Pairs):
    def __init__(self, output: Output, known: Mapping[str, Sequence[ModelRun]], table: Table) -> None:
        """Of a table's test rows."""
        super().__init__(output, known)
        rows = table.part("test")
        assert rows.labels is not None
        where = sample_space(output, rows.labels)
        weight = None if rows.weight is None else np.asarray(rows.weight[where], np.float64)
        self._rows = Resampling(rows.labels[where, output.step], weight)
        self._measured: dict[str, Measured] = {
            model: self._rows.measure(np.stack([_scores(run, output, where) for run in runs]))
            for model, runs in known.items()
        }

    def gain(self, model: str, base: str) -> Gain:
        both = self._rows.difference(self._measured[model], self._measured[base])
        return _gain(both) | {"seeds": _interval(over_seeds(*self.shared(model, base)))}


def _corrected(gains: Mapping[str, Gain], comparisons: int | None = None) -> dict[str, Gain]:
    """With p values for all of these gains (Holm), or for so many comparisons (Bonferroni)."""
    p = np.array([gain["p"] for gain in gains.values()], np.float64)
    adjusted = holm(p) if comparisons is None else np.minimum(1.0, comparisons * p)
    return {n: gain | {"p_adjusted": _json(float(p))} for (n, gain), p in zip(gains.items(), adjusted, strict=True)}


def _gain(found: Interval) -> Gain:
    return {**_interval(found), "p": _json(p_value(found)), "smallest": _json(smallest_of(found))}


def _auc(run: ModelRun, output: Output) -> float:
    found = run.read()["metrics"][output.name]["auc"]["estimate"]
    return math.nan if found is None else float(found)


def _scores(run: ModelRun, output: Output, where: NDArray[np.bool_]) -> NDArray[Any]:
    """Of the rows that the output is measured over."""
    log_p = scores_of(run.folder)[where]
    if output.given is None:
        return log_p[:, output.step]
    return conditional(log_p[:, output.step], log_p[:, output.given])[0]


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: _json(value) for name, value in interval._asdict().items()}


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
