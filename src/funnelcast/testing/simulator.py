"""Data with a known process, so that the best reachable figure is known too.

Eight categorical fields of ten values, uniform and independent. With x_f the value of field f,

    logit p(click)              = b_c + s · (Σ_f a_f[x_f] + Σ_(f,g) A_fg[x_f, x_g])
    logit p(conversion | click) = b_v + s · (the same form, part of its tables shared with click's)

where every A_fg is a product of centred factors, so that an additive model sees nothing of it. On noise, labels are
drawn with the same rates from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema

FIELDS, VALUES = 8, 10
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (1, 2), (5, 6))
"""Fields that interact; each step takes all of them, half of the tables are common to both."""
LOGIT_SCALE = 1.3
"""Standard deviation of the logits."""
RATE = 0.3
ADDITIVE_SHARE = 0.5
"""Share of the logit's variance that an additive model can see."""


@dataclass(frozen=True)
class Sample:
    """Rows drawn from the process."""

    ids: NDArray[np.int32]  # (N, FIELDS), 1 … VALUES
    labels: NDArray[np.uint8]  # (N, 2): click, conversion
    p_click: NDArray[np.float64]  # (N,)
    p_conversion_given_click: NDArray[np.float64]  # (N,)


class Simulator:
    """The process of one seed."""

    def __init__(self, seed: int = 0, *, noise: bool = False) -> None:
        """`noise`: probabilities are constant, so that nothing can be learned."""
        rng = np.random.default_rng([seed, 1])
        self.seed = seed
        self._scale = 0.0 if noise else LOGIT_SCALE
        shared = _tables(rng)
        self._steps = [_mixed(shared, _tables(rng)) for _ in range(2)]
        pilot = rng.integers(0, VALUES, (100_000, FIELDS))
        self._offsets = [_offset(self._scale * _logit(step, pilot)) for step in self._steps]

    def sample(self, rows: int, part: int = 0) -> Sample:
        """`rows` rows; another `part` is another independent sample."""
        rng = np.random.default_rng([self.seed, 2, part])
        x = rng.integers(0, VALUES, (rows, FIELDS))
        p_click, p_conversion = (
            _sigmoid(offset + self._scale * _logit(step, x))
            for step, offset in zip(self._steps, self._offsets, strict=True)
        )
        click = rng.random(rows) < p_click
        conversion = click & (rng.random(rows) < p_conversion)
        labels = np.stack([click, conversion], 1).astype(np.uint8)
        return Sample((x + 1).astype(np.int32), labels, p_click, p_conversion)

    def write_table(self, folder: Path, train: int = 400_000, dev: int = 50_000, test: int = 200_000) -> Table:
        """A prepared table of independent parts, with the true probabilities as side columns."""
        with new_folder(folder) as partial:
            writer = TableWriter(partial)
            for part, (name, rows) in enumerate({"train": train, "dev": dev, "test": test}.items()):
                drawn = self.sample(rows, part)
                columns = Columns(drawn.ids, np.empty((rows, 0), np.float32), labels=drawn.labels)
                writer.part(name).append(columns, _truth(drawn))
            writer.finish(_encoder(), {})
        return Table.open(folder)


_Tables = tuple[NDArray[np.float64], list[NDArray[np.float64]]]


def _tables(rng: np.random.Generator) -> _Tables:
    """Additive effects (FIELDS, VALUES) and a (VALUES, VALUES) table per pair, centred, of variance 1 in all each."""
    additive = _centred(rng.normal(size=(FIELDS, VALUES))) / np.sqrt(FIELDS)
    factors = _centred(rng.normal(size=(len(PAIRS), 2, VALUES)))
    return additive, [np.outer(u, v) / np.sqrt(len(PAIRS)) for u, v in factors]


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and standard deviation 1 along the last axis."""
    values = values - values.mean(-1, keepdims=True)
    return np.asarray(values / values.std(-1, keepdims=True))


def _mixed(shared: _Tables, own: _Tables) -> _Tables:
    """Every other pair's table from `shared`; additive effects half from each."""
    additive = (shared[0] + own[0]) / np.sqrt(2)
    return additive, [s if i % 2 else o for i, (s, o) in enumerate(zip(shared[1], own[1], strict=True))]


def _logit(step: _Tables, x: NDArray[np.int64]) -> NDArray[np.float64]:
    additive, pairs = step
    plain = sum(additive[f, x[:, f]] for f in range(FIELDS))
    crossed = sum(table[x[:, f], x[:, g]] for (f, g), table in zip(PAIRS, pairs, strict=True))
    return np.asarray(np.sqrt(ADDITIVE_SHARE) * plain + np.sqrt(1 - ADDITIVE_SHARE) * crossed)


def _offset(logits: NDArray[np.float64]) -> float:
    """The constant that makes the mean probability RATE, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < RATE else (low, middle)
    return low


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def _truth(drawn: Sample) -> pa.Table:
    return pa.table({"true_p_click": drawn.p_click, "true_p_conversion_given_click": drawn.p_conversion_given_click})


def _encoder() -> Encoder:
    names = [f"f{i}" for i in range(FIELDS)]
    schema = Schema.from_dict(
        {
            "name": "simulator",
            "funnel": "click; conversion after click",
            "features": dict.fromkeys(names, "categorical"),
        }
    )
    return Encoder(schema, {name: Vocabulary(pa.array(range(VALUES))) for name in names}, {})
