"""The work that all do: data, architecture, and how it is timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TASKS = ("click", "conversion")
EXPERT = [256, 128]
EXPERTS = 8
SHARED = OWN = 4
"""Experts of PLE."""
TOWER = [128, 16, 32]
"""Of the models with experts; a linear layer to 1 follows."""
FUNNEL_TOWER = [128, 64, 32]
"""Of ESMM and AITM, which have no experts."""
LEARNING_RATE = 1e-3
BATCH = 2048
TRAIN_SHARE = 0.8

VOCABULARIES = {
    "small": (20000, 98, 14, 3, 8, 4, 4, 3, 5, 40000, 6929, 26000, 10000, 5888, 10000, 5000, 3700, 4),
    "aliccp": (238635, 98, 14, 3, 8, 4, 4, 3, 5, 467298, 6929, 263942, 106399, 5888, 104830, 51878, 37148, 4),
}
"""Ids of 18 fields: Ali-CCP's, and a tenth of its large ones, which spares those that move all rows in each step."""
ZIPF = 1.05
CLICK_RATE, CONVERSION_RATE = 0.04, 0.05  # the second given a click


@dataclass(frozen=True)
class Data:
    """Rows."""

    ids: NDArray[np.int32]  # (N, F), below the vocabulary's size
    labels: NDArray[np.uint8]  # (N, 2)
    vocabulary: NDArray[np.int64]  # (F,)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def load(cls, path: Path) -> Data:
        """From what `make` wrote."""
        with np.load(path) as file:
            return cls(file["ids"], file["labels"], file["vocabulary"])

    def take(self, rows: slice | NDArray[np.int64]) -> Data:
        return Data(self.ids[rows], self.labels[rows], self.vocabulary)

    def split(self) -> tuple[Data, Data]:
        """To train on, and to test."""
        cut = int(len(self) * TRAIN_SHARE)
        return self.take(slice(cut)), self.take(slice(cut, None))

    def names(self) -> list[str]:
        return [f"f{i}" for i in range(len(self.vocabulary))]

    def columns(self) -> dict[str, NDArray[np.int32]]:
        """One array per field, as the peers' examples make from a data frame."""
        return {name: np.ascontiguousarray(self.ids[:, i]) for i, name in enumerate(self.names())}


def make(path: Path, rows: int, kind: str, seed: int = 0) -> None:
    """Zipf-distributed ids; click and conversion by logistic models with a weight per id."""
    rng = np.random.default_rng(seed)
    sizes = VOCABULARIES[kind]
    ids = np.stack([_zipf(rng, size, rows) for size in sizes], axis=1)
    logit = _logit(rng, ids, sizes)
    click = rng.random(rows) < _with_mean(logit, CLICK_RATE)
    bought = np.zeros(rows)
    bought[click] = _with_mean((0.5 * logit + _logit(rng, ids, sizes))[click], CONVERSION_RATE)
    labels = np.stack([click, click & (rng.random(rows) < bought)], axis=1).astype(np.uint8)
    np.savez(path, ids=ids, labels=labels, vocabulary=np.asarray(sizes, dtype=np.int64))


def _zipf(rng: np.random.Generator, size: int, rows: int) -> NDArray[np.int32]:
    """Ids below `size`, in no order of their frequency."""
    mass = np.arange(1, size + 1, dtype=np.float64) ** -ZIPF
    ranks = np.searchsorted(np.cumsum(mass) / mass.sum(), rng.random(rows))
    return rng.permutation(size).astype(np.int32)[np.minimum(ranks, size - 1)]


def _logit(rng: np.random.Generator, ids: NDArray[np.int32], sizes: Sequence[int]) -> NDArray[np.float64]:
    weights = [rng.normal(0, 1.3 / np.sqrt(len(sizes)), size) for size in sizes]
    logit: NDArray[np.float64] = np.sum([weight[ids[:, i]] for i, weight in enumerate(weights)], axis=0)
    return logit


def _with_mean(logit: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Probabilities of the shifted logit whose mean is `rate`, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-logit - middle))).mean() < rate else (low, middle)
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-logit - low))
    return probability


class Span(NamedTuple):
    """What a piece of work took."""

    wall: float  # s
    lost: float  # CPU seconds of the machine that others had, or its host


def timed(run: Callable[[], Any]) -> tuple[Span, Any]:
    """How long `run` takes, and what it gives."""
    busy, own, wall = _busy(), time.process_time(), time.perf_counter()
    result = run()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return Span(wall, max(0.0, _busy() - busy - own)), result


def _busy() -> float:
    """CPU seconds of all processes so far, and those that the host took; 0 where Linux does not tell."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, soft, steal = map(int, first)
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
