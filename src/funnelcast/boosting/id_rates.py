"""Rates and counts of ids, as trees and baselines read them: those of a training row come from other folds alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.categories import Category, ListIds, field_categories, list_categories
from funnelcast.data.encoder import InputSpec
from funnelcast.data.statistics import Tally, Target
from funnelcast.training.statistics import ALL_ROWS, add_up


@dataclass(frozen=True)
class IdRates:
    """By feature, what training rows say of its ids, for models that read rates.

    Id 0 stands for unknown and missing ones: its rate is the prior, that of all rows, as is that of an id which no row
    holds; its count is 0.
    """

    rates: dict[str, NDArray[np.float32]]
    """(K, ids, T): rate of every step, smoothed; K is the number of folds, or 1 for rows that training did not see."""
    counts: dict[str, NDArray[np.float32]]
    """(ids,): how often an id occurs."""

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Everything by name."""
        rates = {f"{name}.rates": values for name, values in self.rates.items()}
        return rates | {f"{name}.counts": values for name, values in self.counts.items()}

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        safetensors.numpy.save_file(self.arrays(), path)

    @classmethod
    def load(cls, path: Path) -> IdRates:
        """What `save` wrote."""
        found = safetensors.numpy.load_file(path)
        names = [name.removesuffix(".rates") for name in found if name.endswith(".rates")]
        return cls({n: found[f"{n}.rates"] for n in names}, {n: found[f"{n}.counts"] for n in names})


def fit_id_rates(
    inputs: InputSpec,
    names: Sequence[str],
    train: Batch,
    rows: NDArray[np.int64],
    folds: NDArray[np.uint8],
    given: tuple[int, ...],
    smoothing: float,
) -> tuple[IdRates, IdRates]:
    """Rates for rows that training does not see, and for the training rows, a table per fold.

    `names`: of fields and lists; `rows` (n,): which of `train` count, each by its weight; `folds` (N,): of its rows;
    `given`: as for `step_rows`; `smoothing` > 0: weight of the rows that every id starts with, at the rate of all rows.
    """
    known: dict[str, Category | ListIds] = {**field_categories(inputs), **list_categories(inputs)}
    targets = [Target(step, parent) for step, parent in enumerate(given)]
    tallies = add_up({name: known[name] for name in names}, targets, train, rows, folds)
    kept = {name: tallies[name].whole().rows[0].astype(np.float32) for name in names}
    whole = {name: tally.whole() for name, tally in tallies.items()}
    others = {name: tally.of_other_folds() for name, tally in tallies.items()}
    return IdRates(_rates(whole, smoothing), kept), IdRates(_rates(others, smoothing), kept)


def _rates(tallies: dict[str, Tally], smoothing: float) -> dict[str, NDArray[np.float32]]:
    """Smoothed (K, ids, T), by feature; an unknown id has the rate of all rows."""
    everyone = tallies[ALL_ROWS]
    prior = np.divide(
        everyone.reached, everyone.observed, out=np.zeros_like(everyone.reached), where=everyone.observed > 0
    )
    rates = {}
    for name, own in tallies.items():
        smoothed = (own.reached + smoothing * prior) / (own.observed + smoothing)
        smoothed[:, :1] = prior
        rates[name] = smoothed.astype(np.float32)
    del rates[ALL_ROWS]
    return rates
