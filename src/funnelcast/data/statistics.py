"""Target statistics: how often rows with an id reach each step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """By feature, what training rows say of its ids.

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
    def load(cls, path: Path) -> Statistics:
        """What `save` wrote."""
        found = safetensors.numpy.load_file(path)
        names = [name.removesuffix(".rates") for name in found if name.endswith(".rates")]
        return cls({n: found[f"{n}.rates"] for n in names}, {n: found[f"{n}.counts"] for n in names})
