"""Work and its floor in turns of a fraction of a second: machines change their speed within seconds.

A spell of work is held against the spells of the floor before and after it; what counts is the median over turns.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.floor import Floor
from funnelcast.data.columns import Columns
from funnelcast.evaluation.score import score
from funnelcast.layers.mode import Precision
from funnelcast.models.network import FunnelModel
from funnelcast.schema.funnel import Funnel
from funnelcast.training.course import Plan
from funnelcast.training.losses import LossWeights
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer

SPELL = 0.25
"""Seconds."""


@dataclass
class Turns:
    """Rows/s of work, and of the floor before each and after the last one."""

    floor: Floor
    rates: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floors.append(self.floor.rate(SPELL))

    def add(self, rate: float) -> None:
        """A spell of work, and one of the floor."""
        self.rates.append(rate)
        self.floors.append(self.floor.rate(SPELL))

    def found(self) -> dict[str, Any]:
        """Medians; the first spell warms up and is left out."""
        floors = [(before + after) / 2 for before, after in zip(self.floors[1:], self.floors[2:], strict=False)]
        shares = sorted(rate / floor for rate, floor in zip(self.rates[1:], floors, strict=True))
        quarter = len(shares) // 4
        return {
            "rows_per_s": median(self.rates[1:]),
            "floor": median(floors),
            "share": median(shares),
            "middle half": (shares[quarter], shares[-1 - quarter]),
        }


class _EnoughError(Exception):
    """There were so many turns as were asked for."""


def training(
    model: FunnelModel, loss_weights: LossWeights, funnel: Funnel, plan: Plan, rows: Columns, dev: Columns, turns: int,
    floor: Floor,
) -> dict[str, Any]:  # fmt: skip
    """Of the trainer's epochs, which pause for the floor; the plan's stages are replaced by one of enough of them."""
    plan = replace(plan, stages=(Stage(epochs=1000, patience=1000),))
    found, rows_done, seconds, before, last = Turns(floor), 0, 0.0, 0, 0.0

    def on_progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        nonlocal rows_done, seconds, before, last
        now = time.perf_counter()
        if done > before:  # and not the first batch of an epoch, before which the last one was measured
            rows_done, seconds = rows_done + done - before, seconds + now - last
        if seconds >= SPELL:
            found.add(rows_done / seconds)
            rows_done, seconds, now = 0, 0.0, time.perf_counter()
        before, last = done, now
        if len(found.rates) > turns:
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder, suppress(_EnoughError):
        Trainer(model, loss_weights, funnel, plan, Path(folder), on_progress).run(rows, dev)
    return found.found()


def scoring(
    model: FunnelModel, rows: Columns, turns: int, floor: Floor, workers: int = 1, precision: Precision = "float32"
) -> dict[str, Any]:
    """From columns to probabilities."""
    found = Turns(floor)
    while len(found.rates) <= turns:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < SPELL:
            score(model, rows, precision=precision, workers=workers)
            done += len(rows)
        found.add(done / (time.perf_counter() - started))
    return found.found()
