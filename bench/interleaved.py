"""Work, its floor and its rivals, interleaved by a fraction of a second: machines change their speed within seconds.

A spell of work is held against the spells of the floor before and after it; what counts is the median over turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.floor import Floor
from bench.rival import Rival
from funnelcast.data.columns import Columns
from funnelcast.evaluation.score import score
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import LossWeights
from funnelcast.training.stage_run import Plan
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer

SPELL = 0.25
"""Seconds."""
PRECISIONS: tuple[Precision, ...] = ("float32",) if why_no_bfloat16() else ("float32", "bfloat16")
"""Those that this processor multiplies."""


@dataclass
class InterleavedRates:
    """Rows/s of work, and of the floor before each and after the last one; after the first turn, which warms up,
    rivals have a spell in each until they are done."""

    floor: Floor
    rivals: Sequence[Rival] = ()
    rates: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floors.append(self.floor.rate(SPELL))

    def add(self, rate: float) -> None:
        """A spell of work, of the floor, and of each rival."""
        self.rates.append(rate)
        self.floors.append(self.floor.rate(SPELL))
        for rival in self.rivals if len(self.rates) > 1 else ():
            rival.spell(SPELL)

    def enough(self, turns: int) -> bool:
        """Whether there were so many, and rivals are done."""
        return len(self.rates) > turns and all(rival.is_done for rival in self.rivals)

    def found(self) -> dict[str, Any]:
        """Medians; and of the turns that each rival had, means of work and of the floor."""
        floors = [(before + after) / 2 for before, after in zip(self.floors[1:], self.floors[2:], strict=False)]
        shares = sorted(rate / floor for rate, floor in zip(self.rates[1:], floors, strict=True))
        quarter = len(shares) // 4
        return {
            "rows_per_s": median(self.rates[1:]),
            "floor": median(floors),
            "share": median(shares),
            "middle half": (shares[quarter], shares[-1 - quarter]),
            "beside": [
                {"ours": mean(self.rates[1 : 1 + rival.spells]), "floor": mean(floors[: rival.spells])}
                for rival in self.rivals
            ],
        }


class _EnoughError(Exception):
    """There were so many turns as were requested."""


def training(
    model: FunnelModel, loss_weights: LossWeights, funnel: Funnel, plan: Plan, rows: Columns, dev: Columns, turns: int,
    floor: Floor, rivals: Sequence[Rival] = (),
) -> dict[str, Any]:  # fmt: skip
    """Of the trainer's epochs, which pause for the floor; the plan's stages are replaced by one of enough of them."""
    plan = replace(plan, stages=(Stage(epochs=1000, patience=1000),))
    found, rows_done, seconds, before, last = InterleavedRates(floor, rivals), 0, 0.0, 0, 0.0

    def on_progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        nonlocal rows_done, seconds, before, last
        now = time.perf_counter()
        if done > before:  # and not the first batch of an epoch, before which the last one was measured
            rows_done, seconds = rows_done + done - before, seconds + now - last
        if seconds >= SPELL:
            found.add(rows_done / seconds)
            rows_done, seconds, now = 0, 0.0, time.perf_counter()
        before, last = done, now
        if found.enough(turns):
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder, suppress(_EnoughError):
        Trainer(model, loss_weights, funnel, plan, Path(folder), on_progress).run(rows, dev)
    return found.found()


def scoring(
    model: FunnelModel, rows: Columns, turns: int, floor: Floor, workers: int = 1, precision: Precision = "float32",
    rivals: Sequence[Rival] = (),
) -> dict[str, Any]:  # fmt: skip
    """From columns to probabilities."""
    found = InterleavedRates(floor, rivals)
    while not found.enough(turns):
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < SPELL:
            score(model, rows, precision=precision, workers=workers)
            done += len(rows)
        found.add(done / (time.perf_counter() - started))
    return found.found()
